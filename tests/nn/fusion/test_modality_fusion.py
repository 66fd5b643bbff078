import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnrec.errors import ConfigError, DataError
from gnnrec.nn.fusion import FUSIONS, ModalityFusion

DIMS = {"text": 768, "image": 2048, "audio": 1024}


@pytest.mark.parametrize("name", FUSIONS)
def test_vectors_of_three_widths_become_one_of_512(name: str) -> None:
    x_dict = {modality: torch.randn(1, width) for modality, width in DIMS.items()}
    owner_dict = dict.fromkeys(DIMS, torch.zeros(1, dtype=torch.int64))
    fused = ModalityFusion(DIMS, 512, name)(x_dict, owner_dict, 1)
    assert fused.x.shape == (1, 512)
    assert fused.attention.shape == (3,)
    assert fused.attention.sum().item() == pytest.approx(1, abs=1e-5)
    assert fused.x.norm().item() > 1


@pytest.mark.parametrize("name", FUSIONS)
@settings(max_examples=10, deadline=None)
@given(present=st.lists(st.sets(st.sampled_from(["plot", "poster", "sound"])), min_size=1, max_size=6))
def test_any_modality_of_any_node_may_be_missing(name: str, present: list[set[str]]) -> None:
    dims = {"plot": 3, "poster": 2, "sound": 5}
    owner_dict = {
        modality: torch.tensor([node for node, has in enumerate(present) if modality in has], dtype=torch.int64)
        for modality in dims
    }
    x_dict = {modality: torch.randn(len(owner), dims[modality]) for modality, owner in owner_dict.items()}
    fused = ModalityFusion(dims, 4, name)(x_dict, owner_dict, len(present))
    assert fused.present.tolist() == [bool(has) for has in present]
    assert fused.x.any(dim=1).tolist() == [bool(has) for has in present]
    shares = torch.zeros(len(present)).index_add_(0, torch.cat(list(owner_dict.values())), fused.attention.detach())
    torch.testing.assert_close(shares, fused.present.float())


def test_rows_are_projected_then_fused() -> None:
    fuse = ModalityFusion({"plot": 3, "poster": 2}, 4, "weighted", shares={"plot": 0.25})
    plot, poster = torch.randn(2, 3), torch.randn(1, 2)
    fused = fuse({"poster": poster, "plot": plot}, {"plot": torch.tensor([1, 0]), "poster": torch.tensor([1])}, 3)
    aligned = fuse.alignment({"plot": plot, "poster": poster})
    torch.testing.assert_close(fused.x[0], aligned["plot"][1])
    torch.testing.assert_close(fused.x[1], 0.25 * aligned["plot"][0] + 0.75 * aligned["poster"][0])
    torch.testing.assert_close(fused.attention, torch.tensor([0.25, 1.0, 0.75]))  # plots first, as in the dims
    assert fused.present.tolist() == [True, True, False]


def test_what_cannot_be_fused_is_named() -> None:
    fuse, owner = ModalityFusion({"plot": 3}, 4), {"plot": torch.tensor([0])}
    for x_dict, owner_dict, message in (
        ({}, owner, "no modality is given; give at least one of plot"),
        ({"plto": torch.ones(1, 3)}, owner, "'plto' is unknown"),
        ({"plot": torch.ones(1, 2)}, owner, r"\[num_rows, 3\], got \[1, 2\]"),
        ({"plot": torch.ones(2, 3)}, owner, "2 rows of 'plot'"),
        ({"plot": torch.ones(1, 3)}, {}, "1 rows of 'plot'"),
    ):
        with pytest.raises(DataError, match=message):
            fuse(x_dict, owner_dict, 1)
    with pytest.raises(ConfigError, match="no modality to fuse"):
        ModalityFusion({}, 4)
    for option in ({"shares": {"plott": 0.5}}, {"projections": {"plott": "linear"}}):
        with pytest.raises(ConfigError, match=r"there is no modality 'plott'; did you mean 'plot'"):
            ModalityFusion({"plot": 3}, 4, "weighted", **option)
    with pytest.raises(ConfigError, match="'fusion' cannot be 'sum'"):
        ModalityFusion({"plot": 3}, 4, "sum")


def test_reset_draws_projections_and_fusion_anew() -> None:
    fuse = ModalityFusion({"plot": 3}, 4, "gated")
    with torch.no_grad():
        for weight in fuse.parameters():
            weight.fill_(9)
    fuse.reset_parameters()
    assert not any((weight == 9).any() for weight in fuse.parameters())
