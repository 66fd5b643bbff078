import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnrec.errors import ConfigError
from gnnrec.nn.fusion import ModalityRows, build_fusion
from gnnrec.nn.fusion.weighted import WeightedFusion, modality_shares

# Node 0 has one row of modality 0, two of 1 and one of 2; node 1 has only 0 and 1; node 2 only 2; node 3 nothing.
OWNER = torch.tensor([0, 0, 0, 0, 1, 1, 2])
MODALITY = torch.tensor([0, 1, 1, 2, 0, 1, 2])
ROWS = ModalityRows(torch.randn(7, 4, generator=torch.Generator().manual_seed(0)), OWNER, MODALITY, 4)


def test_fixed_weights_are_shared_by_what_a_node_has() -> None:
    fused = WeightedFusion(3, 4, [1.0, 3.0, 4.0])(ROWS, None)
    torch.testing.assert_close(fused.attention, torch.tensor([1 / 8, 3 / 16, 3 / 16, 1 / 2, 1 / 4, 3 / 4, 1.0]))
    z = ROWS.z
    torch.testing.assert_close(fused.x[0], z[0] / 8 + (z[1] + z[2]) * 3 / 16 + z[3] / 2)
    torch.testing.assert_close(fused.x[1], z[4] / 4 + z[5] * 3 / 4)
    torch.testing.assert_close(fused.x[2], z[6])
    assert not fused.x[3].any()


def test_fixed_weights_are_neither_trained_nor_saved() -> None:
    fusion = WeightedFusion(3, 4, [1.0, 3.0, 4.0])
    fusion.reset_parameters()
    torch.testing.assert_close(fusion.weights, torch.tensor([1 / 8, 3 / 8, 1 / 2]))
    assert not list(fusion.parameters())
    assert not fusion.state_dict()


def test_learned_weights_start_equal_and_sum_to_one() -> None:
    fusion = WeightedFusion(3, 4)
    torch.testing.assert_close(fusion.weights, torch.full((3,), 1 / 3))
    torch.testing.assert_close(fusion(ROWS, None).attention[:4], torch.tensor([1 / 3, 1 / 6, 1 / 6, 1 / 3]))
    with torch.no_grad():
        fusion.logit.copy_(torch.tensor([2.0, -1.0, 0.3]))
    assert fusion.weights.sum().item() == pytest.approx(1)
    ratio = fusion(ROWS, None).attention[[4, 5]]
    assert (ratio[0] / ratio[1]).log().item() == pytest.approx(3)


def test_a_weight_of_zero_silences_a_modality_unless_there_is_no_other() -> None:
    fused = WeightedFusion(3, 4, [0.0, 1.0, 0.0])(ROWS, None)
    torch.testing.assert_close(fused.attention, torch.tensor([0, 0.5, 0.5, 0, 0, 1, 1]))
    torch.testing.assert_close(fused.x[2], ROWS.z[6])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], "3 modalities, but 1 weights"),
        ([1.0, -0.5, 1.0], "not negative, got .*-0.5"),
        ([1.0, float("nan"), 1.0], "finite"),
        ([0.0, 0.0, 0.0], "all 0"),
    ],
)
def test_impossible_weights_are_refused(weights: list[float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        WeightedFusion(3, 4, weights)


def test_shares_go_by_name() -> None:
    fusion = build_fusion("weighted", ["plot", "poster", "sound"], 4, {"sound": 0.2, "plot": 0.5, "bio": 1.0})
    torch.testing.assert_close(fusion.weights, torch.tensor([0.5, 0.3, 0.2]))
    assert list(build_fusion("weighted", ["plot", "poster"], 4, {"bio": 1.0}).parameters())
    with pytest.raises(ConfigError, match="'gated' has no fixed shares"):
        build_fusion("gated", ["plot", "poster"], 4, {"plot": 1.0})
    with pytest.raises(ConfigError, match="'gatd'; did you mean 'gated'"):
        build_fusion("gatd", ["plot"], 4)


@pytest.mark.parametrize(
    ("names", "given", "expected"),
    [
        (["image", "text"], {"image": 0.1}, {"image": 0.1, "text": 0.9}),
        (["image", "text", "audio"], {"image": 0.1}, {"image": 0.1, "text": 0.45, "audio": 0.45}),
        (["text", "audio"], {"image": 0.1}, {"text": 0.5, "audio": 0.5}),
        (["image"], {"image": 0.1}, {"image": 1.0}),
    ],
)
def test_what_is_not_named_shares_the_rest(names: list[str], given: dict, expected: dict) -> None:
    assert modality_shares(names, given) == pytest.approx(expected)


@given(st.dictionaries(st.sampled_from("abcd"), st.floats(0.01, 1.0)))
def test_shares_add_up_to_one(given: dict[str, float]) -> None:
    assert sum(modality_shares(list("abcd"), given).values()) == pytest.approx(1.0)


def test_shares_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="modality_shares"):
        modality_shares(["image"], {"image": 0.0})
