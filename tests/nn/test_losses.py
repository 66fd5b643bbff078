import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnrec.nn import losses
from gnnrec.nn.losses import binary_cross_entropy, bpr, full_softmax, info_nce, sampled_softmax


def normal(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("block_scores", [1, 11 * 3, 11 * 5 + 4, 10**6])
@pytest.mark.parametrize("temperature", [0.1, 1.0, 3.0])
def test_full_softmax_equals_cross_entropy(
    block_scores: int, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "_BLOCK_SCORES", block_scores)
    users, items = normal(8, 4).requires_grad_(), normal(11, 4, seed=1).requires_grad_()
    # User 0 has three positives, one of them twice; users 4 and 6 have none.
    row, positive = torch.tensor([0, 7, 0, 3, 2, 0, 1, 5, 3, 0]), torch.tensor([0, 10, 3, 3, 3, 7, 0, 1, 9, 3])
    loss = full_softmax(users, items, row, positive, temperature)
    expected = F.cross_entropy(users[row] @ items.T / temperature, positive)
    torch.testing.assert_close(loss, expected)
    # Scaled, so that the incoming gradient matters too.
    gradients = (torch.autograd.grad(2.5 * value, (users, items)) for value in (loss, expected))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), batch=st.integers(1, 6), num_items=st.integers(1, 6), size=st.floats(0.01, 200))
def test_full_softmax_survives_scores_of_any_size(seed: int, batch: int, num_items: int, size: float) -> None:
    users, items = normal(batch, 3, seed=seed) * size, normal(num_items, 3, seed=seed + 1)
    row, positive = torch.randint(1000, (2, 7), generator=torch.Generator().manual_seed(seed))
    row, positive = row % batch, positive % num_items
    loss = full_softmax(users, items, row, positive, 0.2)
    torch.testing.assert_close(loss, F.cross_entropy(users[row] @ items.T / 0.2, positive), atol=1e-2, rtol=1e-4)


def test_full_softmax_is_summed_in_single_precision_under_autocast() -> None:
    users, items, row = normal(6, 4).requires_grad_(), normal(300, 4, seed=1), torch.arange(6)
    expected = full_softmax(users, items, row, row, 0.2)
    with torch.autocast("cpu", torch.bfloat16):
        loss = full_softmax(users, items, row, row, 0.2)
    assert torch.equal(loss, expected)
    assert torch.equal(*(torch.autograd.grad(value, users)[0] for value in (loss, expected)))


ROW, POSITIVE = torch.tensor([0, 7, 0, 3, 2, 0, 1, 5, 3, 0]), torch.tensor([0, 10, 3, 3, 3, 7, 0, 1, 9, 3])


@pytest.mark.parametrize("block_scores", [1, 11 * 3, 10**6])
def test_sampling_every_item_gives_the_full_softmax(block_scores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "_BLOCK_SCORES", block_scores)
    users, items = normal(8, 4).requires_grad_(), normal(11, 4, seed=1).requires_grad_()
    loss = sampled_softmax(users, items[POSITIVE], items, torch.zeros(11), row=ROW, own=POSITIVE, temperature=0.3)
    expected = full_softmax(users, items, ROW, POSITIVE, 0.3)
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(
        *(torch.autograd.grad(2.5 * value, (users, items)) for value in (loss, expected)), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("block_scores", [1, 10**6])
def test_sampled_softmax_has_the_value_and_gradient_of_its_formula(
    block_scores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "_BLOCK_SCORES", block_scores)
    users, items, positives = (normal(size, 3, seed=size).double().requires_grad_() for size in (8, 5, 10))
    chosen = torch.tensor([0, 3, 7, 9, 10])
    own = torch.tensor([int((chosen == item).nonzero()[0]) if item in chosen else -1 for item in POSITIVE])
    log_probability = -normal(5, seed=3).double().abs()

    def by_formula(users: torch.Tensor, positives: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        positive_score = (users[ROW] * positives).sum(-1, keepdim=True) / 0.5
        scores = (users[ROW] @ items.T / 0.5 - log_probability).masked_fill(own[:, None] == torch.arange(5), -torch.inf)
        return (torch.logsumexp(torch.cat([positive_score, scores], dim=1), dim=1) - positive_score[:, 0]).mean()

    def ours(users: torch.Tensor, positives: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        return sampled_softmax(users, positives, items, log_probability, row=ROW, own=own, temperature=0.5)

    inputs = (users, positives, items)
    torch.testing.assert_close(ours(*inputs), by_formula(*inputs))
    assert torch.autograd.gradcheck(ours, inputs)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), size=st.floats(0.01, 200))
def test_sampled_softmax_survives_scores_of_any_size(seed: int, size: float) -> None:
    users, items = (normal(8, 3, seed=seed) * size).requires_grad_(), normal(11, 3, seed=seed + 1)
    own = torch.where(POSITIVE < 6, POSITIVE, -1)
    log_probability = torch.full((6,), -3.0)
    loss = sampled_softmax(users, items[POSITIVE], items[:6], log_probability, row=ROW, own=own, temperature=0.2)
    assert torch.isfinite(loss)
    assert loss >= -1e-4
    assert torch.isfinite(torch.autograd.grad(loss, users)[0]).all()


def test_the_correction_makes_the_normaliser_unbiased() -> None:
    """The mean over many samples of the corrected sum of exponentials is the sum over all items."""
    rng = np.random.default_rng(0)
    num_items, drawn, draws = 12, 5, 2000
    user, items, positive = normal(1, 3), normal(num_items, 3, seed=1), normal(1, 3, seed=2)
    probability = rng.dirichlet(np.ones(num_items))
    log_inclusion = torch.from_numpy(np.log1p(-((1 - probability) ** drawn))).float()
    positive_score = (user * positive).sum()
    totals, nowhere = [], torch.tensor([-1])
    for _ in range(draws):
        chosen = torch.from_numpy(np.unique(rng.choice(num_items, size=drawn, p=probability)))
        loss = sampled_softmax(
            user, positive, items[chosen], log_inclusion[chosen], row=torch.tensor([0]), own=nowhere, temperature=1.0
        )
        totals.append(((loss + positive_score).exp() - positive_score.exp()).item())
    exact = (user @ items.T).exp().sum().item()
    standard_error = np.std(totals) / draws**0.5
    assert standard_error < 0.1 * exact
    assert abs(np.mean(totals) - exact) < 4 * standard_error


@pytest.mark.parametrize("negatives", [None, 1, 3])
def test_bpr_is_the_log_of_the_chance_of_the_right_order(negatives: int | None) -> None:
    positive = normal(6)
    negative = normal(6, seed=1) if negatives is None else normal(6, negatives, seed=1)
    wide = negative if negatives else negative[:, None]
    expected = -torch.sigmoid(positive[:, None] - wide).log().mean()
    torch.testing.assert_close(bpr(positive, negative), expected)
    assert bpr(torch.tensor([200.0]), torch.tensor([-200.0])) == 0
    assert bpr(torch.tensor([-200.0]), torch.tensor([200.0])) == 400


@pytest.mark.parametrize("negatives", [1, 4])
def test_binary_cross_entropy_weighs_positives_and_negatives_alike(negatives: int) -> None:
    positive, negative = normal(6), normal(6, negatives, seed=1)
    of_positives = F.binary_cross_entropy_with_logits(positive, torch.ones(6))
    of_negatives = F.binary_cross_entropy_with_logits(negative, torch.zeros(6, negatives))
    torch.testing.assert_close(binary_cross_entropy(positive, negative), (of_positives + of_negatives) / 2)


def test_info_nce_is_the_symmetric_cross_entropy_of_clip() -> None:
    left, right = F.normalize(normal(7, 4)).requires_grad_(), F.normalize(normal(7, 4, seed=1)).requires_grad_()
    logits, target = left @ right.T / 0.1, torch.arange(7)
    expected = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    loss = info_nce(left, right, 0.1)
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(
        torch.autograd.grad(loss, (left, right)), torch.autograd.grad(expected, (left, right)), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_full_softmax_keeps_double_precision() -> None:
    users, items = (normal(*size, seed=size[0]).double().requires_grad_() for size in ((4, 3), (6, 3)))
    row, positive = torch.tensor([0, 1, 1, 3]), torch.tensor([5, 0, 2, 2])
    assert torch.autograd.gradcheck(lambda *given: full_softmax(*given, row, positive, 0.5), (users, items))
