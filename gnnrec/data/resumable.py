"""Keeps the result of a step of a long task, so that an interrupted task goes on where it stopped."""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gnnrec.errors import StorageError
from gnnrec.storage import read_folder, write_folder

__all__ = ["once"]

logger = logging.getLogger(__name__)

_KIND = "finished step"
_VERSION = 1
_REPORT = "report.json"


def once(folder: Path, made_from: Mapping[str, Any], write: Callable[[Path], Any]) -> Any:
    """Takes the finished step from ``folder``, if it was made from the same; else does it.

    Args:
        folder: Where the result of the step is kept.
        made_from: All that the result depends on, as JSON has it.
        write: Writes the result into the folder that it is given, and returns a report, as JSON has it.

    Returns:
        The report.

    Raises:
        StorageError: The folder cannot be written.
    """
    facts = json.loads(json.dumps(made_from))
    if not _is_finished(folder, facts):

        def write_with_report(partial: Path) -> None:
            (partial / _REPORT).write_text(json.dumps(write(partial)), encoding="utf-8")

        write_folder(folder, write_with_report, _KIND, _VERSION, facts)
    return json.loads((folder / _REPORT).read_text(encoding="utf-8"))


def _is_finished(folder: Path, facts: Mapping[str, Any]) -> bool:
    if not folder.exists():
        return False
    try:
        finished = bool(read_folder(folder, _KIND, _VERSION)["facts"] == facts)
    except StorageError as error:
        logger.warning("%s: what was left of it cannot be used, so it starts afresh: %s", folder.name, error)
        return False
    if finished:
        logger.info("%s: finished before, not done again", folder.name)
    else:
        logger.warning("%s: files or options have changed since it was finished, so it starts afresh", folder.name)
    return finished
