"""Draws training curves, how newcomers fare, recall by item degree, and maps of embeddings, each into one picture file.

The ending of the path chooses the format (``.png``, ``.svg``, ``.pdf``). Needs the ``plot`` extra.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from gnnrec.errors import DataError
from gnnrec.evaluation.drawing import COLOURS, INK, OTHER, cycle, dress, new_figure, save_figure
from gnnrec.evaluation.protocol import Evaluation
from gnnrec.evaluation.trade_off import TradeOff

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "draw_trade_off",
    "plot_embeddings",
    "plot_few_shot",
    "plot_recall_by_degree",
    "plot_trade_off",
    "plot_training",
]

_MAX_POINTS = 20_000  # more would only paint over each other

logger = logging.getLogger(__name__)


def plot_training(history: pd.DataFrame | Sequence[Mapping[str, float]], path: str | Path) -> None:
    """Draws the loss and the validation metrics over the epochs; a dot marks each metric's best epoch.

    Args:
        history: One record or row per epoch, as ``Recommender.history`` has them: ``epoch``, ``loss`` (and its
            terms), metrics such as ``recall@20``, in any epochs; ``seconds`` is not drawn.
        path: File to write.

    Raises:
        DataError: An empty history.
        ConfigError: An ending that is no picture format.
        MissingPackageError: matplotlib is not installed.
    """
    frame = history if isinstance(history, pd.DataFrame) else pd.DataFrame(list(history))
    if frame.empty:
        raise DataError("the history has no epoch to draw")
    frame = frame.set_index("epoch").dropna(axis=1, how="all")
    metrics = [name for name in frame.columns if "@" in name or name == "auc"]
    terms = [name for name in frame.columns if name not in (*metrics, "loss", "seconds")]
    losses = ["loss", *terms] if len(terms) > 1 else ["loss"]  # a single term is the loss
    figure = new_figure(width=9.5 if metrics else 5)
    panels = figure.subplots(1, 2 if metrics else 1, squeeze=False)[0]
    _draw_curves(panels[0], frame[losses], "Training loss")
    if metrics:
        _draw_curves(panels[1], frame[metrics], "Validation")
        panels[1].set_ylim(0, 1.12 * max(float(frame[metrics].max().max()), 1e-3))  # headroom for the best values
        for name, colour in zip(metrics, cycle(len(metrics)), strict=True):
            _mark_best(panels[1], frame[name].dropna(), colour)
    save_figure(figure, path)


def plot_recall_by_degree(slices: Mapping[str, pd.DataFrame], path: str | Path) -> None:
    """Draws recall for items with few to many training events as bars, one colour per model.

    Args:
        slices: Model → frame of :func:`gnnrec.evaluation.slices.sliced`, all of the same test pairs. Thin lines
            show one standard error.
        path: File to write.

    Raises:
        DataError: No frame, or frames whose slices or k differ.
        ConfigError: An ending that is no picture format.
        MissingPackageError: matplotlib is not installed.
    """
    if not slices:
        raise DataError("there is no model to draw")
    frames = list(slices.values())
    metric = next(name for name in frames[0].columns if "@" in name)
    labels = frames[0]["slice"].tolist()
    for name, frame in slices.items():
        if metric not in frame or frame["slice"].tolist() != labels:
            raise DataError(f"{name!r} has other slices or another k than the first model; slice the same test pairs")

    figure = new_figure(width=max(6.0, 1.0 + len(labels) * (0.5 + 0.25 * len(slices))))
    axes = figure.subplots()
    place, width = np.arange(len(labels)), 0.8 / len(slices)
    for number, (name, colour) in enumerate(zip(slices, cycle(len(slices)), strict=True)):
        frame = slices[name]
        at = place + (number - (len(slices) - 1) / 2) * width
        error = frame["standard_error"].fillna(0)
        style: dict[str, Any] = {"elinewidth": 1, "ecolor": INK}
        axes.bar(at, frame[metric], width * 0.92, color=colour, label=name, yerr=error, error_kw=style)
    pairs = frames[0]["num_pairs"]
    axes.set_xticks(place, [f"{label}\n({count:,})" for label, count in zip(labels, pairs, strict=True)])
    axes.tick_params(axis="x", length=0)
    axes.set_xlabel("training events of the item (test pairs)")
    axes.set_ylim(bottom=0)
    dress(axes, _title_of(metric) + " by how well known the items are")
    if len(slices) > 1:
        axes.legend(frameon=False)
    save_figure(figure, path)


def plot_few_shot(
    curves: Mapping[str, Mapping[int, Evaluation]], path: str | Path, *, metric: str = "recall@20"
) -> None:
    """Draws a metric over the number of known interactions of newcomers as lines, one colour per model.

    Args:
        curves: Model → number of interactions → evaluation, as ``gnnrec.cold_start_report`` measures them. Thin lines
            show one standard error.
        path: File to write.
        metric: A metric of the evaluations.

    Raises:
        DataError: No curve, or curves whose numbers of interactions differ or that lack the metric.
        ConfigError: An ending that is no picture format.
        MissingPackageError: matplotlib is not installed.
    """
    if not curves:
        raise DataError("there is no model to draw")
    shots = sorted(next(iter(curves.values())))
    for name, curve in curves.items():
        if sorted(curve) != shots or any(metric not in one.values for one in curve.values()):
            raise DataError(f"{name!r} has other numbers of interactions than the first model, or lacks {metric!r}")
    figure = new_figure(width=6.0)
    axes = figure.subplots()
    for (name, curve), colour in zip(curves.items(), cycle(len(curves)), strict=True):
        frame = pd.concat([curve[count].to_frame().set_index("metric").loc[[metric]] for count in shots])
        style: dict[str, Any] = {"marker": "o", "capsize": 2.5, "elinewidth": 1}
        error = frame["standard_error"].fillna(0)
        axes.errorbar(range(len(shots)), frame["value"], error, color=colour, label=name, **style)
    axes.set_xticks(range(len(shots)), [str(count) for count in shots])
    axes.set_xlabel("known interactions")
    axes.set_ylim(bottom=0)
    dress(axes, _title_of(metric) + " by what is known of a newcomer")
    if len(curves) > 1:
        axes.legend(frameon=False)
    save_figure(figure, path)


def plot_trade_off(curves: Mapping[str, TradeOff], path: str | Path) -> None:
    """Draws the recall of new items over that of known ones in the same list, one colour per model.

    Args:
        curves: Model → what its lists can be, as ``gnnrec.cold_start_report`` measures it. A dot marks the list as it
            is, where the scores of new items are not moved.
        path: File to write.

    Raises:
        DataError: No curve, or lists of different lengths.
        ConfigError: An ending that is no picture format.
        MissingPackageError: matplotlib is not installed.
    """
    if not curves:
        raise DataError("there is no model to draw")
    lengths = {curve.k for curve in curves.values()}
    if len(lengths) > 1:
        raise DataError(f"the lists have different lengths: {sorted(lengths)}; measure all with the same k")
    frames = {name: curve.to_frame() for name, curve in curves.items()}
    as_it_is = {name: (curve.known_recall(0.0), curve.new_recall(0.0)) for name, curve in curves.items()}
    figure = new_figure(width=7.0, height=4.2)
    colours = dict(zip(frames, cycle(len(frames)), strict=True))
    draw_trade_off(
        figure.subplots(), frames, as_it_is, colours, f"Recall@{lengths.pop()} of new items and of known ones"
    )
    save_figure(figure, path)


def draw_trade_off(
    axes: "Axes",
    frames: Mapping[str, pd.DataFrame],
    as_it_is: Mapping[str, tuple[float, float]],
    colours: Mapping[str, str],
    title: str,
) -> None:
    """Draws trade-offs, given as frames with columns ``known`` and ``new``, and a dot ``(known, new)`` for each."""
    for name, frame in frames.items():
        axes.plot(frame["known"], frame["new"], color=colours[name], label=name, linewidth=1.8)
        axes.plot(*as_it_is[name], "o", color=colours[name], markersize=7, clip_on=False, zorder=3)
    axes.set_xlabel("recall of known items")
    axes.set_ylabel("recall of new items, among all")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    dress(axes, title)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


def plot_embeddings(vectors: ArrayLike, labels: Sequence[Any], path: str | Path, *, title: str = "Embeddings") -> None:
    """Draws a map of vectors: their two principal components, coloured by label.

    Principal components are a plain projection, so distances on the map are honest lower bounds of the true ones
    and the same vectors always give the same map. The six commonest labels get a colour, the rest are grey.

    Args:
        vectors: ``[num_points, dim]`` with at least two dimensions.
        labels: ``[num_points]`` category of each point; ``None`` or NaN is grey too.
        path: File to write.
        title: Heading of the picture.

    Raises:
        DataError: Shapes that do not fit, fewer than two points, or values that are not numbers.
        ConfigError: An ending that is no picture format.
        MissingPackageError: matplotlib is not installed.
    """
    points = np.asarray(vectors, dtype=np.float64)
    if points.ndim != 2 or min(points.shape) < 2 or len(labels) != len(points):
        raise DataError(f"a map needs a matrix of two or more points and one label each; got {points.shape}")
    if not np.isfinite(points).all():
        raise DataError("some vectors are not finite")
    position, share = _principal_components(points)
    category = pd.Series(list(labels), dtype=object)
    counts = category.value_counts()
    commonest = counts.index[: len(COLOURS) - 1].tolist()
    shown = _spread(len(points))

    figure = new_figure(width=7.5, height=5.6)
    axes = figure.subplots()
    style: dict[str, Any] = {"s": float(np.clip(12_000 / len(shown), 4, 36)), "linewidths": 0, "alpha": 0.75}
    for label, colour in zip(commonest, COLOURS, strict=False):
        of_label = shown[(category.iloc[shown] == label).to_numpy()]
        axes.scatter(*position[of_label].T, color=colour, label=f"{label} ({counts[label]:,})", zorder=2, **style)
    others = ~category.isin(commonest).to_numpy()
    if others.any():
        place = position[shown[others[shown]]].T
        axes.scatter(*place, color=OTHER, label=f"other ({others.sum():,})", zorder=1, **style)
    axes.set_xlabel(f"first principal component ({share[0]:.0%} of variance)")
    axes.set_ylabel(f"second ({share[1]:.0%})")
    dress(axes, title)
    axes.grid(visible=False)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xticks([])
    axes.set_yticks([])
    legend = axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=1.5)
    for handle in filter(None, legend.legend_handles):
        handle.set_alpha(1)
    save_figure(figure, path)


def _principal_components(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns positions ``[num_points, 2]`` and the share of variance of both components ``[2]``."""
    centred = points - points.mean(axis=0)
    variance, direction = np.linalg.eigh(centred.T @ centred)
    direction = direction[:, :-3:-1]
    # An eigenvector's sign is arbitrary: let its largest coordinate be positive.
    direction = direction * np.sign(direction[np.abs(direction).argmax(axis=0), [0, 1]])
    total = max(variance.sum(), np.finfo(float).tiny)
    return centred @ direction, variance[:-3:-1].clip(min=0) / total


def _spread(num_points: int) -> NDArray[np.int64]:
    """Returns the points to draw: all, or evenly spaced ones if there are too many."""
    if num_points > _MAX_POINTS:
        logger.info("drawing %d of %d points", _MAX_POINTS, num_points)
    return np.linspace(0, num_points - 1, min(num_points, _MAX_POINTS)).round().astype(np.int64)


def _draw_curves(axes: "Axes", curves: pd.DataFrame, title: str) -> None:
    for name, colour in zip(curves.columns, cycle(len(curves.columns)), strict=True):
        curve = curves[name].dropna()  # metrics may exist for some epochs only
        marker = "." if len(curve) == 1 else ""
        axes.plot(curve.index, curve, color=colour, label=name, linewidth=1.8, marker=marker)
    axes.set_xlabel("epoch")
    axes.locator_params(axis="x", integer=True)
    dress(axes, title)
    if len(curves.columns) > 1:
        axes.legend(frameon=False)


def _mark_best(axes: "Axes", curve: "pd.Series[float]", colour: str) -> None:
    position = int(np.argmax(curve.to_numpy()))
    epoch, value = float(curve.index[position]), float(curve.iloc[position])
    axes.plot(epoch, value, "o", color=colour, markersize=7, clip_on=False)
    style: dict[str, Any] = {"ha": "center", "color": colour, "fontsize": 9}
    axes.annotate(f"{value:.4f}", (epoch, value), (0, 8), textcoords="offset points", **style)


def _title_of(metric: str) -> str:
    return metric[:1].upper() + metric[1:]
