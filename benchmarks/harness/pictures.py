"""Draws how good models are, what that costs, what new items cost, and what media are worth, damaged ones too."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from gnnrec.evaluation.drawing import COLOURS, INK, cycle, dress, new_figure, save_figure
from gnnrec.evaluation.report import draw_trade_off
from harness.rows import TRADE_OFF, view_column
from harness.summary import headline

_OURS, _THEIRS = COLOURS[0], COLOURS[1]
_CORNERS = ((9, 7), (-9, -7), (9, -7), (-9, 7))  # of a dot, in points: where its number may stand
_ROOM = (22, 16)  # pixels from the middle of a number to what is beside and above it
_CURVE = dict(zip(("known", "new"), TRADE_OFF, strict=True))


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

    left.errorbar(recall, -number, xerr=deviation, fmt="none", ecolor=INK, elinewidth=1.2, capsize=3.5, zorder=4)
    left.scatter(recall, -number, color=colours, s=38, zorder=3)
    left.set_yticks(-number, [f"{name}  {place}" for name, place in zip(summary.index, number, strict=True)])
    left.tick_params(axis="y", length=0)
    left.set_xlabel("recall@20 on the test set, mean ± sd over seeds")
    dress(left, title)
    left.grid(axis="x", color="#DDDDDD", linewidth=0.8)
    left.grid(visible=False, axis="y")

    right.scatter(summary["fit_seconds"], recall, color=colours, s=38, zorder=3)
    right.set_xscale("log")
    right.margins(0.06)
    dots = right.transData.transform(np.column_stack([summary["fit_seconds"], recall]))
    points = figure.dpi / 72
    taken = list(dots)
    for place, seconds, value, dot in zip(number, summary["fit_seconds"], recall, dots, strict=True):
        # The first corner of the dot whose number would meet no other dot and no other number.
        corners = [dot + points * np.array(corner) for corner in _CORNERS]
        free = [
            min(np.abs((other - middle) / _ROOM).max() for other in taken if other is not dot) for middle in corners
        ]
        best = next((at for at, room in enumerate(free) if room > 1), int(np.argmax(free)))
        right.annotate(
            str(place), (seconds, value), _CORNERS[best], textcoords="offset points", fontsize=8.5, color=INK,
            ha="center", va="center",
        )  # fmt: skip
        taken.append(corners[best])
    right.set_xlabel("seconds of one fit")
    right.set_ylabel("recall@20")
    dress(right, "What it costs")
    for label, colour in (("in this package", _OURS), ("other packages", _THEIRS)):
        right.scatter([], [], color=colour, s=38, label=label)
    right.legend(frameon=False, loc="best")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_figure(figure, path)


def draw_trade_offs(rows: pd.DataFrame, colours: Mapping[str, str], title: str, path: Path) -> None:
    """Draws the recall of new items over that of known ones in the same list, for each model.

    Args:
        rows: Of fits on new items, with the curve of each; those of one model are averaged point by point.
        colours: Model → its colour; models are listed in this order.
        title: Name of the data set.
        path: File to write.
    """
    as_it_comes = [view_column("test", "recall@20", view) for view in ("warm", "cold among all")]
    frames, dots = {}, {}
    for model in [name for name in colours if (rows["model"] == name).any()]:
        of_model = rows[rows["model"] == model]
        points = {name: np.stack(of_model[column].to_list()).mean(axis=0) for name, column in _CURVE.items()}
        frames[model], dots[model] = pd.DataFrame(points), tuple(of_model[as_it_comes].mean())
    figure = new_figure(8.0, 4.6)
    draw_trade_off(figure.subplots(), frames, dots, colours, f"{title}: recall@20")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_figure(figure, path)


def draw_robustness(rows: pd.DataFrame, views: Mapping[str, str], title: str, path: Path) -> None:
    """Draws recall@20 over the share of damaged items: one column of panels per modality, one row per view.

    Args:
        rows: Fits with ``modality``, ``kind`` (``missing`` or ``noise``) and ``share``; share 0 where nothing is
            damaged. Means over seeds are drawn: what the undamaged fits have, times the mean change from the one of the
            same seed, so that a damage of few seeds does not look like another one.
        views: View → its column.
        title: Name of the data set.
        path: File to write.
    """
    modalities = rows["modality"].dropna().unique()
    whole = rows[rows["share"] == 0].set_index("seed")
    figure = new_figure(1.6 + 2.9 * max(len(modalities), 1), 1.0 + 2.5 * len(views))
    panels = figure.subplots(len(views), max(len(modalities), 1), sharex=True, sharey="row", squeeze=False)
    figure.suptitle(f"{title}: recall@20 on validation pairs", color=INK, fontsize=12, fontweight="bold")
    for number, (view, column) in enumerate(views.items()):
        line = panels[number]
        line[0].set_ylabel(view)
        level = whole[column].mean()
        drawn = rows.assign(height=level * rows[column] / rows["seed"].map(whole[column]))
        for axes, modality in zip(line, modalities, strict=False):
            of_modality = drawn[drawn["modality"] == modality]
            for kind, colour, style in (("missing", _OURS, "-"), ("noise", _THEIRS, "--")):
                points = pd.concat([drawn[drawn["share"] == 0], of_modality[of_modality["kind"] == kind]])
                curve = points.groupby("share")["height"].mean()
                axes.plot(curve.index, curve, style, color=colour, marker="o", markersize=4, label=kind)
            gone = of_modality[(of_modality["kind"] == "missing") & (of_modality["share"] == 1)]
            if len(gone):
                axes.axhline(gone["height"].mean(), color=INK, linewidth=1, linestyle=":", label="without the modality")
            dress(axes, modality if number == 0 else "")
        low, high = line[0].get_ylim()
        line[0].set_ylim(min(low, 0.9 * level), max(high, 1.05 * level))  # so that noise of the seed stays small
    for axes in panels[-1]:
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
        axes.set_xlabel("damaged items")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside lower center", ncols=3)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_figure(figure, path)


def draw_spaces(summary: pd.DataFrame, title: str, path: Path) -> None:
    """Draws recall of each space as dots, one colour per direction, beside a line at chance.

    Args:
        summary: ``space``, ``direction``, ``recall``, ``deviation`` and ``chance``, as the page orders them.
        title: Heading.
        path: File to write.
    """
    spaces = list(dict.fromkeys(summary["space"]))
    directions = summary.groupby("direction", sort=False)
    figure = new_figure(9.0, 1.5 + 0.3 * len(spaces))
    axes = figure.subplots()
    for number, ((direction, rows), colour) in enumerate(zip(directions, cycle(len(directions)), strict=True)):
        # Directions stand a little apart, so that equal values do not hide each other.
        place = -rows["space"].map(spaces.index).to_numpy() + 0.12 * ((len(directions) - 1) / 2 - number)
        style = {"fmt": "o", "markersize": 5, "elinewidth": 1, "capsize": 2}
        axes.errorbar(rows["recall"], place, xerr=rows["deviation"], color=colour, label=direction, **style)
    chance = summary["chance"].mean()
    axes.axvline(chance, color=INK, linewidth=1, linestyle=":", label="chance")
    axes.set_yticks(-np.arange(len(spaces)), spaces)
    axes.set_ylim(-len(spaces) + 0.4, 0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(left=0)
    axes.set_xlabel("mean ± sd over seeds")
    dress(axes, title)
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.8)
    axes.grid(visible=False, axis="y")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    save_figure(figure, path)


def draw_directions(matrix: pd.DataFrame, title: str, path: Path) -> None:
    """Draws a value for every query modality (rows) and target modality (columns) as a coloured grid with numbers.

    Args:
        matrix: Recall over chance; NaN is left blank.
        title: Heading.
        path: File to write.
    """
    figure = new_figure(1.8 + 0.8 * len(matrix.columns), 1.2 + 0.55 * len(matrix))
    axes = figure.subplots()
    image = axes.imshow(np.log2(matrix.clip(lower=1)), cmap="Blues", vmin=0, aspect="auto")
    middle = 0.6 * float(np.nanmax(image.get_array()))
    for (row, column), value in np.ndenumerate(matrix.to_numpy()):
        if np.isfinite(value):
            colour = "white" if np.log2(max(value, 1)) > middle else INK
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", color=colour, fontsize=9)
    axes.set_xticks(range(len(matrix.columns)), matrix.columns, rotation=35, ha="left", rotation_mode="anchor")
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(matrix)), matrix.index)
    axes.tick_params(length=0)
    axes.set_ylabel("query")
    dress(axes, title)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    save_figure(figure, path)
