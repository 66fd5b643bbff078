"""What a linear model says of a history is added to what the vectors say, where validation finds that it pays."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from gnnrec.errors import ConfigError
from gnnrec.evaluation.validation import ValidationPairs
from gnnrec.geometric import HeteroData
from gnnrec.nn.model_config import ModelConfig
from gnnrec.rankers import EaseRanker, GraphFilterRanker, linear_choice, linear_part
from gnnrec.rankers.base import RankingTask
from gnnrec.rankers.ease import EaseConfig
from gnnrec.rankers.graph_filter import GraphFilterConfig
from gnnrec.rankers.linear_choice import best_linear_part
from gnnrec.rankers.linear_part import LinearPart, check_linear_part
from gnnrec.rankers.neural import NeuralRanker
from gnnrec.rankers.neural_config import NeuralConfig
from gnnrec.testing import PlantedGraph
from gnnrec.training.config import TrainingConfig

NUM_USERS, NUM_PAIRS = 400, 20
NUM_ITEMS = 2 * NUM_PAIRS
KINDS = ("ease", "random-walk", "graph-filter", "low-pass")


@pytest.fixture(scope="module")
def task() -> RankingTask:
    """Items go in pairs: who has one of a pair mostly has the other, which is held out for every third person."""
    rng = np.random.default_rng(0)
    pairs = np.argsort(rng.random((NUM_USERS, NUM_PAIRS)), axis=1)[:, :2]
    had = np.zeros((NUM_USERS, NUM_ITEMS), dtype=np.float32)
    for half in (0, 1):
        np.put_along_axis(had, 2 * pairs + half, 1, axis=1)
    wanted = np.zeros_like(had)
    held_out = np.arange(0, NUM_USERS, 3)
    wanted[held_out, 2 * pairs[held_out, 0]] = 1
    train = sp.csr_matrix(had - wanted)
    return RankingTask(HeteroData(), train, ValidationPairs(sp.csr_matrix(wanted), train, ("recall@1",)))


def vectors(task: RankingTask, *, tell: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors that tell what is held out, or nothing."""
    assert task.validation is not None
    noise = torch.from_numpy(np.random.default_rng(1).normal(size=(NUM_USERS, NUM_ITEMS))).float()
    told = torch.from_numpy(task.validation.pairs.toarray())
    return (told + 0.01 * noise if tell else noise), torch.eye(NUM_ITEMS)


@pytest.mark.parametrize("kind", KINDS)
def test_it_finds_what_goes_together(task: RankingTask, kind: str) -> None:
    user, item = vectors(task, tell=False)
    assert task.validation is not None
    measured = task.validation

    def recall(part: LinearPart, base: torch.Tensor) -> float:
        return measured.of_scores(lambda rows: part.add_to(base[rows] @ item.T, users=rows.numpy()))["recall@1"]

    part, name, weight = best_linear_part(kind, None, None, task, user, item, "recall@1")
    assert part is not None
    assert name == part.name == kind
    assert weight == 0.8  # the more the better, as the vectors tell nothing
    alone = measured(user, item)["recall@1"]
    assert alone < 0.1  # chance is 1 in 37
    assert recall(part, user) > 2 * alone
    assert recall(part.weighed(10), user) > 0.8
    assert recall(part, torch.zeros_like(user)) > 0.9


def test_nothing_is_added_where_vectors_tell_all(task: RankingTask) -> None:
    user, item = vectors(task, tell=True)
    assert best_linear_part("auto", None, None, task, user, item, "recall@1") == (None, "none", None)


def test_items_without_interactions_have_no_say(task: RankingTask) -> None:
    """They are ahead of everything by their vectors, about which the training said nothing."""
    blind = np.zeros((NUM_USERS, 5), dtype=np.float32)
    train, validation = (sp.csr_matrix(sp.hstack([one, blind])) for one in (task.interactions, task.validation.pairs))
    with_new = replace(task, interactions=train, validation=ValidationPairs(validation, train, ("recall@1",)))
    user, item = vectors(task, tell=False)
    user = torch.cat([user, 100 * torch.ones(NUM_USERS, 1)], dim=1)
    item = torch.block_diag(item, torch.ones(5, 1))
    part, name, weight = best_linear_part("auto", None, None, with_new, user, item, "recall@1")
    assert part is not None
    assert (name, weight) == best_linear_part("auto", None, None, task, *vectors(task, tell=False), "recall@1")[1:]


def test_a_kind_that_was_asked_for_stays_and_counts_least_where_vectors_tell_all(task: RankingTask) -> None:
    user, item = vectors(task, tell=True)
    part, name, weight = best_linear_part("ease", None, None, task, user, item, "recall@1")
    assert part is not None
    assert (name, weight) == ("ease", 0.05)
    assert best_linear_part("auto", 0.3, None, task, user, item, "recall@1")[2] == 0.3  # nor is a weight dropped


def test_of_both_kinds_the_better_one_is_taken(task: RankingTask, monkeypatch: pytest.MonkeyPatch) -> None:
    user, item = vectors(task, tell=False)
    recall = {}
    for kind in ("ease", "random-walk"):
        part = best_linear_part(kind, 0.8, None, task, user, item, "recall@1")[0]
        assert part is not None
        assert task.validation is not None

        def score(rows: torch.Tensor, part: LinearPart = part) -> torch.Tensor:
            return part.add_to(user[rows] @ item.T, users=rows.numpy())

        recall[kind] = task.validation.of_scores(score)["recall@1"]
    assert best_linear_part("auto", 0.8, None, task, user, item, "recall@1")[1] == max(
        recall, key=lambda kind: recall[kind]
    )
    monkeypatch.setattr("gnnrec.rankers.linear_choice._MOST_ITEMS_FOR_EASE", NUM_ITEMS - 1)
    assert best_linear_part("auto", None, None, task, user, item, "recall@1")[1] == "random-walk"


@pytest.mark.parametrize(("crowd", "best"), [(0, "random-walk"), (4, "graph-filter")])
def test_the_graph_filter_is_taken_where_popular_items_lead_a_walk_astray(
    task: RankingTask, crowd: int, best: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three of ten people have each item of the crowd, and nobody else wants it. Without one, the walk does as well."""
    monkeypatch.setattr("gnnrec.rankers.linear_choice._MOST_ITEMS_FOR_EASE", 0)
    assert task.validation is not None
    popular = (np.random.default_rng(5).random((NUM_USERS, crowd)) < 0.3).astype(np.float32)
    train = sp.hstack([task.interactions, popular], format="csr")
    wanted = sp.hstack([task.validation.pairs, np.zeros_like(popular)], format="csr")
    measured = ValidationPairs(sp.csr_matrix(wanted), train, ("recall@1",))
    crowded = RankingTask(HeteroData(), train, measured)
    user, item = torch.rand(NUM_USERS, 1), torch.rand(NUM_ITEMS + crowd, 1) / 10  # which tell nothing

    def recall(kind: str) -> float:
        part = best_linear_part(kind, None, None, crowded, user, item, "recall@1")[0]  # type: ignore[arg-type]
        assert part is not None
        return measured.of_scores(lambda rows: part.add_to(user[rows] @ item.T, users=rows.numpy()))["recall@1"]

    gain = recall("graph-filter") - recall("random-walk")
    assert gain > 0.1 if crowd else abs(gain) < 0.03
    assert best_linear_part("auto", None, None, crowded, user, item, "recall@1")[1] == best
    # A decay that the options give holds for every kind that is tried.
    in_time = replace(crowded, order=train)
    part = best_linear_part("auto", None, 0.1, in_time, user, item, "recall@1")[0]
    assert part is not None
    assert (part.name, part.decay) == (best, 0.1)


def test_a_catalogue_too_large_for_ease_is_refused_before_the_training() -> None:
    with pytest.raises(ConfigError, match=r"'linear_part'.*30000 items.*30001.*'random-walk' or 'graph-filter'"):
        check_linear_part("ease", 30_001)
    check_linear_part("auto", 30_001)
    task = RankingTask(HeteroData(), sp.csr_matrix((2, 30_001), dtype=np.float32))  # no graph to train on
    with pytest.raises(ConfigError, match="'linear_part'"):
        NeuralRanker.fit(task, CONFIG)


def test_a_weight_needs_something_to_weigh() -> None:
    with pytest.raises(ConfigError, match=r"'linear_weight'.*linear_part="):
        ModelConfig(linear_part="none", linear_weight=0.5)
    with pytest.raises(ConfigError, match=r"'linear_weight'.*negative"):
        ModelConfig(linear_part="auto", linear_weight=-0.5)


def test_without_validation_the_options_decide(task: RankingTask) -> None:
    user, item = vectors(task, tell=False)
    blind = replace(task, validation=None)
    assert best_linear_part("auto", None, None, blind, user, item, "recall@1")[:2] == (None, "none")
    part, name, weight = best_linear_part("ease", 0.3, None, blind, user, item, "recall@1")
    assert part is not None
    assert (name, weight) == ("ease", 0.3)


@pytest.mark.parametrize("kind", KINDS)
def test_at_weight_1_both_spread_the_items_equally(task: RankingTask, kind: str) -> None:
    user, item = vectors(task, tell=False)
    part = LinearPart.fit(kind, task, 7 * user, item)
    everybody = np.arange(NUM_USERS)
    added = part.add_to(torch.zeros(NUM_USERS, NUM_ITEMS), users=everybody)
    assert added.std(dim=1).mean().item() == pytest.approx((7 * user @ item.T).std(dim=1).mean().item(), rel=1e-4)
    reference = {
        "ease": EaseRanker.fit(task, EaseConfig())[0],
        "random-walk": GraphFilterRanker.fit(task, GraphFilterConfig(factors=32, ideal_weight=0.0))[0],
        "graph-filter": GraphFilterRanker.fit(
            task, GraphFilterConfig(factors=32, ideal_weight=0.0, linear_exponent=0.125, user_exponent=0.75)
        )[0],
        "low-pass": balanced_filters(task),
    }[kind].score(everybody)
    torch.testing.assert_close(added, part.factor * reference)


def balanced_filters(task: RankingTask, factors: int = 1536) -> GraphFilterRanker:
    """Both filters of Shen et al., which spread the items of a person equally wide."""
    everybody = np.arange(task.interactions.shape[0])

    def filters(weight: float) -> GraphFilterRanker:
        config = GraphFilterConfig(
            factors=factors, ideal_weight=weight, linear_exponent=0.125, user_exponent=0.75, regularisation=1.0
        )
        return GraphFilterRanker.fit(task, config)[0]

    linear, both = (filters(weight).score(everybody) for weight in (0.0, 1.0))
    spread_out, passed = (scores.std(dim=1, correction=0).mean().item() for scores in (linear, both - linear))
    return filters(spread_out / passed)


def with_noise() -> tuple[RankingTask, torch.Tensor, torch.Tensor]:
    """Six tastes of 20 items; a person has five items of one and five of any, and wants another one of the first."""
    rng = np.random.default_rng(0)
    num_users, num_items = 900, 120
    had, wanted = (np.zeros((num_users, num_items), dtype=np.float32) for _ in range(2))
    liked = 20 * rng.integers(6, size=(num_users, 1)) + np.argsort(rng.random((num_users, 20)), axis=1)[:, :6]
    np.put_along_axis(had, np.argsort(rng.random((num_users, num_items)), axis=1)[:, :5], 1, axis=1)
    np.put_along_axis(had, liked[:, :5], 1, axis=1)
    np.put_along_axis(wanted, liked[:, 5:], 1, axis=1)
    had *= 1 - wanted
    train = sp.csr_matrix(had)
    task = RankingTask(HeteroData(), train, ValidationPairs(sp.csr_matrix(wanted), train, ("recall@10",)))
    noise = torch.from_numpy(rng.normal(size=(num_users, num_items))).float()
    return task, 0.01 * noise, torch.eye(num_items)


def test_a_low_pass_filter_is_taken_where_much_of_a_history_is_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    task, user, item = with_noise()
    few = replace(linear_part._GRAPH_FILTERS["low-pass"], factors=6)
    monkeypatch.setitem(linear_part._GRAPH_FILTERS, "low-pass", few)  # type: ignore[arg-type]
    monkeypatch.setattr(linear_choice, "_MOST_ITEMS_FOR_EASE", 100)
    for sizes, taken in ((range(120, 121), True), (range(121, 500), False), (range(120), False)):
        monkeypatch.setattr(linear_choice, "_ITEMS_FOR_LOW_PASS", sizes)
        name = best_linear_part("auto", None, None, task, user, item, "recall@10")[1]
        assert (name == "low-pass") == taken
    part = LinearPart.fit("low-pass", task, user, item)
    everybody = np.arange(900)
    expected = balanced_filters(task, 6).score(everybody)
    torch.testing.assert_close(part.ranker.score(everybody), expected, rtol=0.02, atol=0.02)
    again = LinearPart.from_state(part.state())
    assert torch.equal(again.ranker.score(everybody), part.ranker.score(everybody))


def changed_tastes(*, in_time: bool) -> tuple[RankingTask, torch.Tensor, torch.Tensor]:
    """People who first liked one kind of items and then another; held out is one of the second, or of either.

    Everybody's 12 events are on six items of each kind, of which the first eleven in time are known.
    """
    rng = np.random.default_rng(3)
    kinds = np.argsort(rng.random((300, 4)), axis=1)[:, :2]
    chosen = np.argsort(rng.random((300, 2, 8)), axis=2)[:, :, :6]
    item = (8 * kinds[:, :, None] + chosen).reshape(300, 12)
    if not in_time:
        item = rng.permuted(item, axis=1)
    places = np.zeros((300, 32), dtype=np.float32)
    np.put_along_axis(places, item[:, :11], np.arange(1, 12, dtype=np.float32)[None], axis=1)
    wanted = np.zeros_like(places)
    np.put_along_axis(wanted, item[:, 11:], 1, axis=1)
    order = sp.csr_matrix(places)
    train = sp.csr_matrix((np.ones_like(order.data), order.indices, order.indptr), order.shape)
    task = RankingTask(HeteroData(), train, ValidationPairs(sp.csr_matrix(wanted), train, ("recall@3",)), order=order)
    return (
        task,
        torch.from_numpy(rng.normal(size=(300, 8))).float() / 100,
        torch.from_numpy(rng.normal(size=(32, 8))).float(),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_what_came_last_counts_most_where_tastes_change(kind: str) -> None:
    task, user, item = changed_tastes(in_time=True)
    assert task.validation is not None
    measured, nobody = task.validation, torch.zeros(300, 32)

    def recall(part: LinearPart) -> float:
        return measured.of_scores(lambda rows: part.add_to(nobody[rows], users=rows.numpy()))["recall@3"]

    part = best_linear_part(kind, None, None, task, user, item, "recall@3")[0]
    alike = best_linear_part(kind, None, 0.0, task, user, item, "recall@3")[0]
    assert part is not None
    assert alike is not None
    assert (part.decay, alike.decay) == (0.3, 0.0)
    assert recall(part) > recall(alike) + 0.2
    assert best_linear_part(kind, None, 0.1, task, user, item, "recall@3")[0].decay == 0.1  # type: ignore[union-attr]
    blind = replace(task, validation=None)
    assert best_linear_part(kind, 0.4, 0.1, blind, user, item, "recall@3")[0].decay == 0.1  # type: ignore[union-attr]
    # A stranger with the same events is told the same, and so is somebody whose events come as an update.
    assert task.order is not None
    told = part.add_to_new(nobody.clone(), histories=task.order)
    torch.testing.assert_close(told, part.add_to(nobody.clone(), users=np.arange(300)))
    turned = task.order.copy()
    turned.data = 12 - turned.data
    updated = part.update(turned, np.arange(300)).add_to(nobody.clone(), users=np.arange(300))
    torch.testing.assert_close(updated, part.add_to_new(nobody.clone(), histories=turned))
    assert (updated - told).abs().max() > 0.1 * told.abs().max()


@pytest.mark.parametrize("known", ["in no order", "in any order"])
def test_all_events_count_alike_where_their_order_tells_nothing(known: str) -> None:
    task, user, item = changed_tastes(in_time=known == "in no order")
    if known == "in no order":
        task = replace(task, order=None)
    part = best_linear_part("auto", None, None, task, user, item, "recall@3")[0]
    assert part is not None
    assert part.decay == 0


def test_a_decay_needs_a_linear_part() -> None:
    with pytest.raises(ConfigError, match=r"'linear_decay'.*linear_part="):
        ModelConfig(linear_part="none", linear_decay=0.1)
    with pytest.raises(ConfigError, match=r"'linear_decay'.*negative"):
        ModelConfig(linear_decay=-0.1)


def test_a_decay_needs_an_order(task: RankingTask) -> None:
    user, item = vectors(task, tell=False)
    with pytest.raises(ConfigError, match=r"'linear_decay' is 0\.1.*no order"):
        best_linear_part("ease", 0.4, 0.1, task, user, item, "recall@1")


CONFIG = NeuralConfig(
    ModelConfig(embedding_dim=16, linear_part="ease", linear_weight=0.5), TrainingConfig(epochs=2, learning_rate=0.02)
)


@pytest.fixture(scope="module")
def ranker(planted: PlantedGraph) -> NeuralRanker:
    return NeuralRanker.fit(RankingTask(planted.graph, planted.train), CONFIG)[0]


def products(ranker: NeuralRanker, users: np.ndarray) -> torch.Tensor:
    return ranker.vectors("user")[users] @ ranker.vectors("item").T


def test_scores_are_products_and_the_linear_part(ranker: NeuralRanker, planted: PlantedGraph) -> None:
    users = np.array([3, 1, 60])
    part = ranker.linear
    assert part is not None
    expected = products(ranker, users) + part.factor * part.ranker.score(users)
    known = planted.train.getnnz(axis=0) > 0  # new items' content counts besides
    torch.testing.assert_close(ranker.score(users)[:, known], expected[:, known])


def test_new_events_and_new_people_reach_the_linear_part(ranker: NeuralRanker, planted: PlantedGraph) -> None:
    grown = sp.vstack([planted.train, planted.train[5]], format="csr")
    newcomer = ranker.update(grown, np.array([planted.train.shape[0]]))
    part, before = newcomer.linear, ranker.linear
    assert part is not None
    assert before is not None
    of_newcomer = part.ranker.score(np.array([planted.train.shape[0]]))
    torch.testing.assert_close(of_newcomer, before.ranker.score(np.array([5])))
    told = ranker.fold_in(planted.train[5]) - without_linear_part(ranker).fold_in(planted.train[5])
    torch.testing.assert_close(told, before.factor * of_newcomer, atol=1e-5, rtol=1e-4)


def without_linear_part(ranker: NeuralRanker) -> NeuralRanker:
    """The same without its linear part."""
    return replace(ranker, linear=None)


def test_items_added_later_are_scored_by_their_vectors(ranker: NeuralRanker, planted: PlantedGraph) -> None:
    content = planted.features["content"]
    added = replace(content, values=content.values[:4], owner_index=np.arange(4))
    grown, plain = (
        one.attach({"content": added}, planted.features, 4) for one in (ranker, without_linear_part(ranker))
    )
    users = np.arange(120)
    torch.testing.assert_close(grown.score(users)[:, 80:], plain.score(users)[:, 80:])
    torch.testing.assert_close(grown.score(users)[:, :80], ranker.score(users))
    # An event on one of them is of no use to the linear part, and does it no harm.
    wide = sp.csr_matrix((planted.train.data, planted.train.indices, planted.train.indptr), (120, 84)).tolil()
    wide[7, 82] = 1
    later = grown.update(sp.csr_matrix(wide), np.array([7]))
    assert torch.isfinite(later.score(np.array([7]))).all()
    assert later.linear is not None
    assert ranker.linear is not None
    assert torch.equal(later.linear.ranker.score(np.array([7])), ranker.linear.ranker.score(np.array([7])))
