"""Metrics against a hand-worked example, PyG, torchmetrics, scikit-learn and properties that must hold."""

import doctest
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from torch import Tensor

from gnnrec.errors import ConfigError
from gnnrec.evaluation import metrics
from gnnrec.evaluation.metrics import METRICS, area_under_curve, parse_metric

with warnings.catch_warnings():  # both warn about torch.jit on import
    warnings.simplefilter("ignore")
    import torchmetrics.functional.retrieval as torchmetrics
    from torch_geometric import metrics as pyg

PYG = {
    "recall": pyg.LinkPredRecall,
    "precision": pyg.LinkPredPrecision,
    "f1": pyg.LinkPredF1,
    "hit_rate": pyg.LinkPredHitRatio,
    "ndcg": pyg.LinkPredNDCG,
    "mrr": pyg.LinkPredMRR,
    "map": pyg.LinkPredMAP,
}
# Not the same by definition: F1 (absent there) and MAP (averaged over the hits found, not over those possible).
TORCHMETRICS = {
    "recall": torchmetrics.retrieval_recall,
    "precision": torchmetrics.retrieval_precision,
    "hit_rate": torchmetrics.retrieval_hit_rate,
    "ndcg": torchmetrics.retrieval_normalized_dcg,
    "mrr": torchmetrics.retrieval_reciprocal_rank,
}


def rankings(seed: int, users: int = 40, items: int = 30) -> tuple[Tensor, Tensor]:
    """Returns the order of all items ``[users, items]`` and the relevance of each item; everyone has a test item."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(users, items, generator=generator).argsort(dim=1)
    relevant = torch.rand(users, items, generator=generator) < torch.rand(users, 1, generator=generator) * 0.5
    relevant[:, 0] |= ~relevant.any(dim=1)
    return order, relevant


def hits_of(order: Tensor, relevant: Tensor) -> tuple[Tensor, Tensor]:
    return relevant.gather(1, order), relevant.sum(dim=1)


def test_worked_example() -> None:
    # Four places, hits at ranks 2 and 4, three test items.
    hits, num_relevant = torch.tensor([[False, True, False, True]]), torch.tensor([3])
    wanted = {
        "recall": 2 / 3,
        "precision": 2 / 4,
        "f1": 2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4),
        "hit_rate": 1.0,
        "ndcg": (1 / math.log2(3) + 1 / math.log2(5)) / (1 + 1 / math.log2(3) + 1 / math.log2(4)),
        "mrr": 1 / 2,
        "map": (1 / 2 + 2 / 4) / 3,
    }
    assert {name: metric(hits, num_relevant, 4).item() for name, metric in METRICS.items()} == pytest.approx(wanted)
    # The first place alone is a miss; a user without test items scores 0; nothing is divided by 0.
    for metric in METRICS.values():
        assert metric(hits, num_relevant, 1).tolist() == [0.0]
        assert metric(torch.zeros(1, 4, dtype=torch.bool), torch.tensor([0]), 4).tolist() == [0.0]
        assert metric(torch.zeros(1, 0, dtype=torch.bool), torch.tensor([2]), 4).tolist() == [0.0]


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("k", [1, 5, 30])
def test_mean_equals_pyg(name: str, k: int) -> None:
    order, relevant = rankings(seed=k)
    reference = PYG[name](k)
    reference.update(order[:, :k], relevant.nonzero().T)
    ours = METRICS[name](*hits_of(order, relevant), k)
    assert ours.dtype == torch.float64
    assert ours.mean().item() == pytest.approx(reference.compute().item(), abs=1e-6)


@pytest.mark.parametrize("name", TORCHMETRICS)
@pytest.mark.parametrize("k", [1, 5, 30])
def test_each_user_equals_torchmetrics(name: str, k: int) -> None:
    order, relevant = rankings(seed=k)
    scores = 1 / (1 + order.argsort(dim=1))  # torchmetrics ignores items with scores below 0
    ours = METRICS[name](*hits_of(order, relevant), k)
    reference = [float(TORCHMETRICS[name](s, r, top_k=k)) for s, r in zip(scores, relevant, strict=True)]
    np.testing.assert_allclose(ours.numpy(), reference, atol=1e-6)


def test_map_of_the_whole_ranking_equals_torchmetrics() -> None:
    # At full length, hits found and hits possible are the same, so the definitions meet.
    order, relevant = rankings(seed=3)
    scores = 1 / (1 + order.argsort(dim=1))  # torchmetrics ignores items with scores below 0
    reference = [float(torchmetrics.retrieval_average_precision(s, r)) for s, r in zip(scores, relevant, strict=True)]
    np.testing.assert_allclose(METRICS["map"](*hits_of(order, relevant), 30).numpy(), reference, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 40))
def test_properties(seed: int, k: int) -> None:
    order, relevant = rankings(seed % 2**31, users=6, items=12)
    hits, num_relevant = hits_of(order, relevant)
    ideal = hits.sort(dim=1, descending=True).values
    people = torch.randperm(6)
    for name, metric in METRICS.items():
        values = metric(hits, num_relevant, k)
        assert ((values >= 0) & (values <= 1 + 1e-12)).all()
        # Users do not influence each other, what is below rank k does not count, missing places are misses.
        torch.testing.assert_close(metric(hits[people], num_relevant[people], k), values[people])
        torch.testing.assert_close(metric(hits[:, :k], num_relevant, k), values)
        # No order of the same places is better than all hits first.
        best = metric(ideal, num_relevant, k)
        assert (best >= values - 1e-12).all()
        if name in ("ndcg", "map"):
            torch.testing.assert_close(best, torch.ones_like(best))
        if name in ("recall", "hit_rate", "mrr"):
            assert (metric(hits, num_relevant, k + 1) >= values).all()


@pytest.mark.parametrize("levels", [3, 10**6])
def test_area_under_curve_equals_scikit_learn(levels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    _, relevant = rankings(seed=5)
    scores = torch.randint(0, levels, relevant.shape, generator=generator).float()
    candidate = (torch.rand(relevant.shape, generator=generator) < 0.7) | relevant
    row, column = relevant.nonzero().T
    ours = area_under_curve(scores.where(candidate, -torch.inf), row, column)
    reference = [roc_auc_score(r[c].numpy(), s[c].numpy()) for s, r, c in zip(scores, relevant, candidate, strict=True)]
    np.testing.assert_allclose(ours.numpy(), reference)


def test_area_under_curve_at_the_edges() -> None:
    scores = torch.tensor(
        [[2.0, 1.0, -torch.inf, 0.0], [1.0, -torch.inf, -torch.inf, -torch.inf], [3.0, 2.0, 1.0, 0.0]]
    )
    # Row 0: item 1 beats one of the two others, hidden item 2 none. Row 1: nothing to beat. Row 2: no test item.
    row, column = torch.tensor([0, 0, 1]), torch.tensor([1, 2, 0])
    assert area_under_curve(scores, row, column).tolist() == [0.25, 0.5, 0.0]


@pytest.mark.parametrize("name", METRICS)
def test_arrays_are_taken_for_tensors(name: str) -> None:
    hits, num_relevant = hits_of(*rankings(seed=1))
    assert torch.equal(METRICS[name](hits.numpy(), num_relevant.numpy(), 3), METRICS[name](hits, num_relevant, 3))


def test_the_area_under_the_curve_of_arrays() -> None:
    area = area_under_curve(np.array([[3.0, 2.0, 1.0]]), row=np.array([0]), column=np.array([1]))
    assert area.tolist() == [0.5]


@pytest.mark.parametrize("name", METRICS)
def test_parse_metric(name: str) -> None:
    assert parse_metric(f"{name}@20") == (name, 20)


def test_parse_auc() -> None:
    assert parse_metric("auc") == ("auc", None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("recal@20", "unknown metric 'recal@20'; did you mean 'recall'?"),
        ("recall", "needs the length of the list, as in 'recall@20'"),
        ("recall@0", "needs the length"),
        ("recall@-1", "needs the length"),
        ("recall@ten", "needs the length"),
        ("auc@5", "write 'auc'"),
    ],
)
def test_parse_metric_explains_mistakes(name: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_metric(name)
    assert message in str(error.value)


def test_examples_in_the_docstrings() -> None:
    outcome = doctest.testmod(metrics)
    assert outcome.attempted >= 8
    assert outcome.failed == 0
