import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gnnrec.nn.fuse import FUSIONS, AttentionFusion, Fused, MeanFusion, ModalityRows

DIM = 4


def random_rows(seed: int, num_rows: int = 12, num_nodes: int = 5, num_modalities: int = 3) -> ModalityRows:
    rng = np.random.default_rng(seed)
    return ModalityRows(
        z=torch.from_numpy(rng.normal(size=(num_rows, DIM)).astype(np.float32)),
        owner_index=torch.from_numpy(rng.integers(num_nodes, size=num_rows)),
        modality_index=torch.from_numpy(rng.integers(num_modalities, size=num_rows)),
        num_nodes=num_nodes,
    )


def random_attention(num_modalities: int = 3) -> AttentionFusion:
    """A fusion with all its weights away from their neutral start."""
    fusion = AttentionFusion(num_modalities, DIM)
    generator = torch.Generator().manual_seed(0)
    for parameter in fusion.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    return fusion


@pytest.mark.parametrize("name", FUSIONS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), num_rows=st.integers(1, 20))
def test_shares_sum_to_one_and_nodes_without_media_are_zero(name: str, seed: int, num_rows: int) -> None:
    rows = random_rows(seed, num_rows)
    fused: Fused = FUSIONS[name](3, DIM)(rows, torch.randn(5, DIM))
    present = torch.zeros(5, dtype=torch.bool)
    present[rows.owner_index] = True
    assert torch.equal(fused.present, present)
    assert (fused.attention >= 0).all()
    shares = torch.zeros(5).index_add_(0, rows.owner_index, fused.attention.detach())
    torch.testing.assert_close(shares, present.float())
    assert not fused.x[~present].any()


@pytest.mark.parametrize("with_identity", [True, False])
def test_attention_equals_that_of_torch_node_by_node(with_identity: bool) -> None:
    fusion, rows = random_attention(), random_rows(0)
    identity = torch.randn(5, DIM) if with_identity else None
    fused = fusion(rows, identity)
    checked = 0
    for node in fused.present.nonzero().flatten():
        own = rows.owner_index == node
        z = rows.z[own]
        query = fusion.query + (fusion.identity_query(identity[node]) if with_identity else 0)
        bias = fusion.modality_bias[rows.modality_index[own]]
        expected = F.scaled_dot_product_attention(query[None], fusion.key(z), z, attn_mask=bias[None])
        torch.testing.assert_close(fused.x[node], expected[0])
        checked += int(own.sum())
    assert checked == len(rows.z)


def test_attention_starts_from_equal_shares_whatever_the_identity() -> None:
    rows, identity = random_rows(1), torch.randn(5, DIM)
    attention, mean = AttentionFusion(3, DIM), MeanFusion(3, DIM)
    torch.testing.assert_close(attention(rows, identity).x, mean(rows, None).x)


def test_a_strong_modality_bias_wins() -> None:
    fusion = random_attention()
    with torch.no_grad():
        fusion.modality_bias[:] = torch.tensor([0.0, 50.0, 0.0])
    z = torch.randn(4, DIM)
    rows = ModalityRows(z, torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 2, 0]), 2)
    fused = fusion(rows, None)
    torch.testing.assert_close(fused.x, z[[1, 3]])  # node 1 lacks the strong one and uses what it has
    torch.testing.assert_close(fused.attention, torch.tensor([0.0, 1.0, 0.0, 1.0]))


def test_identities_decide_for_themselves() -> None:
    fusion = AttentionFusion(1, DIM)
    with torch.no_grad():
        fusion.identity_query.weight.copy_(torch.eye(DIM))
        fusion.key.weight.copy_(torch.eye(DIM))
    axes = 100 * torch.eye(DIM)[:2]
    rows = ModalityRows(axes.repeat(2, 1), torch.tensor([0, 0, 1, 1]), torch.zeros(4, dtype=torch.int64), 2)
    torch.testing.assert_close(fusion(rows, axes).x, axes)


def test_the_mean_is_the_mean_of_all_rows() -> None:
    rows = random_rows(2)
    expected = [
        rows.z[rows.owner_index == node].mean(dim=0) if (rows.owner_index == node).any() else torch.zeros(DIM)
        for node in range(5)
    ]
    torch.testing.assert_close(MeanFusion(3, DIM)(rows, None).x, torch.stack(expected))


def test_gradients_reach_every_weight() -> None:
    fusion, rows = random_attention(), random_rows(3)
    fusion(rows, torch.randn(5, DIM)).x.square().sum().backward()
    gradients: dict[str, Tensor | None] = {name: value.grad for name, value in fusion.named_parameters()}
    assert all(gradient is not None and gradient.any() for gradient in gradients.values())
