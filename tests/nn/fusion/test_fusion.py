"""What every fusion promises."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gnnrec.nn.fusion import FUSIONS, Fused, Fusion, ModalityRows

DIM = 4
LEARNED = sorted(set(FUSIONS) - {"mean"})


@pytest.mark.parametrize("name", FUSIONS)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), num_rows=st.integers(0, 20))
def test_shares_sum_to_one_and_nodes_without_media_are_zero(
    random_rows, away_from_start, name: str, seed: int, num_rows: int
) -> None:
    rows = random_rows(seed, num_rows)
    fused: Fused = away_from_start(FUSIONS[name](3, DIM))(rows, torch.randn(5, DIM))
    present = torch.zeros(5, dtype=torch.bool)
    present[rows.owner_index] = True
    assert torch.equal(fused.present, present)
    assert (fused.attention >= 0).all()
    shares = torch.zeros(5).index_add_(0, rows.owner_index, fused.attention.detach())
    torch.testing.assert_close(shares, present.float())
    assert not fused.x[~present].any()
    assert fused.x[present].any(dim=1).all()


@pytest.mark.parametrize("name", FUSIONS)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_of_rows_is_of_no_account(random_rows, away_from_start, name: str, seed: int) -> None:
    rows, identity = random_rows(seed, 20), torch.randn(5, DIM)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(seed))
    shuffled = ModalityRows(rows.z[order], rows.owner_index[order], rows.modality_index[order], 5)
    fusion = away_from_start(FUSIONS[name](3, DIM))
    fused, again = fusion(rows, identity), fusion(shuffled, identity)
    torch.testing.assert_close(again.x, fused.x, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(again.attention, fused.attention[order], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", FUSIONS)
def test_a_node_hears_of_its_own_rows_only(random_rows, away_from_start, name: str) -> None:
    rows, identity = random_rows(4, 30), torch.randn(5, DIM)
    fusion = away_from_start(FUSIONS[name](3, DIM))
    fused = fusion(rows, identity)
    some = torch.tensor([3, 1])
    alone = fusion(rows.of(some), identity[some])
    torch.testing.assert_close(alone.x, fused.x[some])
    louder = replace(rows, z=torch.where((rows.owner_index == 1)[:, None], 9 * rows.z, rows.z))
    changed = ~torch.isclose(fusion(louder, identity).x, fused.x).all(dim=1)
    assert changed.tolist() == [False, True, False, False, False]


@pytest.mark.parametrize("name", LEARNED)
def test_the_modality_of_a_row_matters(random_rows, away_from_start, name: str) -> None:
    rows = random_rows(5, 20)
    fusion = away_from_start(FUSIONS[name](3, DIM))
    other = replace(rows, modality_index=(rows.modality_index + 1) % 3)
    assert not torch.isclose(fusion(rows, None).x, fusion(other, None).x).all(dim=1).any()


@pytest.mark.parametrize("name", LEARNED)
def test_gradients_reach_every_weight(random_rows, away_from_start, name: str) -> None:
    fusion, rows = away_from_start(FUSIONS[name](3, DIM)), random_rows(3)
    fusion(rows, torch.randn(5, DIM)).x.pow(3).sum().backward()
    gradients: dict[str, Tensor | None] = {name: value.grad for name, value in fusion.named_parameters()}
    assert gradients
    assert all(gradient is not None and gradient.any() for gradient in gradients.values())


@pytest.mark.parametrize("name", FUSIONS)
def test_gradients_are_those_of_finite_differences(random_rows, away_from_start, name: str) -> None:
    fusion, rows = away_from_start(FUSIONS[name](3, DIM)).double(), random_rows(6, 9)
    weights = {name: weight.detach().requires_grad_() for name, weight in fusion.named_parameters()}

    def fused(z: Tensor, identity: Tensor, *values: Tensor) -> Tensor:
        given = dict(zip(weights, values, strict=True))
        x: Tensor = torch.func.functional_call(fusion, given, (replace(rows, z=z), identity)).x
        return x

    inputs = (rows.z.double().requires_grad_(), torch.randn(5, DIM, dtype=torch.float64, requires_grad=True))
    assert torch.autograd.gradcheck(fused, (*inputs, *weights.values()), fast_mode=True)


@pytest.mark.parametrize("name", FUSIONS)
def test_half_precision_changes_little(random_rows, away_from_start, name: str) -> None:
    fusion, rows = away_from_start(FUSIONS[name](3, DIM)), random_rows(7, 15)
    expected = fusion(rows, None).x
    with torch.autocast("cpu", torch.bfloat16):
        found = fusion(rows, None).x
    torch.testing.assert_close(found.float(), expected, atol=0.1, rtol=0.05)


@pytest.mark.parametrize("name", FUSIONS)
def test_reset_draws_the_same_kind_of_weights_anew(name: str) -> None:
    fusion = FUSIONS[name](2, DIM)
    with torch.no_grad():
        for weight in fusion.parameters():
            weight.fill_(9)
    fusion.reset_parameters()
    assert not any((weight == 9).any() for weight in fusion.parameters())


def noise_beside_signal(seed: int, num_nodes: int = 300) -> tuple[ModalityRows, Tensor]:
    """Modality 0 is noise; modality 1 is what is asked for. Both have one scale."""
    generator = torch.Generator().manual_seed(seed)
    z = nn.functional.layer_norm(torch.randn(2 * num_nodes, 6, generator=generator), (6,))
    owner, modality = torch.arange(num_nodes).repeat(2), torch.arange(2).repeat_interleave(num_nodes)
    return ModalityRows(z, owner, modality, num_nodes), z[num_nodes:]


def trained(name: str, steps: int = 200) -> Fusion:
    torch.manual_seed(0)
    fusion = FUSIONS[name](2, 6)
    optimizer = torch.optim.Adam(fusion.parameters(), lr=0.02)
    rows, target = noise_beside_signal(0)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.mse_loss(fusion(rows, None).x, target).backward()
        optimizer.step()
    return fusion


@pytest.mark.parametrize("name", LEARNED)
def test_noise_is_turned_down(name: str) -> None:
    rows, target = noise_beside_signal(1)  # nodes that were not trained on
    fused, mean = trained(name)(rows, None), FUSIONS["mean"](2, 6)(rows, None)
    noise, signal = fused.attention.view(2, -1).mean(dim=1).tolist()
    assert noise < 0.5 * signal
    assert nn.functional.mse_loss(fused.x, target) < 0.5 * nn.functional.mse_loss(mean.x, target)
