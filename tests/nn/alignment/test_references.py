"""Alignment objectives against textbook numbers, plain formulas and independent libraries."""

import math
import warnings
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gnnrec.nn.alignment import AlignedRows
from gnnrec.nn.alignment.adversarial import Adversarial, reverse_gradient
from gnnrec.nn.alignment.co_training import CoTraining, disagreement
from gnnrec.nn.alignment.contrast import TEMPERATURE, InfoNCE, contrast
from gnnrec.nn.alignment.distance import Distance, mean_alignment
from gnnrec.nn.alignment.distribution import coral, maximum_mean_discrepancy
from gnnrec.nn.alignment.multi_task import MultiTask
from gnnrec.nn.alignment.transport import OptimalTransport, neighbour_graph, sinkhorn


@pytest.fixture(scope="module")
def ot() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # POT's docstrings hold escape sequences that Python warns about
        import ot
    return ot


def both(first: torch.Tensor, second: torch.Tensor) -> AlignedRows:
    z = torch.stack([first, second], dim=1)
    return AlignedRows(z, torch.ones(z.shape[:2], dtype=torch.bool))


def test_the_textbook_example_of_alignment_by_distance() -> None:
    text, image = torch.tensor([0.8, 0.3, 0.5]), torch.tensor([1.0, 0.5, -0.3])
    aligned = mean_alignment(torch.stack([text, image])[None], torch.ones(1, 2, dtype=torch.bool))[0]
    torch.testing.assert_close(aligned, torch.tensor([0.9, 0.4, 0.1]))
    assert F.cosine_similarity(text, aligned, dim=0).item() == pytest.approx(0.908, abs=5e-4)
    # The image is longer, so the mean leans towards it: 1.07 / (√1.34 · √.98). For both to be equal, lengths must be.
    assert F.cosine_similarity(image, aligned, dim=0).item() == pytest.approx(0.934, abs=5e-4)
    unit = F.normalize(torch.stack([text, image]))
    aligned = mean_alignment(unit[None], torch.ones(1, 2, dtype=torch.bool))
    assert F.cosine_similarity(unit, aligned).tolist() == pytest.approx([0.921, 0.921], abs=5e-4)


def test_the_mean_counts_only_what_is_there() -> None:
    z = torch.tensor([[[2.0, 4.0], [99.0, 99.0]], [[99.0, 99.0], [99.0, 99.0]]])
    present = torch.tensor([[True, False], [False, False]])
    assert mean_alignment(z, present).tolist() == [[2.0, 4.0], [0.0, 0.0]]


def test_the_mean_minimises_the_squared_distance() -> None:
    z = torch.randn(1, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    aligned = mean_alignment(z, torch.ones(1, 3, dtype=torch.bool)).requires_grad_()
    ((z[0] - aligned) ** 2).sum().backward()
    assert aligned.grad is not None
    torch.testing.assert_close(aligned.grad, torch.zeros(1, 4, dtype=torch.float64))


def test_distance_is_vicreg() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(scale=0.5, size=(2, 30, 4))

    def spread(x: np.ndarray) -> float:
        covariance = np.cov(x.T)
        shortfall = np.maximum(0, 1 - np.sqrt(covariance.diagonal() + 1e-4)).mean()
        shared = (covariance[~np.eye(4, dtype=bool)] ** 2).sum() / 4
        return float(25 * shortfall + shared)

    expected = 25 * ((a - b) ** 2).mean() + (spread(a) + spread(b)) / 2
    loss = Distance(2, 4)(both(torch.tensor(a), torch.tensor(b)))
    assert loss.item() == pytest.approx(expected)


def test_distance_does_not_reward_collapse() -> None:
    rows = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    collapsed = torch.zeros(50, 4)
    assert Distance(2, 4)(both(collapsed, collapsed)) > Distance(2, 4)(both(2 * rows, 2 * rows))


def test_infonce_is_symmetric_cross_entropy() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(12, 5, requires_grad=True), torch.randn(12, 5, requires_grad=True)
    loss = InfoNCE(2, 5, temperature=0.3)(both(a, b))
    logits = F.normalize(a) @ F.normalize(b).T / 0.3
    target = torch.arange(12)
    expected = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, (a, b)), torch.autograd.grad(expected, (a, b)))


def test_infonce_judges_each_pair_of_modalities_on_the_owners_of_both() -> None:
    torch.manual_seed(0)
    z = torch.randn(9, 3, 4)
    present = torch.ones(9, 3, dtype=torch.bool)
    present[:4, 2] = False
    pairs = [both(z[:, 0], z[:, 1]), both(z[4:, 0], z[4:, 2]), both(z[4:, 1], z[4:, 2])]
    expected = torch.stack([InfoNCE(2, 4)(pair) for pair in pairs]).mean()
    torch.testing.assert_close(InfoNCE(3, 4)(AlignedRows(z, present)), expected)


@pytest.mark.parametrize("shape", [(6, 6), (5, 9)])
def test_sinkhorn_is_that_of_pot(ot: ModuleType, shape: tuple[int, int]) -> None:
    cost = np.random.default_rng(0).random(shape)
    rows, columns = shape
    expected = ot.sinkhorn(np.full(rows, 1 / rows), np.full(columns, 1 / columns), cost, reg=0.2, stopThr=1e-12)
    plan = sinkhorn(torch.tensor(cost), 0.2, iterations=200).exp().numpy()
    np.testing.assert_allclose(plan, expected, atol=1e-9)


def test_transport_is_least_for_the_true_matching() -> None:
    z = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    right, wrong = OptimalTransport(2, 6)(both(z, z)), OptimalTransport(2, 6)(both(z, z.flip(0)))
    assert right < 0.3
    assert wrong > 3


def test_transport_draws_from_a_large_batch_and_keeps_the_pairs_together() -> None:
    torch.manual_seed(0)
    z = torch.randn(700, 6)
    z[0] = 5.0  # an owner that is drawn in some steps only
    objective = OptimalTransport(2, 6)
    gradients = []
    for _ in range(6):
        first = z.clone().requires_grad_()
        objective(both(first, z)).backward()
        touched = first.grad.abs().sum(dim=1) > 0
        assert touched.sum() == 512
        gradients.append(bool(touched[0]))
    assert len(set(gradients)) == 2
    assert objective(both(z, z)) < objective(both(z, z.flip(0))) - 2


def test_graph_matching_is_the_gromov_wasserstein_cost_of_the_true_plan(ot: ModuleType) -> None:
    torch.manual_seed(0)
    a, b = F.normalize(torch.randn(7, 4)).double(), F.normalize(torch.randn(7, 4)).double()
    graphs = neighbour_graph(a, 0.1), neighbour_graph(b, 0.1)
    torch.testing.assert_close(graphs[0].sum(dim=1), torch.ones(7, dtype=torch.float64))
    assert not graphs[0].diagonal().any()
    log_plan = sinkhorn(1 - a @ b.T, 0.1, OptimalTransport.iterations)
    structure = OptimalTransport(2, 4)(both(a, b)) + (log_plan.diagonal() + math.log(7)).mean()
    # POT's cost under the plan I/n is the mean over all n² pairs; ours sums over the second of each pair.
    true_plan = np.eye(7) / 7
    tensor = ot.gromov.init_matrix(graphs[0].numpy(), graphs[1].numpy(), np.full(7, 1 / 7), np.full(7, 1 / 7))
    expected = 7 * ot.gromov.gwloss(*tensor, true_plan)
    assert structure.item() == pytest.approx(expected)


def test_coral_is_the_distance_of_covariances() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 20, 3)) * [[[1.0]], [[2.0]]]
    expected = ((np.cov(a.T) - np.cov(b.T)) ** 2).sum() / (4 * 3**2)
    assert coral(torch.tensor(a), torch.tensor(b)).item() == pytest.approx(expected)


def test_mmd_is_the_plain_formula_with_the_median_heuristic() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(8, 3)), rng.normal(loc=1.0, size=(5, 3))

    def squared(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return ((x[:, None] - y[None]) ** 2).sum(axis=2)

    every = np.concatenate([a, b])
    distances = np.sort(squared(every, every)[np.triu_indices(13, 1)])
    median = distances[(len(distances) - 1) // 2]  # the lower one of an even number, as torch has it
    expected = sum(sign * np.exp(-squared(x, y) / median).mean() for sign, x, y in [(1, a, a), (1, b, b), (-2, a, b)])
    assert maximum_mean_discrepancy(torch.tensor(a), torch.tensor(b)).item() == pytest.approx(expected)


def test_mmd_sees_what_mean_and_covariance_do_not() -> None:
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(400, 1, generator=generator)
    two_points = torch.randint(2, (400, 1), generator=generator) * 2.0 - 1
    alike = maximum_mean_discrepancy(normal[:200], normal[200:])
    assert coral(normal, two_points) < 0.01
    assert maximum_mean_discrepancy(normal, two_points) > 5 * alike


def test_reversal_keeps_values_and_flips_gradients() -> None:
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    reversed_ = reverse_gradient(x)
    assert reversed_.tolist() == [1.0, -2.0]
    (3 * reversed_).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [-3.0, -3.0]


def test_the_discriminator_is_fooled_in_the_end() -> None:
    """Two modalities apart by an offset: without reversal they are told apart at once, with it they move together."""
    torch.manual_seed(0)
    z = torch.randn(100, 2, 4) + torch.tensor([[1.0], [-1.0]])
    offset = torch.zeros(2, 4, requires_grad=True)
    objective = Adversarial(2, 4)
    optimizer = torch.optim.Adam([offset, *objective.parameters()], lr=0.02)
    present = torch.ones(100, 2, dtype=torch.bool)
    apart = (z.mean(dim=0)[0] - z.mean(dim=0)[1]).norm()
    for _ in range(300):
        optimizer.zero_grad()
        objective(AlignedRows(z + offset, present)).backward()
        optimizer.step()
    moved = (z + offset).mean(dim=0)
    assert (moved[0] - moved[1]).norm() < 0.5 * apart
    assert objective(AlignedRows(z + offset, present)).item() > 0.8 * math.log(2)


def test_disagreement_is_the_mean_of_both_divergences() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(6, 9), torch.randn(6, 9)
    p, q = a.log_softmax(1), b.log_softmax(1)
    expected = (
        F.kl_div(q, p, reduction="batchmean", log_target=True) + F.kl_div(p, q, reduction="batchmean", log_target=True)
    ) / 2
    torch.testing.assert_close(disagreement(a, b), expected)
    assert disagreement(a, a + 5).item() == pytest.approx(0, abs=1e-6)  # a ranking does not change by a constant


def test_users_teach_the_rankers_to_agree() -> None:
    torch.manual_seed(0)
    users, z = torch.randn(40, 4), torch.randn(25, 2, 4)
    weight = torch.eye(4).requires_grad_()
    present = torch.ones(25, 2, dtype=torch.bool)
    turn = torch.linalg.qr(torch.randn(4, 4)).Q
    z[:, 1] = z[:, 0] @ turn
    optimizer = torch.optim.Adam([weight], lr=0.05)
    for _ in range(200):
        turned = torch.stack([z[:, 0], z[:, 1] @ weight], dim=1)
        loss = CoTraining(2, 4)(AlignedRows(turned, present, scores_by=users))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    cosine = F.cosine_similarity(z[:, 1] @ weight, z[:, 0])
    assert F.cosine_similarity(z[:, 1], z[:, 0]).mean() < 0.5
    assert cosine.min() > 0.95


def test_owners_that_are_ranked_without_users_are_not_pulled_along() -> None:
    """What ranks them is the mean of both modalities as it stands."""
    torch.manual_seed(0)
    z = F.normalize(torch.randn(6, 2, 4), dim=2).requires_grad_()
    CoTraining(2, 4)(AlignedRows(z, torch.ones(6, 2, dtype=torch.bool))).backward()
    by_hand = z.detach().clone().requires_grad_()
    first, second = F.normalize(by_hand, dim=2).unbind(1)
    means = F.normalize(z.detach().sum(dim=1)) / TEMPERATURE
    (contrast(first, second) + disagreement(first @ means.T, second @ means.T)).backward()
    torch.testing.assert_close(z.grad, by_hand.grad)


def test_each_kind_of_label_has_its_loss_and_unknown_ones_none() -> None:
    torch.manual_seed(0)
    objective = MultiTask(1, 3, {"category": 4, "rating": 1, "genres": 2})
    z = torch.randn(3, 1, 3)
    labels = {
        "category": torch.tensor([2, -1, 0]),
        "rating": torch.tensor([0.5, torch.nan, -1.0]),
        "genres": torch.tensor([[1.0, 0.0], [torch.nan, torch.nan], [1.0, 1.0]]),
    }
    known = z[[0, 2], 0]
    category, rating, genres = (head(known) for head in objective.heads)
    expected = (
        F.cross_entropy(category, torch.tensor([2, 0]))
        + F.mse_loss(rating[:, 0], torch.tensor([0.5, -1.0]))
        + F.binary_cross_entropy_with_logits(genres, labels["genres"][[0, 2]])
    ) / 3
    loss = objective(AlignedRows(z, torch.ones(3, 1, dtype=torch.bool), labels=labels))
    torch.testing.assert_close(loss, expected)


def test_each_modality_counts_alike_against_the_discriminator(paired_rows: Callable[..., AlignedRows]) -> None:
    """However many owners have it."""
    rows = paired_rows(num_owners=10)
    rows.present[:8, 1] = False
    objective = Adversarial(2, 8)
    logits = objective.discriminator(F.normalize(rows.z, dim=-1))
    of_first = F.cross_entropy(logits[:, 0], torch.zeros(10, dtype=torch.int64))
    of_second = F.cross_entropy(logits[8:, 1], torch.ones(2, dtype=torch.int64))
    torch.testing.assert_close(objective(rows), (of_first + of_second) / 2)
