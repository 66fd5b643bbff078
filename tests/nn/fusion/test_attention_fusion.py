import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gnnrec.nn.fusion import ModalityRows
from gnnrec.nn.fusion.attention import AttentionFusion
from gnnrec.nn.fusion.mean import MeanFusion

DIM = 4


@pytest.fixture
def fusion(away_from_start) -> AttentionFusion:
    return away_from_start(AttentionFusion(3, DIM))


@pytest.mark.parametrize("with_identity", [True, False])
def test_attention_equals_that_of_torch_node_by_node(fusion, random_rows, with_identity: bool) -> None:
    rows = random_rows(0)
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


def test_attention_equals_multihead_attention_with_one_head(fusion, random_rows) -> None:
    rows, identity = random_rows(1), torch.randn(5, DIM)
    peer = nn.MultiheadAttention(DIM, 1, bias=False, batch_first=True)
    with torch.no_grad():
        peer.in_proj_weight.copy_(torch.cat([torch.eye(DIM), fusion.key.weight, torch.eye(DIM)]))
        peer.out_proj.weight.copy_(torch.eye(DIM))
        fused, query = fusion(rows, identity), fusion.query + fusion.identity_query(identity)
        for node in fused.present.nonzero().flatten():
            own = rows.owner_index == node
            z, bias = rows.z[own], fusion.modality_bias[rows.modality_index[own]]
            x, weight = peer(query[node][None, None], z[None], z[None], attn_mask=bias[None])
            torch.testing.assert_close(fused.x[node], x[0, 0])
            torch.testing.assert_close(fused.attention[own], weight[0, 0])


def test_attention_starts_from_equal_shares_whatever_the_identity(random_rows) -> None:
    rows, identity = random_rows(1), torch.randn(5, DIM)
    attention, mean = AttentionFusion(3, DIM), MeanFusion(3, DIM)
    torch.testing.assert_close(attention(rows, identity).x, mean(rows, None).x)


def test_a_strong_modality_bias_wins(fusion) -> None:
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


def test_the_mean_is_the_mean_of_all_rows(random_rows) -> None:
    rows = random_rows(2)
    expected = [
        rows.z[rows.owner_index == node].mean(dim=0) if (rows.owner_index == node).any() else torch.zeros(DIM)
        for node in range(5)
    ]
    torch.testing.assert_close(MeanFusion(3, DIM)(rows, None).x, torch.stack(expected))
