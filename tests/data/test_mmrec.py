import numpy as np
import pytest

from gnnrec.data import split
from gnnrec.data.mmrec import load_mmrec
from gnnrec.errors import DataError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tiny.inter").write_text("userID\titemID\tx_label\n0\t0\t0\n0\t1\t1\n1\t2\t2\n1\t0\t0\n")
    np.save(tmp_path / "image_feat.npy", np.arange(8, dtype=np.float16).reshape(4, 2))
    np.save(tmp_path / "text_features.npy", np.ones((4, 3), dtype=np.float64))
    np.save(tmp_path / "user_graph.npy", np.zeros(3))
    return tmp_path


def test_rows_of_the_features_are_the_catalogue(folder):
    data = load_mmrec(folder)
    assert data.items.ids.tolist() == [0, 1, 2, 3]
    assert list(data.modalities) == ["image", "text"]
    assert data.modalities["image"].matrix.dtype == np.float32
    assert data.modalities["image"].matrix[3].tolist() == [6, 7]
    train, valid, test = data.split(split.column("x_label"))
    assert [len(part.events) for part in (train, valid, test)] == [2, 1, 1]
    assert test.items.ids_of(test.events.item_index).tolist() == [2]


@pytest.mark.parametrize(
    ("name", "matrix", "message"),
    [
        ("image_feat.npy", np.ones((3, 2)), "different numbers of rows"),
        ("image_feat.npy", np.full((4, 2), np.nan), "'image': row 0 .* not finite"),
        ("image_feat.npy", np.array([{"a": 1}] * 4, dtype=object), "image_feat.npy"),
        ("image_feat.npy", np.ones(4), "'image': expected a dense matrix"),
    ],
)
def test_unusable_features_are_errors(folder, name, matrix, message):
    np.save(folder / name, matrix, allow_pickle=True)
    with pytest.raises(DataError, match=message):
        load_mmrec(folder)


def test_items_beyond_the_features_and_absent_logs_are_errors(folder, tmp_path):
    np.save(folder / "image_feat.npy", np.ones((2, 2)))
    np.save(folder / "text_features.npy", np.ones((2, 2)))
    with pytest.raises(DataError, match="item 2 has no row in the 2 rows of 'image'"):
        load_mmrec(folder)
    (folder / "image_feat.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(DataError, match="image_feat"):
        load_mmrec(folder)
    (folder / "second.inter").write_text("x")
    with pytest.raises(DataError, match="holds 2"):
        load_mmrec(folder)


def test_items_that_are_no_row_numbers_are_named(folder):
    log = next(folder.glob("*.inter"))
    log.write_text("userID\titemID\tx_label\nu\tB00A\t0\n")
    with pytest.raises(DataError, match="items such as 'B00A' are no row numbers"):
        load_mmrec(folder)
