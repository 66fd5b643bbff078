import logging
import os
import sqlite3
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnrec.errors import StorageError
from gnnrec.modalities import store as module
from gnnrec.modalities.features import EncoderCard
from gnnrec.modalities.store import FeatureStore, open_store, store_keys
from gnnrec.storage import default_cache_dir


def rows(*numbers: float, dim: int = 3) -> np.ndarray:
    return np.array([[number] * dim for number in numbers], dtype=np.float32)


def firsts(values: np.ndarray) -> list[float]:
    return values[:, 0].tolist()


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    return FeatureStore(tmp_path / "features")


def test_what_was_put_is_found_in_the_order_of_the_question(store):
    store.put(["a", "b", "c"], rows(1, 2, 3))
    found, values = store.get(["c", "x", "a"], 3)
    assert found.tolist() == [0, 2]
    assert firsts(values) == [3, 1]
    assert values.dtype == np.float32


def test_a_key_keeps_its_first_vector(store):
    store.put(["a"], rows(1))
    store.put(["a", "b", "b"], rows(9, 2, 2))
    assert firsts(store.get(["a", "b"], 3)[1]) == [1, 2]
    assert store.size() == 2 * 3 * 4


def test_widths_do_not_mix(store):
    store.put(["a"], rows(1))
    store.put(["b"], rows(2, dim=5))
    assert store.get(["a", "b"], 5)[0].tolist() == [1]
    assert store.get(["a", "b"], 3)[0].tolist() == [0]


@settings(max_examples=15, deadline=None)
@given(batches=st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=8), max_size=6))
def test_agrees_with_a_dictionary(tmp_path_factory, batches):
    store = FeatureStore(tmp_path_factory.mktemp("store"))
    known: dict[int, float] = {}
    for number, batch in enumerate(batches):
        values = [100.0 * number + position for position in range(len(batch))]
        store.put([str(key) for key in batch], rows(*values))
        for key, value in zip(batch, values, strict=True):
            known.setdefault(key, value)
    found, values = store.get([str(key) for key in range(31)], 3)
    assert dict(zip(found.tolist(), firsts(values), strict=True)) == known


def test_many_vectors_fill_several_shards(store, monkeypatch):
    monkeypatch.setattr(module, "_SHARD_BYTES", 4 * 3 * 4)  # four rows
    store.put([str(i) for i in range(10)], rows(*range(10)))
    assert len(list(store.folder.glob("shard-*.npy"))) == 3
    assert firsts(store.get([str(i) for i in range(10)], 3)[1]) == list(range(10))


def test_eviction_takes_the_least_recently_used(store, monkeypatch):
    monkeypatch.setattr(module, "_SHARD_BYTES", 2 * 3 * 4)
    store.put([str(i) for i in range(6)], rows(*range(6)))
    for age, shard in enumerate(sorted(store.folder.glob("shard-*.npy"))):
        os.utime(shard, (1000 + age, 1000 + age))
    store.get(["0"], 3)  # now the first shard is the most recently used
    assert store.evict(max_bytes=30) == 48
    assert store.get([str(i) for i in range(6)], 3)[0].tolist() == [0, 1]
    assert store.size() == 24
    assert len(list(store.folder.glob("shard-*.npy"))) == 1
    assert store.evict(max_bytes=30) == 0
    store.put(["6"], rows(6))
    assert firsts(store.get(["1", "6"], 3)[1]) == [1, 6]


def test_a_flipped_byte_is_noticed(store, caplog):
    store.put(["a", "b"], rows(1, 2))
    shard = next(store.folder.glob("shard-*.npy"))
    content = bytearray(shard.read_bytes())
    content[128 + 3] ^= 1  # in the first row, behind the header of 128 bytes
    shard.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert store.get(["a", "b"], 3)[0].tolist() == [1]
    assert "1 vectors of" in caplog.text
    store.put(["a"], rows(7))
    assert firsts(store.get(["a", "b"], 3)[1]) == [7, 2]


@pytest.mark.parametrize("harm", ["delete", "truncate", "empty"])
def test_a_lost_shard_is_forgotten_and_written_anew(store, caplog, harm):
    store.put(["a", "b"], rows(1, 2))
    shard = next(store.folder.glob("shard-*.npy"))
    if harm == "delete":
        shard.unlink()
    else:
        shard.write_bytes(shard.read_bytes()[:200] if harm == "truncate" else b"")
    with caplog.at_level(logging.WARNING):
        assert store.get(["a", "b"], 3)[0].tolist() == []
    assert "is damaged" in caplog.text
    store.put(["a"], rows(7))
    assert firsts(store.get(["a", "b"], 3)[1]) == [7]


def test_a_damaged_index_is_replaced(store, caplog):
    store.put(["a"], rows(1))
    (store.folder / "index.sqlite").write_bytes(b"not a database at all" * 100)
    with pytest.raises(StorageError, match="cannot use the index"):
        store.get(["a"], 3)
    with caplog.at_level(logging.WARNING):
        again = FeatureStore(store.folder)
    assert "the index" in caplog.text
    assert again.get(["a"], 3)[0].tolist() == []
    again.put(["a"], rows(5))
    assert firsts(again.get(["a"], 3)[1]) == [5]


def test_unfinished_writing_leaves_nothing_behind(store, monkeypatch):
    store.put(["a"], rows(1))

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module.zlib, "crc32", killed)  # rows are in the shard, the index not yet
        with pytest.raises(KeyboardInterrupt):
            store.put(["b"], rows(9))
    assert store.get(["a", "b"], 3)[0].tolist() == [0]
    store.put(["c"], rows(3))
    assert firsts(store.get(["a", "c"], 3)[1]) == [1, 3]


def test_two_processes_at_once(store, in_child):
    """The two share half of their keys; afterwards each key has its own vector, once."""

    def writer(start: int) -> None:
        for i in range(start, start + 40):
            store.put([str(i), str(1000 + i)], rows(i, 1000 + i))

    children = [in_child(lambda start=start: writer(start)) for start in (0, 20)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    keys = [*range(60), *range(1000, 1060)]
    found, values = store.get([str(key) for key in keys], 3)
    assert found.tolist() == list(range(120))
    assert firsts(values) == keys
    assert store.size() == 120 * 12


def test_an_unwritable_folder_means_no_cache(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot keep a feature cache"):
        FeatureStore(tmp_path / "file" / "features")
    with caplog.at_level(logging.WARNING):
        assert open_store(tmp_path / "file") is None
    assert "not cached" in caplog.text


@pytest.mark.skipif(sys.platform == "win32", reason="limits of files are those of POSIX")
def test_no_room_is_an_error_and_harms_nothing(store, monkeypatch):
    import resource

    store.put(["a"], rows(1))
    monkeypatch.setattr(module, "_SHARD_BYTES", 1_000_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))  # as if there were no more room
    try:
        with pytest.raises(StorageError, match="cannot write to the feature cache"):
            store.put(["b"], rows(2, dim=5))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert firsts(store.get(["a"], 3)[1]) == [1]
    store.put(["b"], rows(2, dim=5))  # there is room again
    assert firsts(store.get(["b"], 5)[1]) == [2]


def test_where_the_cache_lies(tmp_path, monkeypatch):
    monkeypatch.setenv("GNNREC_CACHE_DIR", str(tmp_path))
    assert default_cache_dir() == tmp_path
    assert open_store().folder == tmp_path / "features"
    assert open_store(tmp_path / "other").folder == tmp_path / "other" / "features"
    monkeypatch.delenv("GNNREC_CACHE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / ".cache" / "gnnrec"


def test_keys_depend_on_encoder_options_and_content():
    card = EncoderCard("e", "text", 3, preprocessing={"pooling": "mean"})
    other = EncoderCard("e", "text", 3, preprocessing={"pooling": "max"})
    assert len({store_keys(card)("1"), store_keys(card)("2"), store_keys(other)("1")}) == 3
    assert store_keys(card)("1") == store_keys(EncoderCard("e", "text", 3, preprocessing={"pooling": "mean"}))("1")


def test_index_is_an_ordinary_database(store):
    store.put(["a"], rows(1))
    with sqlite3.connect(store.folder / "index.sqlite") as connection:
        assert connection.execute("SELECT key FROM vectors").fetchall() == [("a",)]
    connection.close()


def test_a_cache_that_can_only_be_read_is_of_use(tmp_path, monkeypatch, caplog):
    store = FeatureStore(tmp_path)
    store.put(["a"], np.ones((1, 3), dtype=np.float32))

    def forbidden(path, *arguments, **options):
        raise PermissionError(f"{path} belongs to somebody else")

    monkeypatch.setattr(Path, "touch", forbidden)
    positions, values = store.get(["a"], 3)
    assert (positions.tolist(), values.tolist()) == ([0], [[1, 1, 1]])
    assert not caplog.records
