"""Draws how a search went and which options mattered. Needs the ``plot`` extra."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gnnrec.evaluation.drawing import COLOURS, INK, OTHER, dress, new_figure, save_figure

__all__ = ["plot_importance", "plot_search"]

_BLUE, _ORANGE = COLOURS[:2]
# State, colour, marker, word in the legend.
_MARKS = (("complete", _BLUE, "o", "complete"), ("pruned", OTHER, "o", "stopped early"), ("failed", INK, "x", "failed"))


def plot_search(trials: pd.DataFrame, metric: str, path: str | Path) -> None:
    """Draws the value of each trial and the best so far.

    Far-off trials are drawn as triangles at the lower edge, so that they do not press the others together.

    Args:
        trials: The frame of a :class:`~gnnrec.tuning.report.TuningReport`.
        metric: Its column with the values.
        path: File to write.

    Raises:
        ConfigError: An ending that is no picture format.
        MissingPackageError: matplotlib is not installed.
    """
    complete = trials[trials["state"] == "complete"]
    best = complete[metric].cummax()
    top = float(best.iloc[-1])
    # As far below the best as the start and nine tenths of the complete trials lie, and a little further.
    floor = top - 1.15 * max(top - float(complete[metric].quantile(0.1)), top - float(best.iloc[0]), 0.02 * top, 1e-6)

    figure = new_figure(width=8.5, height=4.2)
    axes = figure.subplots()
    for state, colour, marker, label in _MARKS:
        shown = trials[trials["state"] == state]
        value = shown[metric].fillna(floor).to_numpy()
        low = value < floor
        if len(shown):
            style: dict[str, Any] = {"color": colour, "clip_on": False, "linewidths": 1.2 if marker == "x" else 0}
            number = shown["trial"].to_numpy()
            axes.scatter(number[~low], value[~low], s=24, marker=marker, label=f"{label} ({len(shown)})", **style)
            axes.scatter(number[low], np.full(low.sum(), floor), s=28, marker="v", **style)
    last = float(trials["trial"].iloc[-1])
    so_far = [*best, top]
    curve: dict[str, Any] = {"color": _ORANGE, "linewidth": 1.8, "drawstyle": "steps-post", "label": "best so far"}
    axes.plot([*complete["trial"], last], so_far, **curve)
    if complete.index[0] == 0:
        axes.axhline(so_far[0], color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1, label="start")
    where = int(complete["trial"].to_numpy()[complete[metric].to_numpy().argmax()])
    axes.plot(where, top, "o", color=_ORANGE, markersize=8)
    text: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "color": _ORANGE, "fontsize": 9}
    axes.annotate(f"{top:.4f}", (where, top), (0, 8), **text)
    axes.set_ylim(floor, top + 0.12 * (top - floor))
    axes.set_xlim(-0.5, last + 0.5)
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel("trial")
    dress(axes, f"Validation {metric}")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    save_figure(figure, path)


def plot_importance(importance: Mapping[str, float], path: str | Path) -> None:
    """Draws the share of each option in what sets the best trials apart, as bars.

    Args:
        importance: Option → share.
        path: File to write.

    Raises:
        ConfigError: An ending that is no picture format.
        MissingPackageError: matplotlib is not installed.
    """
    ranked = sorted(importance.items(), key=lambda item: item[1])
    names, shares = [name for name, _ in ranked], [share for _, share in ranked]
    figure = new_figure(width=7, height=1.1 + 0.34 * len(ranked))
    axes = figure.subplots()
    bars = axes.barh(names, shares, height=0.66, color=_BLUE)
    axes.bar_label(bars, [f"{share:.0%}" for share in shares], padding=4, color=INK, fontsize=9)
    axes.set_xlim(0, 1.12 * max(shares))
    axes.set_ylim(-0.6, len(ranked) - 0.4)
    dress(axes, "Importance of the options")
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_xticks([])
    save_figure(figure, path)
