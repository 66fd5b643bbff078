"""Draws how good the models of one data set are, and what that costs."""

from pathlib import Path

import numpy as np
import pandas as pd

from gnnrec.evaluation.drawing import COLOURS, INK, dress, new_figure, save_figure
from harness.summary import headline

_OURS, _THEIRS = COLOURS[0], COLOURS[1]


def draw_quality(summary: pd.DataFrame, title: str, path: Path) -> None:
    """Draws recall@20 of each model, and recall@20 over the time of a fit; numbers tell the models.

    Args:
        summary: Of :func:`harness.summary.summarise`.
        title: Name of the data set.
        path: File to write.
    """
    column = headline(summary)
    recall, deviation = summary[column], summary[f"{column} sd"].fillna(0)
    colours = np.where(summary["package"] == "gnnrec", _OURS, _THEIRS)
    number = np.arange(len(summary)) + 1
    figure = new_figure(10.5, max(3.4, 1.4 + 0.26 * len(summary)))
    left, right = figure.subplots(1, 2, width_ratios=[1.15, 1])

    left.errorbar(recall, -number, xerr=deviation, fmt="none", ecolor=INK, elinewidth=1.2, capsize=2.5, zorder=2)
    left.scatter(recall, -number, color=colours, s=38, zorder=3)
    left.set_yticks(-number, [f"{name}  {place}" for name, place in zip(summary.index, number, strict=True)])
    left.tick_params(axis="y", length=0)
    left.set_xlabel("recall@20 on the test set, mean ± sd over seeds")
    dress(left, title)
    left.grid(axis="x", color="#DDDDDD", linewidth=0.8)
    left.grid(visible=False, axis="y")

    right.scatter(summary["fit_seconds"], recall, color=colours, s=38, zorder=3)
    for place, seconds, value in zip(number, summary["fit_seconds"], recall, strict=True):
        right.annotate(str(place), (seconds, value), (5, 4), textcoords="offset points", fontsize=8.5, color=INK)
    right.set_xscale("log")
    right.set_xlabel("seconds of one fit")
    right.set_ylabel("recall@20")
    dress(right, "What it costs")
    for label, colour in (("gnnrec", _OURS), ("other packages", _THEIRS)):
        right.scatter([], [], color=colour, s=38, label=label)
    right.legend(frameon=False, loc="best")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_figure(figure, path)
