"""The pages of results hold what their scripts make of the stored rows, and nothing that a hand wrote."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import alignment
import cold_start_tables
import robustness
import tables

DOCS = Path(__file__).parents[2] / "docs"

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("write", "options", "page"),
    [
        (tables.main, [], "benchmarks.md"),
        (cold_start_tables.main, [], "benchmarks-cold-start.md"),
        (robustness.main, ["--draw"], "robustness.md"),
        (alignment.main, ["--draw"], "benchmarks-alignment.md"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_page_is_what_its_script_writes(
    write: Callable[[list[str]], None], options: list[str], page: str, tmp_path: Path
) -> None:
    shutil.copytree(DOCS / "images", tmp_path / "images")
    write([*options, "--docs", str(tmp_path)])
    assert (tmp_path / page).read_text(encoding="utf-8") == (DOCS / page).read_text(encoding="utf-8")
