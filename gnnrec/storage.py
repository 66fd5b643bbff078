"""Writes a folder or a file all at once or not at all, and reads a folder back only if all in it is intact."""

import hashlib
import json
import logging
import os
import re
import shutil
import uuid
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError

from gnnrec.errors import StorageError

__all__ = [
    "MANIFEST",
    "check_replaceable",
    "check_writable",
    "default_cache_dir",
    "file_sha256",
    "partial_folders",
    "read_consistently",
    "read_folder",
    "recover",
    "unpack",
    "whole_file",
    "write_folder",
]

logger = logging.getLogger(__name__)

Item = TypeVar("Item")

MANIFEST = "manifest.json"

_OLD = ".old"
_ATTEMPTS = 10  # to write while others read and write


def write_folder(
    path: str | Path, write: Callable[[Path], None], kind: str, version: int, facts: Mapping[str, Any]
) -> None:
    """Writes a checksummed folder; on any failure what was at ``path`` before stays as it was.

    The files are written into a hidden sibling folder and flushed to the disk before that folder
    takes the place of the old one.

    Args:
        path: The folder to write. An older folder of the same kind is replaced.
        write: Writes the files into the folder that it is given; it may make subfolders.
        kind: What the folder holds, for instance ``"dataset"``.
        version: Version of the format.
        facts: Further values for the manifest, as JSON has them.

    Raises:
        StorageError: The disk is full, the place is not writable, or ``path`` holds something else
            that must not be overwritten.
    """
    path = Path(path).absolute()
    with _as_storage_error(f"cannot write {str(path)!r}"):
        path = path.resolve() if path.is_symlink() else path  # a link stays, and leads to the new folder
        recover(path)
        check_replaceable(path, kind)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    with _as_storage_error(f"cannot write {str(path)!r}"):
        try:
            partial.mkdir(parents=True)
            write(partial)
            _write_manifest(partial, {"kind": kind, "version": version, "facts": dict(facts)})
            _make_alike(partial)
            _flush(partial)
            _swap(partial, path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _make_alike(folder: Path) -> None:
    """Lets whoever may read the manifest read all files: some libraries write theirs for the owner alone."""
    mode = (folder / MANIFEST).stat().st_mode
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(mode)


def partial_folders(path: Path) -> list[Path]:
    """Returns what writers of a folder work in, or left behind if they were killed."""
    if not path.parent.is_dir():
        return []
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{32}}\.partial")
    return [sibling for sibling in path.parent.iterdir() if name.fullmatch(sibling.name)]


def read_consistently(
    path: str | Path, kind: str, newest_version: int, read: Callable[[Path, dict[str, Any]], Item]
) -> Item:
    """Checks a folder that :func:`write_folder` wrote and reads it; again, if somebody replaced it meanwhile.

    Args:
        path: The folder.
        kind: What the folder must hold.
        newest_version: The newest format that the caller can read.
        read: From the folder and its manifest (``kind``, ``version``, ``facts`` and ``files``, name → SHA-256) to what
            it holds.

    Raises:
        StorageError: There is no such folder, it holds something else, it is of a newer format, or
            a file is missing, truncated or altered; the message names the file.
    """
    path = Path(path)
    while True:
        manifest = _recovered_manifest(path)
        try:
            _check_manifest(path, manifest, kind, newest_version)
            found = read(path, manifest)
        except Exception:
            if _is_still(path, manifest):
                raise
        else:
            if _is_still(path, manifest):
                return found


def read_folder(path: str | Path, kind: str, newest_version: int) -> dict[str, Any]:
    """Checks a folder as :func:`read_consistently` does, and returns its manifest alone."""
    return read_consistently(path, kind, newest_version, lambda _, manifest: manifest)


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Gives a hidden place beside ``path`` to write to, which becomes ``path`` in the end: a whole file, or none.

    Raises:
        StorageError: The file cannot be written; what was there before stays.
    """
    path = Path(path).absolute()
    with _as_storage_error(f"cannot write {str(path)!r}"):
        path = path.resolve() if path.is_symlink() else path
        partial = path.with_name(f".{uuid.uuid4().hex}.partial{path.suffix}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def check_writable(path: str | Path, kind: str) -> None:
    """Finds out before long work whether :func:`write_folder` would refuse it.

    Raises:
        StorageError: ``path`` holds something else, or no folder can be made there.
    """
    path = Path(path).absolute()
    check_replaceable(path, kind)
    with _as_storage_error(f"cannot write {str(path)!r}"):
        nearest = next(folder for folder in path.parents if folder.exists())
        if not nearest.is_dir():
            raise NotADirectoryError(f"{str(nearest)!r} is no folder")
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise PermissionError(f"nothing can be written into {str(nearest)!r}")


def recover(path: str | Path) -> bool:
    """Puts back a folder that was set aside by a write that was killed before the new one took its place.

    Returns:
        Whether there is something at ``path`` now.
    """
    path = Path(path).absolute()
    if not path.exists() and path.parent.is_dir():
        aside = [folder for folder in path.parent.iterdir() if _is_old(folder, path)]
        if aside:
            try:
                aside[0].rename(path)
            except OSError:
                if not path.exists():  # else somebody was faster
                    raise
            else:
                logger.warning("a write of %s was killed half-way; its former content is back", path)
    return path.exists()


def file_sha256(path: str | Path) -> str:
    """Returns the SHA-256 of a file as hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def default_cache_dir() -> Path:
    """Returns the folder in ``GNNREC_CACHE_DIR``, or ``~/.cache/gnnrec``."""
    return Path(os.environ.get("GNNREC_CACHE_DIR") or Path.home() / ".cache" / "gnnrec")


def unpack(archive: Path, folder: Path, *, inner: bool = False) -> None:
    """Unpacks a ZIP file: the whole folder, or none. If another process is faster, its folder stays.

    Args:
        archive: The file.
        folder: The folder to make.
        inner: Where the archive holds a folder and nothing else, take the content of that.

    Raises:
        StorageError: The archive is damaged, or the folder cannot be written.
    """
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.partial")
    try:
        with zipfile.ZipFile(archive) as file:
            file.extractall(partial)
        entries = list(partial.iterdir())
        (entries[0] if inner and len(entries) == 1 and entries[0].is_dir() else partial).rename(folder)
    except (OSError, zipfile.BadZipFile) as error:
        if not folder.exists():
            raise StorageError(f"cannot unpack {str(archive)!r} to {str(folder)!r}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_replaceable(path: Path, kind: str) -> None:
    """Refuses to replace anything but an empty folder or a folder of the same kind.

    Raises:
        StorageError: ``path`` holds something else.
    """
    with _as_storage_error(f"cannot write {str(path)!r}"):
        replaceable = not path.exists() or (path.is_dir() and not any(path.iterdir())) or _kind_of(path) == kind
    if not replaceable:
        raise StorageError(f"{str(path)!r} exists and is not a {kind} written by gnnrec; choose another place")


def _kind_of(path: Path) -> str | None:
    try:
        kind: str | None = json.loads((path / MANIFEST).read_text(encoding="utf-8")).get("kind")
    except (OSError, ValueError, AttributeError):
        return None
    return kind


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    manifest["files"] = {file.relative_to(folder).as_posix(): file_sha256(file) for file in files}
    manifest["checksum"] = _checksum(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2, default=_plain_number) + "\n", encoding="utf-8")


def _recovered_manifest(path: Path) -> dict[str, Any]:
    """Reads the manifest; a few times, since a write may take the folder away between two looks."""
    for _ in range(_ATTEMPTS):
        with suppress(StorageError, OSError):
            recover(path)
            return _read_manifest(path)
    with _as_storage_error(f"cannot read {str(path)!r}"):
        recover(path)
    return _read_manifest(path)


def _read_manifest(folder: Path) -> dict[str, Any]:
    file = folder / MANIFEST
    if not file.is_file():
        raise StorageError(f"{str(folder)!r} is not a folder written by gnnrec: it has no {MANIFEST}")
    try:
        manifest: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        intact = manifest.pop("checksum") == _checksum(manifest)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageError(f"{str(file)!r} is damaged: {error}") from error
    if not intact:
        raise StorageError(f"{str(file)!r} is damaged: it was altered after it was written")
    return manifest


def _check_manifest(path: Path, manifest: Mapping[str, Any], kind: str, newest_version: int) -> None:
    if manifest["kind"] != kind:
        raise StorageError(f"{str(path)!r} holds a {manifest['kind']}, not a {kind}")
    if manifest["version"] > newest_version:
        raise StorageError(
            f"{str(path)!r} has format version {manifest['version']}, this gnnrec reads up to "
            f"{newest_version}; upgrade gnnrec"
        )
    for name, digest in manifest["files"].items():
        file = path / name
        if not file.is_file():
            raise StorageError(f"{str(file)!r} is missing; the {kind} is incomplete")
        with _as_storage_error(f"cannot read {str(file)!r}"):
            intact = file_sha256(file) == digest
        if not intact:
            raise StorageError(f"{str(file)!r} is damaged: its SHA-256 is not the one in {MANIFEST}")


def _is_still(path: Path, manifest: Mapping[str, Any]) -> bool:
    """Tells whether nobody has replaced the folder since."""
    try:
        return _read_manifest(path) == manifest
    except StorageError:
        return False


def _checksum(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of the manifest's own content, so that its facts are guarded like the files."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True, default=_plain_number).encode()).hexdigest()


def _plain_number(value: Any) -> Any:
    """Turns a number of NumPy into one of Python, which JSON knows."""
    if not isinstance(value, np.generic):
        raise TypeError(f"{value!r} cannot be kept in {MANIFEST}")
    return value.item()


def _flush(folder: Path) -> None:
    """Forces files and folders onto the disk, so that the rename never outruns the data."""
    for entry in [*folder.rglob("*"), folder]:
        descriptor = os.open(entry, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _swap(new: Path, path: Path) -> None:
    """Puts ``new`` in the place of ``path``; if that fails, the old folder goes back.

    Between the two renames a reader finds nothing and puts the old folder back, or another writer is faster.
    """
    for attempt in range(_ATTEMPTS):
        old = path.with_name(f".{path.name}.{uuid.uuid4().hex}{_OLD}")
        with suppress(FileNotFoundError):
            path.rename(old)
        try:
            new.rename(path)
        except OSError:
            if not path.exists():
                with suppress(FileNotFoundError):
                    old.rename(path)
                raise
            shutil.rmtree(old, ignore_errors=True)
            if attempt + 1 == _ATTEMPTS:
                raise
        else:
            shutil.rmtree(old, ignore_errors=True)
            return


def _is_old(folder: Path, path: Path) -> bool:
    middle = folder.name.removeprefix(f".{path.name}.").removesuffix(_OLD)
    return folder.name == f".{path.name}.{middle}{_OLD}" and len(middle) == 32  # the digits of the random name


@contextmanager
def _as_storage_error(what: str) -> Iterator[None]:
    try:
        yield
    except StorageError:
        raise
    except (OSError, SafetensorError) as error:
        raise StorageError(f"{what}: {error}") from error
