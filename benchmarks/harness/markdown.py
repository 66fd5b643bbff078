"""Writes figures as the cells of Markdown tables."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from gnnrec.evaluation import PairedBootstrap


def put_between(page: Path, script: str, name: str, text: str) -> None:
    """Replaces what stands between the markers of a page that name a script and what it writes."""
    begin, end = f"<!-- {name}: written by {script} -->\n", f"<!-- end of {name} -->"
    before, rest = page.read_text(encoding="utf-8").split(begin)
    page.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}", encoding="utf-8")


def table(header: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    """Returns a table: a header, and one line per row."""
    rows = [list(header), ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows) + "\n"


def number(value: float) -> str:
    """Formats a metric as the field writes it: four places, no zero before the point."""
    return "" if pd.isna(value) else f"{value:.4f}".removeprefix("0")


def mean(line: pd.Series, column: str) -> str:
    """Returns the mean of a column over seeds ± its deviation."""
    deviation = line[f"{column} sd"]
    return number(line[column]) + ("" if pd.isna(deviation) else f" ± {number(deviation)}")


def compared(result: PairedBootstrap | None) -> str:
    """Returns a difference with its 95 % interval and p-value."""
    if result is None:
        return ""
    difference, low, high = (
        f"{value:+.4f}".replace("0.", ".") for value in (result.difference, result.low, result.high)
    )
    p_value = "p < .001" if result.p_value < 0.001 else f"p = {result.p_value:.3f}".replace("0.", ".")
    return f"{difference} [{low}, {high}], {p_value}"


def seconds(value: float) -> str:
    """Returns a time in seconds."""
    return "" if pd.isna(value) else f"{value:.1f} s" if value < 100 else f"{value:,.0f} s"


def threads(number: float) -> str:
    """Returns a number of threads."""
    return "1 thread" if number == 1 else f"{number:.0f} threads"


def plain(text: str) -> str:
    """Makes a cell of JSON or of an error message: one line, nothing that ends the cell."""
    return " ".join(text.replace("|", "\\|").replace('"', "").removeprefix("{").removesuffix("}").split())
