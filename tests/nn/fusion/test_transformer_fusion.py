import pytest
import torch
from torch import nn

from gnnrec.nn.fusion import ModalityRows
from gnnrec.nn.fusion.transformer import TransformerFusion


def peer_of(fusion: TransformerFusion, dim: int, heads: int, num_layers: int) -> nn.TransformerEncoder:
    """The same weights in PyTorch's own encoder."""
    layer = nn.TransformerEncoderLayer(
        dim, heads, 2 * dim, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    peer = nn.TransformerEncoder(layer, num_layers, norm=nn.LayerNorm(dim), enable_nested_tensor=False)
    named = {name: weight for name, weight in fusion.state_dict().items() if name.startswith(("layers.", "norm."))}
    peer.load_state_dict(named)
    return peer


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("dim", "heads", "num_layers"), [(8, 4, 2), (9, 3, 1), (7, 1, 3)])
def test_it_equals_the_encoder_of_torch_node_by_node(
    random_rows, away_from_start, dim: int, heads: int, num_layers: int, training: bool
) -> None:
    rows = random_rows(0, 60, num_nodes=20, dim=dim)
    rows.owner_index[:17] = 3  # one node with many rows
    fusion = away_from_start(TransformerFusion(3, dim, num_layers)).train(training)
    peer = peer_of(fusion, dim, heads, num_layers)
    with torch.no_grad():
        fused = fusion(rows, None)
        assert fused.present.sum() > 10
        for node in fused.present.nonzero().flatten():
            own = rows.owner_index == node
            token = rows.z[own] + fusion.modality_embedding[rows.modality_index[own]]
            x = torch.cat([fusion.summary[None], token])[None]
            torch.testing.assert_close(fused.x[node], peer(x)[0, 0], atol=1e-5, rtol=1e-4)
            for layer in peer.layers[:-1]:
                x = layer(x)
            last = peer.layers[-1]
            normed = last.norm1(x)
            weight = last.self_attn(normed, normed, normed)[1][0, 0, 1:]
            torch.testing.assert_close(fused.attention[own], weight / weight.sum(), atol=1e-5, rtol=1e-4)


def test_how_nodes_are_put_together_is_of_no_account(random_rows, away_from_start) -> None:
    fusion = away_from_start(TransformerFusion(3, 4))
    rows = random_rows(1, 200, num_nodes=40)
    together = fusion(rows, None).x
    alone = [fusion(rows.of(torch.tensor([node])), None).x for node in range(40)]
    torch.testing.assert_close(torch.cat(alone), together, atol=1e-5, rtol=1e-4)


def test_a_second_row_of_a_modality_is_a_token_of_its_own(away_from_start) -> None:
    """Two unlike pictures are more than their mean."""
    fusion = away_from_start(TransformerFusion(1, 4))
    pictures = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    owner, modality = torch.zeros(2, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)
    both = fusion(ModalityRows(pictures, owner, modality, 1), None).x
    mean = fusion(ModalityRows(pictures.mean(dim=0, keepdim=True), owner[:1], modality[:1], 1), None).x
    assert (both - mean).norm() > 0.1
