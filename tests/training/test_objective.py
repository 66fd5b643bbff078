from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gnnrec.nn.losses import binary_cross_entropy, bpr
from gnnrec.nn.message_graph import MessageGraph
from gnnrec.nn.model import Embeddings, MultimodalGraphModel
from gnnrec.training import objective as objective_module
from gnnrec.training.config import TrainingConfig
from gnnrec.training.objective import Objective


@pytest.fixture
def embeddings(model: MultimodalGraphModel, graph: MessageGraph) -> Embeddings:
    with torch.no_grad():
        return model(graph)


def terms(graph: MessageGraph, embeddings: Embeddings, seed: int = 0, **options) -> dict[str, Tensor]:
    """The terms for a batch of all interactions."""
    objective = Objective(graph, TrainingConfig(**options))
    return objective(embeddings, *graph.edge_index, torch.Generator().manual_seed(seed))


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


def test_sampled_softmax_estimates_the_full_one(graph: MessageGraph, embeddings: Embeddings) -> None:
    # Longer vectors, so that items differ a lot in their share of the normaliser.
    embeddings = replace(embeddings, user=3 * embeddings.user)
    expected = cross_entropy_over_known_items(graph, embeddings, 0.5)
    sampled = [terms(graph, embeddings, seed, loss="sampled-softmax", temperature=0.5)["ranking"] for seed in range(5)]
    assert torch.stack(sampled).mean().item() == pytest.approx(expected.item(), rel=0.01)
    assert len({value.item() for value in sampled}) == 5


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
    torch.testing.assert_close(objective(embeddings, user, item, torch.Generator().manual_seed(5))["ranking"], expected)


def test_regularisation_is_half_the_squared_length_of_the_batch(graph: MessageGraph, embeddings: Embeddings) -> None:
    user, item = graph.edge_index
    user_zero, item_zero = embeddings.layer_zero.split([graph.num_users, graph.num_items])
    expected = 0.5 * (user_zero[user].square().sum(dim=1) + item_zero[item].square().sum(dim=1)).mean()
    regularisation = terms(graph, embeddings, auxiliary={"regularisation": 0.01})["regularisation"]
    torch.testing.assert_close(regularisation, 0.01 * expected)


def test_alignment_contrasts_content_with_behaviour(graph: MessageGraph, embeddings: Embeddings) -> None:
    items = (graph.item_degree > 0).nonzero().flatten()
    content = F.normalize(embeddings.item_content.x[items])
    behaviour = F.normalize(embeddings.propagated[graph.num_users + items])
    logits, target = content @ behaviour.T / 0.2, torch.arange(len(items))
    expected = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    alignment = terms(graph, embeddings, auxiliary={"alignment": 2.0})["alignment"]
    torch.testing.assert_close(alignment, 2 * expected)


def test_alignment_passes_over_items_without_media(graph: MessageGraph, embeddings: Embeddings) -> None:
    without = replace(embeddings, item_content=None)
    assert terms(graph, without, auxiliary={"alignment": 1.0})["alignment"] == 0
    absent = replace(embeddings.item_content, present=torch.zeros(graph.num_items, dtype=torch.bool))
    nobody = replace(embeddings, item_content=absent)
    assert terms(graph, nobody, auxiliary={"alignment": 1.0})["alignment"] == 0


def test_a_weight_of_zero_leaves_the_term_out(graph: MessageGraph, embeddings: Embeddings) -> None:
    assert terms(graph, embeddings, auxiliary={"alignment": 0.0}).keys() == {"ranking"}
