import errno
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from gnnrec import storage
from gnnrec.errors import StorageError
from gnnrec.named_tensors import csr_matrix, csr_tensors
from gnnrec.storage import MANIFEST, read_consistently, read_folder, recover, unpack, whole_file, write_folder


def write_numbers(text="1 2 3"):
    def write(folder):
        (folder / "numbers.txt").write_text(text)
        (folder / "deep").mkdir()
        (folder / "deep" / "more.txt").write_text("more")

    return write


def save(path, text="1 2 3", version=1, kind="numbers"):
    write_folder(path, write_numbers(text), kind, version, {"count": 3})


@pytest.mark.parametrize("kept", [1.0, 0.25])
def test_sparse_matrices_survive_as_tensors(kept):
    matrix = sp.csr_matrix(np.array([[0, 1, 0, kept], [0, 0, 0, 0], [kept, 0, 0, 0]], dtype=np.float32))
    tensors = csr_tensors("m", matrix)
    assert set(tensors) == {"m.indptr", "m.indices"} | (
        {"m.data"} if kept != 1 else set()
    )  # binary ones need no values
    again = csr_matrix("m", tensors, 4)
    assert again.dtype == np.float32
    np.testing.assert_array_equal(again.toarray(), matrix.toarray())


def entries(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_written_folder_reads_back_with_its_facts(tmp_path):
    save(tmp_path / "a" / "b")
    manifest = read_folder(tmp_path / "a" / "b", "numbers", newest_version=1)
    assert manifest["facts"] == {"count": 3}
    assert sorted(manifest["files"]) == ["deep/more.txt", "numbers.txt"]
    assert entries(tmp_path / "a") == ["b"]


def test_whoever_may_read_one_file_may_read_all(tmp_path):
    def write(folder):
        (folder / "inner").mkdir()
        (folder / "inner" / "private").touch(mode=0o600)  # as safetensors leaves its files

    write_folder(tmp_path / "it", write, "thing", 1, {})
    (tmp_path / "usual").touch()
    modes = {file.stat().st_mode for file in (tmp_path / "it").rglob("*") if file.is_file()}
    assert modes == {(tmp_path / "usual").stat().st_mode}


def test_a_second_write_replaces_the_first_wholly(tmp_path):
    save(tmp_path / "x", "old")
    write_folder(tmp_path / "x", lambda folder: (folder / "only.txt").touch(), "numbers", 1, {})
    assert entries(tmp_path / "x") == [MANIFEST, "only.txt"]
    assert entries(tmp_path) == ["x"]


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("bug")])
def test_a_failed_write_leaves_the_old_folder_untouched(tmp_path, failure):
    save(tmp_path / "x", "old")

    def fail(folder):
        (folder / "numbers.txt").write_text("half")
        raise failure

    expected = StorageError if isinstance(failure, OSError) else RuntimeError
    with pytest.raises(expected, match=r"No space left|bug"):
        write_folder(tmp_path / "x", fail, "numbers", 1, {})
    read_folder(tmp_path / "x", "numbers", 1)
    assert (tmp_path / "x" / "numbers.txt").read_text() == "old"
    assert entries(tmp_path) == ["x"]


def test_a_failed_swap_puts_the_old_folder_back(tmp_path, monkeypatch):
    save(tmp_path / "x", "old")
    rename = type(tmp_path).rename

    def failing_rename(self, target):
        if self.name.endswith(".partial"):
            raise OSError(errno.EIO, "input/output error")
        return rename(self, target)

    monkeypatch.setattr(type(tmp_path), "rename", failing_rename)
    with pytest.raises(StorageError, match="input/output"):
        save(tmp_path / "x", "new")
    assert (tmp_path / "x" / "numbers.txt").read_text() == "old"
    assert entries(tmp_path) == ["x"]


def test_foreign_folders_and_files_are_never_replaced(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("dear")
    (tmp_path / "file").write_text("dear")
    save(tmp_path / "other", kind="letters")
    for name in ("home", "file", "other"):
        with pytest.raises(StorageError, match="choose another place"):
            save(tmp_path / name)
    assert (tmp_path / "home" / "thesis.txt").read_text() == "dear"


@pytest.mark.parametrize("damage", ["truncated", "tampered", "missing"])
def test_a_damaged_file_is_named(tmp_path, damage):
    save(tmp_path / "x")
    file = tmp_path / "x" / "deep" / "more.txt"
    if damage == "missing":
        file.unlink()
    else:
        file.write_text("mo" if damage == "truncated" else "mode")
    with pytest.raises(StorageError, match=r"more\.txt"):
        read_folder(tmp_path / "x", "numbers", 1)


def test_an_altered_manifest_is_refused(tmp_path):
    save(tmp_path / "x")
    file = tmp_path / "x" / MANIFEST
    manifest = json.loads(file.read_text())
    manifest["facts"]["count"] = 4
    file.write_text(json.dumps(manifest))
    with pytest.raises(StorageError, match="altered"):
        read_folder(tmp_path / "x", "numbers", 1)
    file.write_text("{")
    with pytest.raises(StorageError, match="damaged"):
        read_folder(tmp_path / "x", "numbers", 1)


def test_other_kinds_newer_formats_and_absent_folders_are_refused(tmp_path):
    save(tmp_path / "x", version=2)
    with pytest.raises(StorageError, match="holds a numbers, not a dataset"):
        read_folder(tmp_path / "x", "dataset", 2)
    with pytest.raises(StorageError, match="upgrade"):
        read_folder(tmp_path / "x", "numbers", 1)
    with pytest.raises(StorageError, match="not a folder written by gnnrec"):
        read_folder(tmp_path / "nowhere", "numbers", 1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission_is_a_storage_error(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(StorageError, match="Permission denied"):
        save(tmp_path / "locked" / "x")


def test_a_place_that_cannot_be_written_is_a_storage_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="Not a directory"):
        save(tmp_path / "file" / "x")


def test_a_write_killed_between_its_two_renames_is_undone_by_the_next_reader(tmp_path, monkeypatch, caplog):
    def write(text):
        write_folder(tmp_path / "thing", lambda folder: (folder / "a.txt").write_text(text), "thing", 1, {"text": text})

    write("old")
    rename, calls = Path.rename, 0

    def die_at_the_second(self, target):
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", die_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        write("new")
    monkeypatch.undo()
    assert not (tmp_path / "thing").exists()
    assert read_folder(tmp_path / "thing", "thing", 1)["facts"] == {"text": "old"}
    assert "killed half-way" in caplog.text
    write("newer")
    assert [entry.name for entry in tmp_path.iterdir()] == ["thing"]


@pytest.mark.parametrize("somebody", ["reads", "writes"])
def test_a_write_is_done_though_somebody_else_comes_between_its_renames(tmp_path, monkeypatch, somebody):
    save(tmp_path / "x", "old")
    rename, between = Path.rename, []

    def rename_and_be_interrupted(self, target):
        rename(self, target)
        if self.name == "x" and not between:
            between.append("once")
            recover(tmp_path / "x") if somebody == "reads" else save(tmp_path / "x", "of another")

    monkeypatch.setattr(Path, "rename", rename_and_be_interrupted)
    save(tmp_path / "x", "new")
    assert between
    assert read_folder(tmp_path / "x", "numbers", 1)
    assert (tmp_path / "x" / "numbers.txt").read_text() == "new"
    assert entries(tmp_path) == ["x"]


def test_a_reader_comes_between_the_renames(tmp_path, monkeypatch):
    save(tmp_path / "x", "old")
    aside, seen = tmp_path / f".x.{'0' * 32}.old", []
    read_manifest = storage._read_manifest

    def taken_away(folder):
        if not seen:
            seen.append((tmp_path / "x").rename(aside))  # after recover has found it
        return read_manifest(folder)

    monkeypatch.setattr(storage, "_read_manifest", taken_away)
    assert read_folder(tmp_path / "x", "numbers", 1)["facts"] == {"count": 3}
    assert seen
    assert entries(tmp_path) == ["x"]


def test_a_reader_gets_one_of_two_folders_whole(tmp_path, monkeypatch):
    save(tmp_path / "x", "old")
    sha256, seen = storage.file_sha256, []

    def replaced_while_hashing(file):
        if not seen:
            seen.append(file)
            write_folder(tmp_path / "x", lambda folder: (folder / "other.txt").write_text("new"), "numbers", 1, {})
        return sha256(file)

    monkeypatch.setattr(storage, "file_sha256", replaced_while_hashing)
    assert list(read_folder(tmp_path / "x", "numbers", 1)["files"]) == ["other.txt"]
    reads = []

    def read(folder, manifest):
        reads.append(list(manifest["files"]))
        if len(reads) == 1:
            save(tmp_path / "x", "newest")
        return [(folder / name).read_text() for name in manifest["files"]]

    assert read_consistently(tmp_path / "x", "numbers", 1, read) == ["more", "newest"]
    assert reads == [["other.txt"], ["deep/more.txt", "numbers.txt"]]

    def fail(folder, manifest):
        raise ValueError("of the reader")

    with pytest.raises(ValueError, match="of the reader"):
        read_consistently(tmp_path / "x", "numbers", 1, fail)


def test_a_link_stays_and_leads_to_what_was_written(tmp_path):
    save(tmp_path / "v1")
    (tmp_path / "current").symlink_to("v1")
    save(tmp_path / "current", text="4 5")
    assert (tmp_path / "current").is_symlink()
    assert (tmp_path / "v1" / "numbers.txt").read_text() == "4 5"
    assert {path.name for path in tmp_path.iterdir()} == {"v1", "current"}


def test_a_name_that_no_folder_can_have(tmp_path):
    with pytest.raises(StorageError, match="too long"):
        save(tmp_path / ("x" * 300))
    with pytest.raises(StorageError, match="too long"):
        read_folder(tmp_path / ("x" * 300), "numbers", 1)


def test_numbers_of_numpy_are_kept(tmp_path):
    write_folder(tmp_path / "a", write_numbers(), "numbers", 1, {"count": np.int64(3), "share": np.float32(0.5)})
    assert read_folder(tmp_path / "a", "numbers", 1)["facts"] == {"count": 3, "share": 0.5}


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    with whole_file(tmp_path / "deep" / "a.csv") as file:
        assert file.suffix == ".csv"  # formats are told by it
        file.write_text("old")
        assert not (tmp_path / "deep" / "a.csv").exists()
    (tmp_path / "link.csv").symlink_to(tmp_path / "deep" / "a.csv")
    with whole_file(tmp_path / "link.csv") as file:
        file.write_text("new")
    assert (tmp_path / "link.csv").is_symlink()

    def half():
        with whole_file(tmp_path / "deep" / "a.csv") as file:
            file.write_text("ha")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError, match="No space left"):
        half()
    assert (tmp_path / "deep" / "a.csv").read_text() == "new"
    assert entries(tmp_path / "deep") == ["a.csv"]


def packed(path, *names):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        for name in names:
            file.writestr(name, "user,item\n" * 10)
    return path


@pytest.mark.parametrize(
    ("names", "inner", "found"),
    [
        (["films/a.csv", "films/b.csv"], False, ["films"]),
        (["films/a.csv", "films/b.csv"], True, ["a.csv", "b.csv"]),
        (["films/a.csv", "b.csv"], True, ["b.csv", "films"]),
        (["a.csv"], True, ["a.csv"]),
    ],
)
def test_an_archive_is_unpacked(tmp_path, names, inner, found):
    unpack(packed(tmp_path / "films.zip", *names), tmp_path / "deep" / "data", inner=inner)
    assert entries(tmp_path / "deep") == ["data"]
    assert entries(tmp_path / "deep" / "data") == found


def test_what_a_faster_process_unpacked_stays(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "theirs").touch()
    unpack(packed(tmp_path / "films.zip", "ours"), tmp_path / "data")
    assert entries(tmp_path / "data") == ["theirs"]


def test_an_archive_that_cannot_be_unpacked_leaves_nothing_behind(tmp_path):
    archive = packed(tmp_path / "films.zip", "ratings.csv")
    damaged = archive.read_bytes().replace(b"user,item\n", b"user,itex\n", 1)  # no longer as its checksum says
    archive.write_bytes(damaged)
    for _ in range(2):
        with pytest.raises(StorageError, match="cannot unpack"):
            unpack(archive, tmp_path / "data")
    assert entries(tmp_path) == ["films.zip"]
