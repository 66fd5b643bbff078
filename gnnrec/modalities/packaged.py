"""Turns the name of a file inside an installed package into its path, once its checksum is as expected."""

import hashlib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from gnnrec.errors import EncoderError, MissingPackageError
from gnnrec.storage import file_sha256

__all__ = ["files_sha256", "package_version", "packaged_file"]


def packaged_file(package: str, file: str, sha256: str, *, extra: str) -> Path:
    """Finds a file of an installed package without importing the package, and verifies it.

    Args:
        package: Import name of the package.
        file: Path inside the package.
        sha256: The digest that the file must have; weights of any other are never loaded.
        extra: The extra of gnnrec that installs the package, for the message.

    Raises:
        MissingPackageError: The package is not installed.
        EncoderError: The file is absent or has another digest.
    """
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise MissingPackageError(f"this encoder needs the package {package}: pip install 'gnnrec[{extra}]'")
    path = Path(found.submodule_search_locations[0]) / file
    if not path.is_file():
        raise EncoderError(f"{path} is absent; install {package} again: pip install 'gnnrec[{extra}]'")
    if file_sha256(path) != sha256:
        raise EncoderError(
            f"{path} is not the file that gnnrec knows (its SHA-256 differs from {sha256}), so it is not loaded; "
            f"install the version pinned by gnnrec[{extra}]"
        )
    return path


def files_sha256(paths: Iterable[Path]) -> str:
    """Returns the SHA-256 of one file, or of the digests of several, as hexadecimal text."""
    digests = [file_sha256(path) for path in paths]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def package_version(distribution: str) -> str:
    """Returns the version of an installed distribution, or an empty string."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""
