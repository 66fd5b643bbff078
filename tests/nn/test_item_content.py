import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnrec.errors import ConfigError
from gnnrec.nn.item_content import ItemContent, modality_shares
from gnnrec.nn.message_graph import GraphShape
from gnnrec.nn.model_config import ModelConfig

SHAPE = GraphShape(num_users=2, num_items=3, item_modalities={"image": 4, "audio": 2})


def test_rows_of_an_item_are_averaged_and_missing_media_are_zero() -> None:
    content = ItemContent(SHAPE, ModelConfig(), 5)
    x = torch.randn(3, 4)
    found = content.of_items({"image": x}, {"image": torch.tensor([0, 0, 2])}, 3)
    image = content.alignment.projections[0][0]
    torch.testing.assert_close(found["image"][0], (image(x[0]) + image(x[1])) / 2)
    torch.testing.assert_close(found["image"][2], image(x[2]))
    assert not found["image"][1].any()
    assert not found["audio"].any()


def test_offsets_start_at_nothing() -> None:
    assert not ItemContent(SHAPE, ModelConfig(), 5).offsets
    offsets = ItemContent(SHAPE, ModelConfig(fine_tune_features=True), 5).offsets
    assert [tuple(offset.shape) for offset in offsets] == [(3, 4), (3, 2)]
    assert not any(offset.any() for offset in offsets)


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
    assert sum(modality_shares("abcd", given).values()) == pytest.approx(1.0)


def test_shares_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="modality_shares"):
        modality_shares(["image"], {"image": 0.0})
    with pytest.raises(ConfigError, match="share of 'image'"):
        ModelConfig(modality_shares={"image": 1.5})
