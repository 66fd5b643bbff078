"""What holds for every alignment objective, and for their weighted sum."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnnrec.errors import ConfigError
from gnnrec.nn.alignment import OBJECTIVES, AlignedRows, WeightedObjectives
from gnnrec.nn.alignment.multi_task import MultiTask

NUM_MODALITIES, DIM, TASKS = 2, 8, {"genre": 3}
RowMaker = Callable[..., AlignedRows]
NAMES = pytest.mark.parametrize("name", OBJECTIVES)
# Adversarial: the loss is the discriminator's, which rises as it is fooled; it has a test of its own.
FALLING = pytest.mark.parametrize("name", sorted(set(OBJECTIVES) - {"adversarial"}))
NETWORKS = ("concatenation", "cross-attention", "generative")


def labelled(rows: AlignedRows) -> AlignedRows:
    return replace(rows, labels={"genre": (rows.z[:, 0, 0] > 0).long() + (rows.z[:, 0, 1] > 0).long()})


def build(name: str, dim: int = DIM, num_modalities: int = NUM_MODALITIES) -> nn.Module:
    torch.manual_seed(0)
    return MultiTask(num_modalities, dim, TASKS) if name == "multi-task" else OBJECTIVES[name](num_modalities, dim)


def train(name: str, rows: AlignedRows, steps: int = 100) -> tuple[list[float], Callable[[Tensor, int], Tensor]]:
    """Trains one projection per modality, and the objective's own network if it has one; returns losses and the way."""
    objective = build(name)
    projections = nn.ModuleList(nn.Linear(DIM, DIM, bias=False) for _ in range(NUM_MODALITIES))
    optimizer = torch.optim.Adam([*projections.parameters(), *objective.parameters()], lr=0.02)
    losses = []
    for _ in range(steps):
        z = torch.stack([projections[m](rows.z[:, m]) for m in range(NUM_MODALITIES)], dim=1)
        loss = objective(replace(rows, z=z))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    objective.eval()
    return losses, lambda z, modality: objective.transform(projections[modality](z), modality)


def recall_at_1(left: Tensor, right: Tensor) -> float:
    best = (F.normalize(left) @ F.normalize(right).T).argmax(dim=1)
    return (best == torch.arange(len(left))).float().mean().item()


@pytest.mark.parametrize(
    ("name", "at_least"),
    [
        ("distance", 0.8),
        ("infonce", 0.9),
        ("concatenation", 0.8),
        ("cross-attention", 0.8),
        ("generative", 0.6),
        ("optimal-transport", 0.9),
        ("co-training", 0.9),
    ],
)
def test_held_out_owners_are_found_by_the_other_modality(name: str, at_least: float, paired_rows: RowMaker) -> None:
    rows = paired_rows(num_owners=300)
    held_out = rows.z[250:]
    assert recall_at_1(held_out[:, 0], held_out[:, 1]) < 0.1  # one in fifty by chance
    _, way = train(name, AlignedRows(rows.z[:250], rows.present[:250]))
    with torch.no_grad():
        first, second = way(held_out[:, 0], 0), way(held_out[:, 1], 1)
    assert recall_at_1(first, second) >= at_least
    assert recall_at_1(second, first) >= at_least


@FALLING
def test_the_loss_falls(name: str, paired_rows: RowMaker) -> None:
    losses, _ = train(name, labelled(paired_rows()))
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


@NAMES
def test_the_loss_is_not_negative_and_its_gradient_finite(name: str, paired_rows: RowMaker) -> None:
    rows = labelled(paired_rows(num_owners=12))
    z = rows.z.clone().requires_grad_()
    loss = build(name)(replace(rows, z=z))
    assert loss.shape == ()
    assert loss.item() >= 0
    if name != "generative":  # there the generators alone learn
        loss.backward()
        assert z.grad is not None
        assert z.grad.isfinite().all()
        assert (z.grad != 0).any()


@NAMES
def test_nothing_breaks_where_no_owner_has_two_modalities(name: str, paired_rows: RowMaker) -> None:
    rows = paired_rows(num_owners=10)
    z = rows.z.clone().requires_grad_()
    alone = F.one_hot(torch.arange(10) % 2, NUM_MODALITIES).bool()
    labels = {"genre": torch.arange(10) % 3}
    loss = build(name)(AlignedRows(z, alone, labels=labels))
    loss.backward()
    assert loss.isfinite()
    assert z.grad is not None
    assert z.grad.isfinite().all()
    if name not in ("adversarial", "distribution", "multi-task"):  # these learn from single modalities as well
        assert loss.item() == 0
        assert not z.grad.any()


@NAMES
def test_nothing_breaks_without_any_vector_or_label(name: str) -> None:
    z = torch.randn(4, NUM_MODALITIES, DIM, requires_grad=True)
    rows = AlignedRows(z, torch.zeros(4, NUM_MODALITIES, dtype=torch.bool), labels={"genre": torch.full((4,), -1)})
    loss = build(name)(rows)
    loss.backward()
    assert loss.item() == 0
    assert z.grad is not None
    assert not z.grad.any()


@NAMES
def test_absent_vectors_play_no_part(name: str, paired_rows: RowMaker) -> None:
    rows = labelled(paired_rows(num_owners=20, num_modalities=3))
    present = torch.ones(20, 3, dtype=torch.bool)
    present[::2, 1] = False
    objective = build(name, num_modalities=3).eval()
    other = rows.z.clone()
    other[::2, 1] = 100.0
    torch.testing.assert_close(
        objective(replace(rows, present=present)), objective(replace(rows, z=other, present=present))
    )


@NAMES
def test_one_modality_alone_keeps_its_shape_and_starts_as_itself(name: str) -> None:
    objective = build(name).eval()
    z = torch.randn(5, DIM)
    transformed = objective.transform(z, 1)
    expected = 2 * F.normalize(z) if name == "generative" else z
    torch.testing.assert_close(transformed, expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_take_part_once_trained(name: str, paired_rows: RowMaker) -> None:
    rows = paired_rows()
    objective = build(name)
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.01)
    for _ in range(5):
        optimizer.zero_grad()
        objective(rows).backward()
        optimizer.step()
    objective.eval()
    cosine = F.cosine_similarity(objective.transform(rows.z[:, 0], 0), rows.z[:, 0])
    assert cosine.max() < 0.9999
    # A row's answer depends on that row alone.
    torch.testing.assert_close(
        objective.transform(rows.z[:3, 0], 0), objective.transform(rows.z[:, 0], 0)[:3], rtol=1e-4, atol=1e-5
    )


def test_the_weighted_sum_adds_losses_and_leaves_out_weight_zero(paired_rows: RowMaker) -> None:
    rows = paired_rows()
    combined = WeightedObjectives({"infonce": 2.0, "distance": 0.5, "adversarial": 0.0}, NUM_MODALITIES, DIM)
    expected = 2 * build("infonce")(rows) + 0.5 * build("distance")(rows)
    torch.testing.assert_close(combined(rows), expected)
    assert not list(combined.parameters())


def test_the_combination_answers_with_the_weighted_mean_of_directions() -> None:
    torch.manual_seed(0)
    combined = WeightedObjectives({"infonce": 1.0, "concatenation": 3.0}, NUM_MODALITIES, DIM).eval()
    network = combined.objectives["concatenation"]
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    z = torch.randn(4, DIM)
    expected = F.normalize(F.normalize(z) + 3 * F.normalize(network.transform(z, 0)))  # type: ignore[operator]
    torch.testing.assert_close(combined.transform(z, 0), expected)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"infonse": 1.0}, "did you mean 'infonce'"),
        ({"infonce": -1.0}, "'infonce' must be 0 or more, got -1"),
        ({"infonce": float("nan")}, "must be 0 or more, got nan"),
        ({"infonce": 0.0, "distance": 0.0}, "weight above 0"),
        ({}, "weight above 0"),
    ],
)
def test_impossible_weights_are_refused(weights: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        WeightedObjectives(weights, NUM_MODALITIES, DIM)
