from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gnnrec.errors import ConfigError
from gnnrec.geometric import HeteroData
from gnnrec.nn.losses import binary_cross_entropy, bpr
from gnnrec.nn.message_graph import MessageGraph
from gnnrec.nn.model import Embeddings
from gnnrec.nn.multimodal import MultimodalGraphModel
from gnnrec.training import objective as objective_module
from gnnrec.training.config import TrainingConfig
from gnnrec.training.objective import Objective
from gnnrec.training.steps import Step


@pytest.fixture
def embeddings(model: MultimodalGraphModel, graph: MessageGraph) -> Embeddings:
    with torch.no_grad():
        return model(graph)


def terms(graph: MessageGraph, embeddings: Embeddings, seed: int = 0, **options) -> dict[str, Tensor]:
    """The terms for a batch of all interactions."""
    objective = Objective(graph, TrainingConfig(**options))
    return objective(embeddings, step_of_all(objective, graph, seed))


def step_of_all(objective: Objective, graph: MessageGraph, seed: int) -> Step:
    pairs = torch.arange(graph.edge_index.shape[1])
    return objective.drawn(Step(graph, pairs, *graph.edge_index), torch.Generator().manual_seed(seed))


def cross_entropy_over_known_items(graph: MessageGraph, embeddings: Embeddings, temperature: float) -> Tensor:
    user, item = graph.edge_index
    scores = embeddings.user[user] @ embeddings.item.T / temperature
    scores[:, graph.item_degree == 0] = -torch.inf
    return F.cross_entropy(scores, item)


def test_softmax_runs_over_the_items_with_interactions(graph: MessageGraph, embeddings: Embeddings) -> None:
    cold = graph.item_degree == 0
    assert cold.any()
    loss = terms(graph, embeddings, loss="softmax", temperature=0.3)
    assert loss.keys() == {"ranking"}
    torch.testing.assert_close(loss["ranking"], cross_entropy_over_known_items(graph, embeddings, 0.3))
    # Nothing is held against a new item, however high it scores.
    attractive = replace(embeddings, item=embeddings.item + 9.0 * cold[:, None])
    assert torch.equal(terms(graph, attractive, loss="softmax", temperature=0.3)["ranking"], loss["ranking"])


def test_sampled_softmax_estimates_the_full_one(
    graph: MessageGraph, embeddings: Embeddings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objective_module, "_DRAWS", 30)
    # Longer vectors, so that items differ a lot in their share of the normaliser.
    decode = embeddings.decode
    embeddings = replace(embeddings, decode=lambda rows: 3 * decode(rows))
    expected = cross_entropy_over_known_items(graph, embeddings, 0.5)
    sampled = [terms(graph, embeddings, seed, loss="sampled-softmax", temperature=0.5)["ranking"] for seed in range(40)]
    assert torch.stack(sampled).mean().item() == pytest.approx(expected.item(), rel=0.01)
    assert len({value.item() for value in sampled}) > 10


def test_small_catalogues_are_normalised_in_full(
    graph: MessageGraph, embeddings: Embeddings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert torch.equal(
        terms(graph, embeddings, loss="auto")["ranking"], terms(graph, embeddings, loss="softmax")["ranking"]
    )
    monkeypatch.setattr(objective_module, "_FULL_SOFTMAX_ITEMS", 3)
    assert torch.equal(
        terms(graph, embeddings, loss="auto")["ranking"], terms(graph, embeddings, loss="sampled-softmax")["ranking"]
    )


@pytest.mark.parametrize(("name", "loss"), [("bpr", bpr), ("bce", binary_cross_entropy)])
def test_pairwise_losses_compare_with_drawn_items(name: str, loss, graph: MessageGraph, embeddings: Embeddings) -> None:
    objective = Objective(graph, TrainingConfig(loss=name, negatives=3, temperature=0.4))
    user, item = graph.edge_index
    negative = objective.negatives.sample(user, 3, torch.Generator().manual_seed(5))
    assert (graph.item_degree[negative] > 0).all()
    score = embeddings.user @ embeddings.item.T / 0.4
    expected = loss(score[user, item], score[user[:, None], negative])
    torch.testing.assert_close(objective(embeddings, step_of_all(objective, graph, seed=5))["ranking"], expected)


def test_bootstrap_belongs_to_its_architecture(graph: MessageGraph, embeddings: Embeddings) -> None:
    with pytest.raises(ConfigError, match=r"bootstrap.*'bm3'"):
        terms(graph, embeddings, loss="bootstrap")
    # Users predict items and items predict users, from decoded vectors to those before decoding.
    item = torch.randn_like(embeddings.item)
    mixed = torch.randn_like(embeddings.user)
    views = replace(embeddings, user_mixed=mixed, decode=lambda rows: rows.exp(), views={"item": item})
    user_index, item_index = graph.edge_index
    forward = F.cosine_similarity(views.user[user_index], item[item_index]).mean()
    backward = F.cosine_similarity(views.item[item_index], views.user_mixed[user_index]).mean()
    torch.testing.assert_close(terms(graph, views, loss="bootstrap")["ranking"], 2 - forward - backward)


def test_both_targets_of_the_bootstrap_are_dropped_out(graph: MessageGraph, embeddings: Embeddings) -> None:
    """Where all vectors are the same, dropping half of a target leaves a cosine of about .7."""
    torch.manual_seed(0)
    one = torch.randn(1, embeddings.item.shape[1])
    user, item = one.expand(len(embeddings.user), -1), one.expand(len(embeddings.item), -1)
    alike = replace(embeddings, user_mixed=user, decode=lambda rows: rows, item=item, views={"item": item})
    assert terms(graph, alike, loss="bootstrap")["ranking"] == pytest.approx(0, abs=1e-5)
    assert terms(graph, alike, loss="bootstrap", view_dropout=0.5)["ranking"] > 0.45


def test_a_weight_of_zero_leaves_the_term_out(graph: MessageGraph, embeddings: Embeddings) -> None:
    assert terms(graph, embeddings, auxiliary={"alignment": 0.0}).keys() == {"ranking"}


def everything_chosen_once(num_items: int) -> MessageGraph:
    graph = HeteroData()
    graph["user"].num_nodes, graph["item"].num_nodes = 1, num_items
    items = torch.arange(num_items)
    graph["user", "interacts", "item"].edge_index = torch.stack([torch.zeros_like(items), items])
    return MessageGraph.from_hetero_data(graph)


@pytest.mark.parametrize(
    ("num_items", "reads_order", "loss"),
    [(2_000, True, "softmax"), (2_001, True, "sampled-softmax"), (2_001, False, "softmax")],
)
def test_fewer_items_compete_in_full_where_order_is_read(num_items: int, reads_order: bool, loss: str) -> None:
    objective = Objective(everything_chosen_once(num_items), TrainingConfig(), reads_order=reads_order)
    assert objective.loss == loss


def test_fewer_candidates_are_drawn_where_order_is_read() -> None:
    graph, config = everything_chosen_once(20_000), TrainingConfig(loss="sampled-softmax")
    for reads_order, expected in ((True, 2 * 1_024), (False, 2 * 4_096)):
        objective = Objective(graph, config, reads_order=reads_order)
        drawn = len(objective.draw_candidates(torch.Generator().manual_seed(0)))
        assert drawn == pytest.approx(20_000 * (1 - np.exp(-expected / 20_000)), rel=0.02)
        assert objective.log_inclusion.exp().sum() == pytest.approx(drawn, rel=0.02)


@pytest.mark.parametrize(("num_items", "expected"), [(40, 0.25), (40_000, 0.125), (200_000, 0.075)])
def test_the_softmax_is_sharper_where_more_items_compete(num_items: int, expected: float) -> None:
    message_graph = everything_chosen_once(num_items)
    assert Objective(message_graph, TrainingConfig(temperature=0.25)).temperature == pytest.approx(expected)
    assert Objective(message_graph, TrainingConfig(temperature=0.25, loss="bpr")).temperature == 0.25
