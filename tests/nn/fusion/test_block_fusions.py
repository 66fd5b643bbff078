"""Concatenation, stacking and gates: the fusions that see one block per modality."""

import pytest
import torch
import torch.nn.functional as F

import gnnrec as gr
from gnnrec.nn.fusion import ModalityRows
from gnnrec.nn.fusion.blocks import BlockMixing, Blocks
from gnnrec.nn.fusion.concatenation import ConcatenationFusion
from gnnrec.nn.fusion.gated import GatedFusion
from gnnrec.nn.fusion.stacking import StackingFusion

# Node 0 has modality 0 twice and 1 once; node 1 only 1; node 2 nothing.
ROWS = ModalityRows(
    torch.randn(4, 3, generator=torch.Generator().manual_seed(0)),
    torch.tensor([0, 1, 0, 0]),
    torch.tensor([0, 1, 1, 0]),
    3,
)
MEAN = (ROWS.z[0] + ROWS.z[3]) / 2


def test_blocks_are_means_within_modalities() -> None:
    blocks = Blocks.of(ROWS, 2)
    nothing = torch.zeros(3)
    expected = [[MEAN, ROWS.z[2]], [nothing, ROWS.z[1]], [nothing, nothing]]
    torch.testing.assert_close(blocks.x, torch.stack([torch.stack(node) for node in expected]))
    assert blocks.count.tolist() == [[2, 1], [0, 1], [0, 0]]
    share = torch.tensor([[0.6, 0.4], [0.0, 1.0], [0.0, 0.0]])
    torch.testing.assert_close(blocks.per_row(share, ROWS), torch.tensor([0.3, 1.0, 0.4, 0.3]))


def test_concatenation_is_one_linear_layer_with_stand_ins(away_from_start) -> None:
    fusion = away_from_start(ConcatenationFusion(2, 3))
    fused, stand_in, linear = fusion(ROWS, None), fusion.mixing.stand_in, fusion.mixing.linear
    torch.testing.assert_close(fused.x[0], linear(torch.cat([MEAN, ROWS.z[2]])))
    torch.testing.assert_close(fused.x[1], linear(torch.cat([stand_in[0], ROWS.z[1]])))
    assert not fused.x[2].any()


def test_attention_of_concatenation_is_how_far_the_vector_moves_without_the_modality(away_from_start) -> None:
    fusion = away_from_start(ConcatenationFusion(2, 3))
    x, attention = fusion(ROWS, None).x, fusion(ROWS, None).attention

    def without(row: torch.Tensor) -> torch.Tensor:
        kept = ModalityRows(ROWS.z[row], ROWS.owner_index[row], ROWS.modality_index[row], 3)
        return fusion(kept, None).x[0]

    first = (x[0] - without(torch.tensor([1, 2]))).norm()
    second = (x[0] - without(torch.tensor([0, 1, 3]))).norm()
    expected = torch.stack([first / 2, second, first / 2]) / (first + second)
    torch.testing.assert_close(attention[[0, 2, 3]], expected)
    assert not attention.requires_grad


def test_modalities_that_move_nothing_have_equal_shares() -> None:
    mixing = BlockMixing(2, 3, 5)
    torch.nn.init.zeros_(mixing.linear.weight)
    _, attention = mixing(ROWS)
    torch.testing.assert_close(attention, torch.tensor([0.25, 1.0, 0.5, 0.25]))


def test_stacking_is_an_mlp_over_the_blocks(away_from_start) -> None:
    fusion = away_from_start(StackingFusion(2, 3))
    hidden = F.gelu(fusion.mixing.linear(torch.cat([MEAN, ROWS.z[2]])))
    expected = F.layer_norm(fusion.output(hidden), (3,), fusion.norm.weight, fusion.norm.bias)
    torch.testing.assert_close(fusion(ROWS, None).x[0], expected)


def test_stacking_lets_modalities_depend_on_each_other() -> None:
    """Exclusive or of two signs: no sum of what each modality says alone can tell."""
    torch.manual_seed(0)
    sign = torch.randint(2, (200, 2)).float() * 2 - 1
    rows = ModalityRows(
        sign.T.reshape(-1, 1) * torch.tensor([1.0, -1.0, 0.5, -0.5]),
        torch.arange(200).repeat(2),
        torch.arange(2).repeat_interleave(200),
        200,
    )
    target = sign.prod(dim=1)
    loss = {}
    for kind in (ConcatenationFusion, StackingFusion):
        model, head = kind(2, 4), torch.nn.Linear(4, 1)
        optimizer = torch.optim.Adam([*model.parameters(), *head.parameters()], lr=0.02)
        for _ in range(150):
            optimizer.zero_grad()
            error = F.mse_loss(head(model(rows, None).x).squeeze(1), target)
            error.backward()
            optimizer.step()
        loss[kind] = error.item()
    assert loss[StackingFusion] < 0.1
    assert loss[ConcatenationFusion] > 0.9


def test_gates_of_two_modalities_are_the_published_unit(away_from_start) -> None:
    fusion, identity = away_from_start(GatedFusion(2, 3)), torch.randn(3, 3)
    fused = fusion(ROWS, identity)
    logit = (fusion.gate(torch.cat([MEAN, ROWS.z[2]])) + fusion.identity_gate(identity[0])).view(2, 3)
    gate = torch.sigmoid(logit[0] - logit[1])
    torch.testing.assert_close(fused.x[0], gate * MEAN + (1 - gate) * ROWS.z[2])
    torch.testing.assert_close(fused.attention[[0, 3]], gate.mean().expand(2) / 2)
    torch.testing.assert_close(fused.x[1], ROWS.z[1])  # the only modality goes through whole
    assert fused.attention[1].item() == 1
    assert not fused.x[2].any()


def test_gates_start_open_alike() -> None:
    fused = GatedFusion(2, 3)(ROWS, torch.randn(3, 3))
    torch.testing.assert_close(fused.x[0], (MEAN + ROWS.z[2]) / 2)
    torch.testing.assert_close(fused.attention, torch.tensor([0.25, 1.0, 0.5, 0.25]))


@pytest.mark.parametrize("name", ["concatenation", "stacking", "gated"])
def test_a_step_may_hide_no_item(name):
    """In a small catalogue a draw of hidden items is empty sooner or later."""
    shop = gr.synthetic.shop(num_users=30, num_items=12, seed=0)
    data = gr.Dataset.from_frames(shop.interactions, modalities={"look": shop.vectors()})
    rec = gr.Recommender(embedding_dim=4, epochs=2, fusion=name, identity_dropout=0.01, linear_part="none")
    assert len(rec.fit(data, progress=False).history) == 2
