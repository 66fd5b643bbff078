from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor

from gnnrec.errors import UnsupportedError
from gnnrec.evaluation.validation import ValidationPairs
from gnnrec.graph.build import GraphConfig, build_graph
from gnnrec.modalities.features import Features
from gnnrec.nn.message_graph import MessageGraph
from gnnrec.nn.model_config import ModelConfig
from gnnrec.rankers import settling
from gnnrec.rankers.base import RankerState, RankingTask
from gnnrec.rankers.calibration import Predicted, best_new_item_offset
from gnnrec.rankers.fold_in import fold_in_by_least_squares
from gnnrec.rankers.neural import NeuralRanker
from gnnrec.rankers.neural_config import NeuralConfig
from gnnrec.testing import PlantedGraph
from gnnrec.training.config import TrainingConfig

CONFIG = NeuralConfig(ModelConfig(embedding_dim=16), TrainingConfig(epochs=12, learning_rate=0.02))
FACTORISATION = NeuralConfig(
    ModelConfig(embedding_dim=16, hops=0, content="none"), TrainingConfig(epochs=12, learning_rate=0.02)
)
NO_RELATIONS = GraphConfig(similar_items=0, co_occurring_items=0)
EVERYBODY = np.arange(120)


@pytest.fixture(scope="session")
def fitted(task: RankingTask) -> NeuralRanker:
    return NeuralRanker.fit(task, CONFIG)[0]


@pytest.fixture(scope="session")
def factorised(planted: PlantedGraph) -> NeuralRanker:
    """Knows the interactions and nothing else."""
    return NeuralRanker.fit(RankingTask(build_graph(planted.train, config=NO_RELATIONS), planted.train), FACTORISATION)[
        0
    ]


def with_new_user(planted: PlantedGraph, items: list[int]) -> sp.csr_matrix:
    row = sp.csr_matrix((np.ones(len(items), dtype=np.float32), ([0] * len(items), items)), shape=(1, 80))
    return sp.vstack([planted.train, row], format="csr")


def purity_of_new_items(planted: PlantedGraph, scores: torch.Tensor, k: int = 2) -> float:
    """Share of each user's best new items that match the user's taste; chance is a quarter."""
    best = planted.new_items[np.argsort(-scores.numpy()[:, planted.new_items], axis=1)[:, :k]]
    return float((planted.item_taste[best] == planted.user_taste[:, None]).mean())


def test_serving_tensors_are_those_of_the_model(fitted: NeuralRanker, planted: PlantedGraph) -> None:
    with torch.no_grad():
        embeddings = fitted.model(MessageGraph.from_hetero_data(planted.graph))
    known = planted.new_items[0]  # the items before it have interactions
    assert torch.equal(fitted.vectors("item")[:known], embeddings.item[:known])
    torch.testing.assert_close(fitted.vectors("user"), embeddings.user)
    torch.testing.assert_close(fitted.score(EVERYBODY)[:, :known], embeddings.user @ embeddings.item[:known].T)
    unit = F.normalize(embeddings.item[:known, :-1])
    torch.testing.assert_close(fitted.similar(np.array([3, 1]))[:, :known], unit[[3, 1]] @ unit.T)


def test_rankings_and_neighbours_follow_the_planted_tastes(fitted: NeuralRanker, planted: PlantedGraph) -> None:
    assert planted.purity(fitted.score(EVERYBODY).numpy(), EVERYBODY) > 0.8
    similar = fitted.similar(np.arange(80)).numpy() - 2 * np.eye(80)
    nearest = np.argsort(-similar, axis=1)[:, :5]
    assert (planted.item_taste[nearest] == planted.item_taste[:, None]).mean() > 0.8


def test_a_ranker_trained_on_samples_answers_alike(task: RankingTask, planted: PlantedGraph) -> None:
    training = TrainingConfig(epochs=3, learning_rate=0.02, sampled_neighbours=(3, 2))
    ranker, _ = NeuralRanker.fit(task, replace(CONFIG, training=training))
    assert planted.purity(ranker.score(EVERYBODY).numpy(), EVERYBODY) > 0.7


def test_new_items_in_the_graph_reach_the_right_users(fitted: NeuralRanker, planted: PlantedGraph) -> None:
    assert purity_of_new_items(planted, fitted.score(EVERYBODY)) > 0.7


def test_without_media_nothing_is_known_of_new_items(factorised: NeuralRanker, planted: PlantedGraph) -> None:
    scores = factorised.score(EVERYBODY)
    bias = factorised.vectors("item")[:, -1]
    assert (scores[:, planted.new_items] == bias.min()).all()
    assert planted.purity(scores.numpy(), EVERYBODY) > 0.6  # though it has learned


@pytest.mark.parametrize("relations", [{}, {"co_occurring_users": 5}])
def test_an_update_without_new_events_changes_nothing(relations: dict, planted: PlantedGraph) -> None:
    graph = build_graph(planted.train, planted.features, config=GraphConfig(**relations))
    ranker, _ = NeuralRanker.fit(RankingTask(graph, planted.train), replace(CONFIG, training=TrainingConfig(epochs=2)))
    updated = ranker.update(planted.train, EVERYBODY)
    torch.testing.assert_close(updated.vectors("user"), ranker.vectors("user"), atol=1e-5, rtol=1e-4)
    assert torch.equal(updated.vectors("item"), ranker.vectors("item"))


@pytest.mark.parametrize("name", ["fitted", "factorised"])
def test_a_new_user_is_the_fold_in_of_the_history(
    name: str, planted: PlantedGraph, request: pytest.FixtureRequest
) -> None:
    ranker: NeuralRanker = request.getfixturevalue(name)
    grown = with_new_user(planted, [0, 4, 8, 12])
    updated = ranker.update(grown, np.array([120]))
    assert torch.equal(updated.score(np.array([120])), ranker.fold_in(grown[120]))
    assert torch.equal(updated.score(EVERYBODY), ranker.score(EVERYBODY))
    best = np.argsort(-updated.score(np.array([120])).numpy()[0])[:10]
    assert (planted.item_taste[best] == 0).mean() > 0.6


def test_new_events_move_a_user_as_a_full_propagation_would(fitted: NeuralRanker, planted: PlantedGraph) -> None:
    """... in which the items do not hear of the events: base + history, decoded."""
    grown = planted.train.tolil()
    grown[7, 1] = grown[7, 5] = 1
    grown = grown.tocsr()
    updated = fitted.update(grown, np.array([7]))
    serving = fitted.serving
    history = grown[7].toarray()[0]
    degree = planted.train.toarray().sum(axis=0).clip(min=1)
    row = torch.from_numpy(history / np.sqrt(history.sum()) / np.sqrt(degree)).float()
    expected = F.normalize(serving.user_base[7] + row @ serving.item_messages, dim=0)
    torch.testing.assert_close(updated.vectors("user")[7], torch.cat([expected, torch.ones(1)]))
    others = np.delete(EVERYBODY, 7)
    assert torch.equal(updated.vectors("user")[others], fitted.vectors("user")[others])


def test_factorisation_solves_for_the_user(factorised: NeuralRanker, planted: PlantedGraph) -> None:
    direction, bias = factorised.vectors("item").split([15, 1], dim=1)
    vectors = F.normalize(fold_in_by_least_squares(planted.train[:5], direction))
    torch.testing.assert_close(factorised.fold_in(planted.train[:5]), vectors @ direction.T + bias.T)


def test_nobody_in_particular_has_the_average_taste(fitted: NeuralRanker, factorised: NeuralRanker) -> None:
    for ranker in (fitted, factorised):
        scores = ranker.fold_in(sp.csr_matrix((1, 80), dtype=np.float32))
        average = ranker.vectors("user").mean(dim=0) @ ranker.vectors("item").T
        torch.testing.assert_close(scores[0], average)


@pytest.mark.parametrize("content_counts", [0.0, 0.5])
def test_a_user_without_events_has_the_average_taste_too(planted: PlantedGraph, content_counts: float) -> None:
    grown = with_new_user(planted, [])
    task = RankingTask(build_graph(grown, planted.features), grown)
    model = replace(CONFIG.model, known_content_taste=content_counts)
    ranker, _ = NeuralRanker.fit(task, replace(CONFIG, model=model, training=TrainingConfig(epochs=1)))
    torch.testing.assert_close(ranker.vectors("user")[120], ranker.vectors("user")[:120].mean(dim=0))


def new_items_like(planted: PlantedGraph, noise: float = 0.1) -> tuple[Features, np.ndarray]:
    """Twenty items whose content is that of known ones, nearly."""
    models = np.arange(20)
    values = planted.features["content"].values[models]
    values = values + noise * np.random.default_rng(0).normal(size=values.shape)
    return Features("content", "item", values.astype(np.float32), np.arange(20)), planted.item_taste[models]


def test_added_items_reach_the_right_users(fitted: NeuralRanker, planted: PlantedGraph) -> None:
    added, taste = new_items_like(planted)
    attached = fitted.attach({"content": added}, planted.features, 20)
    scores = attached.score(EVERYBODY).numpy()
    best = np.argsort(-scores[:, 80:], axis=1)[:, :4]
    assert (taste[best] == planted.user_taste[:, None]).mean() > 0.7
    near = attached.similar(np.arange(80, 100)).numpy()[:, :72].argsort(axis=1)[:, -5:]
    assert (planted.item_taste[near] == taste[:, None]).mean() > 0.7
    # What was known stays as it was, bit by bit.
    assert torch.equal(attached.vectors("item")[:80], fitted.vectors("item"))
    assert torch.equal(attached.vectors("user"), fitted.vectors("user"))
    assert len(fitted.vectors("item")) == 80


def test_an_added_item_equals_one_that_was_in_the_graph_without_events(
    fitted: NeuralRanker, planted: PlantedGraph
) -> None:
    """The last item has no events; taken out of the known ones and added again, it gets the same vector."""
    known = replace(
        planted.features["content"], values=planted.features["content"].values[:79], owner_index=np.arange(79)
    )
    added = replace(known, values=planted.features["content"].values[79:], owner_index=np.arange(1))
    attached = fitted.attach({"content": added}, {"content": known}, 1)
    torch.testing.assert_close(attached.vectors("item")[80], fitted.vectors("item")[79])


def test_an_added_item_counts_in_new_histories(fitted: NeuralRanker, planted: PlantedGraph) -> None:
    added, taste = new_items_like(planted)
    attached = fitted.attach({"content": added}, planted.features, 20)
    histories = sp.csr_matrix((np.ones(5, dtype=np.float32), ([0] * 5, 80 + np.flatnonzero(taste == 2))), (1, 100))
    best = np.argsort(-attached.fold_in(histories).numpy()[0, :80])[:10]
    assert (planted.item_taste[best] == 2).mean() > 0.7


def test_items_without_any_media_are_all_alike(fitted: NeuralRanker, planted: PlantedGraph) -> None:
    attached = fitted.attach({}, planted.features, 2)
    assert attached.vectors("item").shape == (82, 16)
    torch.testing.assert_close(attached.vectors("item")[80], attached.vectors("item")[81])


def test_new_items_are_placed_though_the_model_ignores_the_media(planted: PlantedGraph) -> None:
    graph = build_graph(planted.train, planted.features, config=NO_RELATIONS)
    deaf = replace(CONFIG, model=replace(CONFIG.model, content="none"), similar_items=0)
    ranker, _ = NeuralRanker.fit(RankingTask(graph, planted.train), deaf)
    assert purity_of_new_items(planted, ranker.score(EVERYBODY)) > 0.7


def test_a_model_saved_before_there_was_regression_refuses_new_items(
    fitted: NeuralRanker, planted: PlantedGraph
) -> None:
    before = NeuralRanker(fitted.model, fitted.serving, fitted.config, fitted.shape)
    assert before.capabilities == {"vectors"}
    with pytest.raises(UnsupportedError, match="new items"):
        before.attach({}, planted.features, 1)


def test_state_keeps_every_bit(fitted: NeuralRanker, planted: PlantedGraph) -> None:
    added, _ = new_items_like(planted)
    attached = fitted.attach({"content": added}, planted.features, 20)
    for ranker in (fitted, attached):
        state = ranker.state()
        copied = RankerState({name: value.clone() for name, value in state.tensors.items()}, dict(state.facts))
        again = NeuralRanker.from_state(copied)
        assert again.config == ranker.config
        assert again.shape == ranker.shape
        assert torch.equal(again.score(EVERYBODY), ranker.score(EVERYBODY))
        further = [one.attach({"content": added}, planted.features, 20) for one in (again, ranker)]
        assert torch.equal(*(one.vectors("item") for one in further))


def test_likeness_of_content_lifts_new_items_and_no_others(task: RankingTask, planted: PlantedGraph) -> None:
    added, taste = new_items_like(planted)
    model = replace(CONFIG.model, new_user_prior=0.0)
    config = replace(CONFIG, training=TrainingConfig(epochs=2))
    plain, comparing = (
        NeuralRanker.fit(task, replace(config, model=replace(model, content_taste=weight)))[0].attach(
            {"content": added}, planted.features, 20
        )
        for weight in (0.0, 0.5)
    )
    difference = comparing.score(EVERYBODY) - plain.score(EVERYBODY)
    known = task.interactions.getnnz(axis=0) > 0
    assert not difference[:, :80][:, known].any()
    same = torch.from_numpy(planted.user_taste[:, None] == taste)
    likes = difference[:, 80:]
    gap = (likes * same).sum(dim=1) / same.sum(dim=1) - (likes * ~same).sum(dim=1) / (~same).sum(dim=1)
    assert (gap > 0).float().mean() > 0.8
    # Vectors, new people, new events and the saved form agree with it.
    torch.testing.assert_close(comparing.vectors("user") @ comparing.vectors("item").T, comparing.score(EVERYBODY))
    histories = sp.csr_matrix((task.interactions.data, task.interactions.indices, task.interactions.indptr), (120, 100))
    folded_in = comparing.fold_in(histories) - plain.fold_in(histories)
    torch.testing.assert_close(folded_in, difference, atol=1e-5, rtol=1e-4)
    likes_another = histories[[likes_another_of(planted)]]
    changed = sp.vstack([likes_another, histories[1:]], format="csr")
    updated = comparing.update(changed, np.array([0]))
    torch.testing.assert_close(updated.score(EVERYBODY)[1:], comparing.score(EVERYBODY)[1:])
    torch.testing.assert_close(updated.serving.user_taste[0], comparing.serving.user_taste[likes_another_of(planted)])
    again = NeuralRanker.from_state(comparing.state())
    assert torch.equal(again.score(EVERYBODY), comparing.score(EVERYBODY))


@pytest.mark.parametrize("of_new", [0.0, 0.3])
def test_likeness_of_content_counts_for_known_items_as_well(
    of_new: float, task: RankingTask, planted: PlantedGraph
) -> None:
    added, _ = new_items_like(planted)
    model = replace(CONFIG.model, content_taste=of_new, new_user_prior=0.0)
    config = replace(CONFIG, training=TrainingConfig(epochs=2))
    plain, comparing = (
        NeuralRanker.fit(task, replace(config, model=replace(model, known_content_taste=weight)))[0].attach(
            {"content": added}, planted.features, 20
        )
        for weight in (0.0, 0.5)
    )
    known = np.append(task.interactions.getnnz(axis=0) > 0, np.zeros(20, dtype=np.bool_))
    difference = comparing.score(EVERYBODY) - plain.score(EVERYBODY)
    torch.testing.assert_close(difference[:, ~known], torch.zeros(120, int((~known).sum())), atol=1e-6, rtol=0)
    content, histories = comparing.serving.item_content, task.interactions.toarray()
    mean = torch.from_numpy(histories / histories.sum(axis=1, keepdims=True)) @ content[:80]
    torch.testing.assert_close(difference[:, known], 0.5 * mean @ content[known].T, atol=1e-5, rtol=1e-4)
    liked = torch.from_numpy(planted.user_taste[:, None] == planted.item_taste)[:, known[:80]]
    assert difference[:, known][liked].mean() > 0.1 > 0 > difference[:, known][~liked].mean()
    # Vectors, new people, new events and the saved form agree with it.
    torch.testing.assert_close(comparing.vectors("user") @ comparing.vectors("item").T, comparing.score(EVERYBODY))
    whole = sp.csr_matrix((task.interactions.data, task.interactions.indices, task.interactions.indptr), (120, 100))
    torch.testing.assert_close(comparing.fold_in(whole) - plain.fold_in(whole), difference, atol=1e-5, rtol=1e-4)
    other = likes_another_of(planted)
    changed = sp.vstack([whole[[other]], whole[1:]], format="csr")
    moved = comparing.update(changed, np.array([0])).score(EVERYBODY) - plain.update(changed, np.array([0])).score(
        EVERYBODY
    )
    torch.testing.assert_close(moved[0], difference[other], atol=1e-5, rtol=1e-4)
    again = NeuralRanker.from_state(comparing.state())
    assert torch.equal(again.score(EVERYBODY), comparing.score(EVERYBODY))


def likes_another_of(planted: PlantedGraph) -> int:
    return int(np.flatnonzero(planted.user_taste != planted.user_taste[0])[0])


def test_a_seed_fixes_the_ranker(task: RankingTask) -> None:
    config = replace(CONFIG, training=TrainingConfig(epochs=1))
    first, again = (NeuralRanker.fit(task, config)[0] for _ in range(2))
    other, _ = NeuralRanker.fit(replace(task, seed=1), config)
    assert torch.equal(first.vectors("item"), again.vectors("item"))
    assert not torch.equal(first.vectors("item"), other.vectors("item"))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_ranker_fitted_on_a_gpu_answers_on_the_cpu(task: RankingTask, planted: PlantedGraph) -> None:
    ranker, _ = NeuralRanker.fit(replace(task, device="cuda"), CONFIG)
    assert ranker.vectors("item").device.type == "cpu"
    assert planted.purity(ranker.score(EVERYBODY).numpy(), EVERYBODY) > 0.8
    added, _ = new_items_like(planted)
    assert ranker.attach({"content": added}, planted.features, 20).score(EVERYBODY).shape == (120, 100)


def test_popularity_is_weighed_after_training(task: RankingTask) -> None:
    config = replace(CONFIG, training=TrainingConfig(epochs=3))
    plain, result = NeuralRanker.fit(task, config)
    assert result is not None
    assert result.chosen == {
        "popularity_weight": 1.0,
        "content_taste": 0.0,
        "known_content_taste": 0.0,
        "new_item_offset": 0.0,
        "new_user_prior": 3.0,
        "linear_part": "none",
        "sequence_encoder": "none",
    }
    doubled, result = NeuralRanker.fit(task, replace(config, model=replace(config.model, popularity_weight=2.0)))
    assert result is not None
    assert result.chosen["popularity_weight"] == 2.0
    known = task.interactions.getnnz(axis=0) > 0
    torch.testing.assert_close(doubled.vectors("item")[known, -1], 2 * plain.vectors("item")[known, -1])
    torch.testing.assert_close(doubled.vectors("item")[known, :-1], plain.vectors("item")[known, :-1])


def test_the_offset_moves_new_items_and_no_others(task: RankingTask, planted: PlantedGraph) -> None:
    config = replace(CONFIG, training=TrainingConfig(epochs=2))
    added, _ = new_items_like(planted)
    plain, moved = (
        NeuralRanker.fit(task, replace(config, model=replace(config.model, new_item_offset=offset)))[0].attach(
            {"content": added}, planted.features, 20
        )
        for offset in (0.0, 0.5)
    )
    difference = moved.vectors("item") - plain.vectors("item")
    new = np.append(planted.new_items, np.arange(80, 100))
    torch.testing.assert_close(difference[new, -1], torch.full((len(new),), 0.5))
    assert not difference[:, :-1].any()
    assert not np.delete(difference[:, -1].numpy(), new).any()


def test_validation_chooses_what_is_settled_after_training(task: RankingTask, planted: PlantedGraph) -> None:
    config = replace(CONFIG, training=TrainingConfig(epochs=3, select_by="recall@5"))
    validation = ValidationPairs(planted.test, planted.train, ("recall@20", "recall@5"))
    ranker, result = NeuralRanker.fit(replace(task, validation=validation), config)
    assert result is not None
    assert ranker.config.model.popularity_weight == result.chosen["popularity_weight"]
    assert ranker.config.model.new_item_offset == result.chosen["new_item_offset"] != 0
    generous = replace(config, model=replace(config.model, new_item_price=0.5))
    _, result_of_generous = NeuralRanker.fit(replace(task, validation=validation), generous)
    assert result_of_generous is not None
    assert result_of_generous.chosen["new_item_offset"] > result.chosen["new_item_offset"]


def test_the_offset_is_settled_with_everything_that_scores_hold(
    task: RankingTask, planted: PlantedGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: dict[str, Any] = {}

    def offset(
        validation: ValidationPairs, user: Tensor, item: Tensor, content: Tensor, told: Predicted, **how: Any
    ) -> float:
        measured.update(how, user=user, item=item, content=content, **vars(told))
        return best_new_item_offset(validation, user, item, content, told, **how)

    monkeypatch.setattr(settling, "best_new_item_offset", offset)
    options = {"content_taste": 0.7, "known_content_taste": 0.2, "new_item_price": 0.3}
    options |= {"linear_part": "ease", "linear_weight": 0.8}
    config = replace(CONFIG, model=replace(CONFIG.model, **options), training=TrainingConfig(epochs=2))
    validation = ValidationPairs(planted.test, planted.train, ("recall@20",))
    ranker, result = NeuralRanker.fit(replace(task, validation=validation), config)
    assert result is not None
    assert result.chosen["new_item_offset"] != 0
    serving, known = ranker.serving, measured["known"]
    width = serving.item_content.shape[1]
    assert measured["linear"] is ranker.linear
    assert measured["price"] == 0.3
    assert measured["user"] is serving.user
    assert measured["content"] is serving.item_content
    torch.testing.assert_close(measured["item"][known, :width], 0.2 * serving.item_content[known])
    torch.testing.assert_close(measured["item"][known, width:], serving.item[known])
    torch.testing.assert_close(measured["left_out"][:, :width], 0.7 * serving.item_content[known])
    torch.testing.assert_close(measured["placed"][:, :width], 0.7 * serving.item_content[planted.new_items])
    moved = serving.item[planted.new_items] - measured["placed"][:, width:]
    assert not moved[:, :-1].any()
    torch.testing.assert_close(moved[:, -1], torch.full((len(moved),), result.chosen["new_item_offset"]))


@pytest.mark.parametrize("content_taste", [0.0, 0.7])
def test_vectors_and_scores_both_hear_of_events_on_new_items(
    task: RankingTask, planted: PlantedGraph, content_taste: float
) -> None:
    model = replace(CONFIG.model, content_taste=content_taste, linear_part="none")
    ranker, _ = NeuralRanker.fit(task, replace(CONFIG, model=model, training=TrainingConfig(epochs=1)))
    new, people = planted.new_items[0], np.arange(9)
    events = sp.csr_matrix((np.ones(9, dtype=np.float32), (people, np.full(9, new))), planted.train.shape)
    told = ranker.update(planted.train + events, people)
    torch.testing.assert_close(told.score(EVERYBODY), told.vectors("user") @ told.vectors("item").T)
    unmoved, moved = (one.vectors("item")[new] for one in (ranker, told))
    assert F.cosine_similarity(unmoved, moved, dim=0) < 0.999


def test_tastes_do_not_depend_on_the_order_of_a_history(task: RankingTask, planted: PlantedGraph) -> None:
    model = replace(CONFIG.model, content_taste=0.5, new_user_prior=0.0)
    ranker, _ = NeuralRanker.fit(task, replace(CONFIG, model=model, training=TrainingConfig(epochs=1)))
    places = planted.train.copy()
    places.data = np.arange(1, places.nnz + 1, dtype=np.float32)
    assert ranker.serving.user_taste.any()
    torch.testing.assert_close(ranker._tastes(places, None), ranker.serving.user_taste)


def test_few_events_of_new_people_tell_as_little_of_their_taste_as_of_their_vector(
    task: RankingTask, planted: PlantedGraph
) -> None:
    model = replace(CONFIG.model, known_content_taste=0.5, new_user_prior=3.0)
    ranker, _ = NeuralRanker.fit(task, replace(CONFIG, model=model, training=TrainingConfig(epochs=1)))
    grown = ranker.update(with_new_user(planted, [7]), np.array([0, 120]))
    average, content = ranker.serving.user_taste.mean(dim=0), ranker.serving.item_content
    torch.testing.assert_close(grown.serving.user_taste[120], (content[7] + 3 * average) / 4)
    torch.testing.assert_close(grown.serving.user_taste[0], ranker.serving.user_taste[0])
    history = with_new_user(planted, [7])[[120]]
    torch.testing.assert_close(ranker.fold_in(history), grown.score(np.array([120])))
    nobody = sp.csr_matrix((1, 80), dtype=np.float32)
    torch.testing.assert_close(ranker._tastes(nobody, None)[0], average)


def test_the_prior_of_new_people_is_chosen_beside_the_linear_part(task: RankingTask, planted: PlantedGraph) -> None:
    """A linear part that drowns the vectors leaves nothing to a small prior."""
    validated = replace(task, validation=ValidationPairs(planted.test, planted.train, ("recall@20",)))
    prior = {}
    for weight in (0.0, 1000.0):
        model = replace(CONFIG.model, linear_part="ease", linear_weight=weight)
        ranker, result = NeuralRanker.fit(validated, replace(CONFIG, model=model))
        assert result is not None
        assert result.chosen["new_user_prior"] == ranker.newcomers.prior == ranker.config.model.new_user_prior
        prior[weight] = ranker.newcomers.prior
    assert prior[0.0] < prior[1000.0] == 10


def test_newcomers_are_placed_nearer_to_their_fitted_vectors_than_propagation_alone_does(
    fitted: NeuralRanker, planted: PlantedGraph
) -> None:
    fitted_direction = fitted.vectors("user")[:, :-1]
    by_propagation = NeuralRanker(fitted.model, fitted.serving, fitted.config, fitted.shape)
    nearness = {}
    for name, ranker in {"regression": fitted, "propagation": by_propagation}.items():
        vectors = ranker._user_vectors(planted.train, None)[:, :-1]
        nearness[name] = float(F.cosine_similarity(vectors, fitted_direction).mean())
    assert nearness["regression"] > 0.95
    assert nearness["regression"] > nearness["propagation"] + 0.01
    row = by_propagation._user_vectors(planted.train[:3], None)[:, :-1]
    degree = torch.from_numpy(planted.train.toarray().sum(axis=0)).clamp(min=1)
    history = torch.from_numpy(planted.train[:3].toarray())
    expected = (history / degree.sqrt()) @ fitted.serving.item_messages
    torch.testing.assert_close(row, F.normalize(expected), atol=1e-5, rtol=1e-4)


def test_a_fit_leaves_the_random_numbers_of_its_caller_alone(task: RankingTask) -> None:
    def drawn(seed: int) -> float:
        torch.manual_seed(seed)
        NeuralRanker.fit(task, replace(CONFIG, training=TrainingConfig(epochs=1)))
        return float(torch.rand(1))

    assert drawn(1) != drawn(2)
    torch.manual_seed(1)
    undisturbed = float(torch.rand(1))
    assert drawn(1) == undisturbed
