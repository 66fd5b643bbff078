"""How pictures look: colours, figures, what is left of their frames, and how they are saved.

Needs the ``plot`` extra.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from gnnrec.errors import ConfigError, MissingPackageError, StorageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "INK", "OTHER", "cycle", "dress", "new_figure", "save_figure"]

# Okabe & Ito, 2008: told apart with any colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
OTHER = "#B8B8B8"
INK, _FAINT = "#333333", "#DDDDDD"
_DOTS_PER_INCH = 150


def new_figure(width: float, height: float = 3.8) -> "Figure":
    """Returns a figure of its own, apart from pyplot's global state."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError("pictures need matplotlib: pip install 'gnnrec[plot]'") from error
    return Figure(figsize=(width, height), layout="constrained")


def dress(axes: "Axes", title: str) -> None:
    """Leaves only what is read: a heading, two axes, faint lines across."""
    axes.set_title(title, loc="left", color=INK, fontsize=12, fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(colors=INK)
    axes.grid(axis="y", color=_FAINT, linewidth=0.8)
    axes.set_axisbelow(True)


def cycle(count: int) -> list[str]:
    """Returns so many colours; beyond seven they repeat."""
    return [COLOURS[number % len(COLOURS)] for number in range(count)]


def save_figure(figure: "Figure", path: str | Path) -> None:
    """Writes a figure in the format that the ending of the path names.

    Raises:
        ConfigError: An ending that is no picture format.
        StorageError: The file cannot be written.
    """
    endings = figure.canvas.get_supported_filetypes()
    ending = Path(path).suffix.lstrip(".").lower()
    if ending not in endings:
        raise ConfigError(f"cannot draw {str(path)!r}: the name must end in one of {', '.join(sorted(endings))}")
    try:
        figure.savefig(path, dpi=_DOTS_PER_INCH)
    except OSError as error:
        raise StorageError(f"cannot write {str(path)!r}: {error}") from error
