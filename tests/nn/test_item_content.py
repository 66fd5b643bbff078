import torch

from gnnrec.nn.item_content import ItemContent
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
