"""The outcome of a search, and the folder that tells of it."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from gnnrec.config import Choices, Range, write_config
from gnnrec.errors import MissingPackageError
from gnnrec.presets import RecommenderConfig
from gnnrec.recommender import Recommender
from gnnrec.storage import whole_file
from gnnrec.tuning.pictures import plot_importance, plot_search

__all__ = ["TuningReport"]

logger = logging.getLogger(__name__)

_SHOWN = 10  # of the best trials, in the written report


@dataclass(frozen=True, eq=False)
class TuningReport:
    """What a search found.

    Attributes:
        metric: The validation metric that was maximised.
        best_options: Option → value in the best trial.
        best_config: The whole configuration of the best trial.
        start_options: Option → value in the first trial.
        space: Option → where it was searched.
        trials: One row per trial: ``trial``, ``state`` (``complete``, ``pruned``, ``failed``), the metric (of a pruned
            trial: where it stopped), a column per option, ``trained_epochs``, ``seconds``, ``reason`` of a failure.
        importance: Option → its share in what sets the best trials apart; empty of fewer than two complete trials.
    """

    metric: str
    best_options: Mapping[str, Any]
    best_config: RecommenderConfig
    start_options: Mapping[str, Any]
    space: Mapping[str, Range | Choices]
    trials: pd.DataFrame
    importance: Mapping[str, float]

    @property
    def best_value(self) -> float:
        """The metric of the best trial."""
        return float(self.trials.loc[self.trials["state"] == "complete", self.metric].max())

    @property
    def start_value(self) -> float:
        """The metric of the options that the search started from; not a number if that trial failed."""
        return float(self.trials[self.metric].iloc[0])

    def recommender(self) -> Recommender:
        """Returns an unfitted recommender with the best options."""
        return Recommender(config=self.best_config)

    def save(self, path: str | Path) -> None:
        """Writes ``report.md``, ``trials.csv``, ``best.toml`` and two pictures into a folder.

        ``best.toml`` is a whole configuration, for ``gnnrec fit --config``. Without matplotlib (extra ``plot``) there
        are no pictures, and a warning says so.

        Raises:
            StorageError: The folder cannot be written.
        """
        folder = Path(path)
        with whole_file(folder / "best.toml") as file:
            write_config(self.best_config, file)
        with whole_file(folder / "trials.csv") as file:
            self.trials.to_csv(file, index=False)
        pictures = self._draw(folder)
        with whole_file(folder / "report.md") as file:
            file.write_text(self._text(pictures), encoding="utf-8")

    def rows(self) -> list[tuple[str, Any, Any, str]]:
        """Returns option, start, best and searched space, the most important option first."""
        ranked = sorted(self.space, key=lambda name: -self.importance.get(name, 0.0))
        return [
            (name, self.start_options[name], self.best_options[name], _described(self.space[name])) for name in ranked
        ]

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {state}" for state, count in self.trials["state"].value_counts().items())
        options = "".join(f"\n  {name} = {_shown(value)}" for name, value in self.best_options.items())
        return (
            f"{self.metric} on validation: {self.start_value:.4f} at the start, {self.best_value:.4f} at best "
            f"({counts}){options}"
        )

    def _draw(self, folder: Path) -> list[str]:
        """Draws the pictures; returns the lines that show them."""
        try:
            plot_search(self.trials, self.metric, folder / "search.png")
            lines = ["![The value of each trial](search.png)"]
            if len(self.importance) > 1:
                plot_importance(self.importance, folder / "importance.png")
                lines.append("![The importance of each option](importance.png)")
        except MissingPackageError as error:
            logger.warning("the report has no pictures: %s", error)
            return []
        return lines

    def _text(self, pictures: Sequence[str]) -> str:
        trials = self.trials
        counts = trials["state"].value_counts()
        best = trials[trials["state"] == "complete"].nlargest(_SHOWN, self.metric)
        columns = ["trial", self.metric, *self.space, "trained_epochs", "seconds"]
        gain = f"{self.best_value / self.start_value - 1:+.1%}" if self.start_value > 0 else "–"
        failures = trials.loc[trials["state"] == "failed", "reason"].value_counts()
        parts = [
            "# Search for options",
            f"Of {len(trials)} trials, {counts.get('complete', 0)} came to their end, {counts.get('pruned', 0)} were "
            f"stopped early and {counts.get('failed', 0)} failed; together they took {trials['seconds'].sum():,.0f} "
            "seconds.",
            _table(
                ("", self.metric, ""),
                [("start", self.start_value, ""), ("best", self.best_value, gain)],
            ),
            "These are values on the validation set, and the best of many: expect somewhat less on a test set.",
            "## Options",
            _table(("option", "start", "best", "searched"), self.rows()),
            "The whole configuration is in `best.toml`: `gnnrec fit … --config best.toml`.",
            *(["## How it went", *pictures] if pictures else []),
            f"## The best {len(best)} trials",
            _table(columns, best[columns].itertuples(index=False)),
            "All are in `trials.csv`.",
        ]
        if len(failures):
            parts += ["## Failures", _table(("reason", "trials"), failures.items())]
        return "\n\n".join(parts) + "\n"


def _described(space: Range | Choices) -> str:
    if isinstance(space, Choices):
        return ", ".join(map(_shown, space.values))
    return f"{_shown(space.low)} to {_shown(space.high)}" + (", logarithmic" if space.log else "")


def _table(head: Sequence[str], rows: Any) -> str:
    lines = [head, ["---"] * len(head), *([_shown(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")
