"""Keeps what one script measured: a JSON file, written whole or not at all."""

import json
from pathlib import Path
from typing import Any

from gnnrec.storage import whole_file


def read_results(path: Path) -> Any:
    """Returns what :func:`write_results` wrote; an empty dictionary if nothing was."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write_results(path: Path, results: Any) -> None:
    with whole_file(path) as partial:
        partial.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
