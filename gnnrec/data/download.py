"""Fetches a file over HTTP, going on where an earlier try stopped, and trusts it only by its SHA-256."""

import http.client
import logging
import shutil
import urllib.error
import urllib.request
from pathlib import Path

from gnnrec.errors import StorageError
from gnnrec.storage import file_sha256

__all__ = ["download"]

logger = logging.getLogger(__name__)

_TIMEOUT = 60  # seconds without an answer


def download(url: str, destination: str | Path, sha256: str) -> Path:
    """Fetches a file unless it is there already.

    What has arrived is kept in ``<destination>.part``; a later call asks the server only for the rest.

    Args:
        url: An ``http`` or ``https`` address.
        destination: The file to write.
        sha256: The digest that the whole file must have.

    Returns:
        ``destination``.

    Raises:
        StorageError: The server cannot be reached, the connection breaks, the file cannot be written or
            its digest is wrong (what arrived is then deleted).
    """
    destination = Path(destination)
    if destination.exists() and file_sha256(destination) == sha256:
        return destination
    if not url.startswith(("http://", "https://")):
        raise StorageError(f"cannot download {url!r}: only http and https addresses are fetched")
    part = destination.with_name(destination.name + ".part")
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, part)
        if file_sha256(part) != sha256:
            part.unlink()
            raise StorageError(f"{url!r} did not give the expected file: its SHA-256 is not {sha256}")
        part.replace(destination)
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(f"cannot download {url!r} to {str(destination)!r}: {error}; call again to go on") from error
    return destination


def _fetch(url: str, part: Path) -> None:
    """Appends to ``part`` what it lacks."""
    present = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url)  # noqa: S310 - the scheme was checked
    if present:
        request.add_header("Range", f"bytes={present}-")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310 - the scheme was checked
            resumed = answer.status == http.HTTPStatus.PARTIAL_CONTENT
            logger.info("downloading %s%s", url, f" from byte {present}" if resumed else "")
            with part.open("ab" if resumed else "wb") as file:
                shutil.copyfileobj(answer, file, length=1 << 20)
            expected = answer.headers.get("Content-Length")
    except urllib.error.HTTPError as error:
        if present and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # everything has arrived before
        raise
    received = part.stat().st_size - (present if resumed else 0)
    if expected is not None and received < int(expected):
        raise http.client.IncompleteRead(b"", int(expected) - received)
