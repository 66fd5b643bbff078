"""Tells rows of other options apart: from those beside them, from those of the present preset and from its grid."""

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import pandas as pd

from gnnrec.config import to_dict
from gnnrec.presets import PRESETS, preset
from harness.models import model_of

_OF_TRIAL = ("valid recall@20", "seconds")
_OF_TRAINING = ("alignment.", "graph.", "model.", "training.")


def check_options(rows: pd.DataFrame) -> None:
    """Refuses rows of a model, variants among them, that differ in an option, as after a new default.

    What a variant changes and what validation chose for it are its own, and need only be the same in all seeds. Options
    that only newer rows have do not count: a default that leaves the model as it was may have been added.

    Args:
        rows: Rows of any data sets and models; failed ones do not count.

    Raises:
        ValueError: Some do.
    """
    for (dataset, model), of_model in rows[rows["status"] == "ok"].groupby(["dataset", "model"]):
        values: dict[tuple[str, str], set[str]] = defaultdict(set)  # of an option, and whose own it is, if anyone's
        columns = of_model[["variant", "config", "hyperparameters"]]
        for variant, config, hyperparameters in columns.itertuples(index=False):
            own = json.loads(hyperparameters)
            for name, value in {**_flat(json.loads(config)), **own}.items():
                owner = "" if own.keys().isdisjoint(name.split(".")) else variant
                values[name, owner].add(json.dumps(value, sort_keys=True))
        if mixed := sorted({name for (name, _), found in values.items() if len(found) > 1}):
            raise ValueError(
                f"rows of different options stand side by side ({', '.join(mixed)}): "
                f"delete the outdated ones of {model} on {dataset}"
            )


def outdated_options(rows: pd.DataFrame) -> dict[str, dict[str, tuple[Any, Any]]]:
    """Returns preset → option → what it was in the rows and what it is now, where these differ.

    Args:
        rows: The rows of models that went well, no variants.
    """
    outdated = {}
    for model, of_model in rows[rows["model"].isin(PRESETS)].groupby("model"):
        row = of_model.iloc[0]
        now = _flat(to_dict(preset(str(model)).with_options(json.loads(row["hyperparameters"]))))
        then = _flat(json.loads(row["config"]))
        if now["ranker"] != "neural":  # what is not trained has no use for options of training
            then = {name: value for name, value in then.items() if not name.startswith(_OF_TRAINING)}
        if differing := {name: (then[name], now[name]) for name in then.keys() & now.keys() if then[name] != now[name]}:
            outdated[str(model)] = differing
    return outdated


def other_grids(rows: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """Returns model → how many candidates of its present grid were tried, and how many there are, where not all were.

    Args:
        rows: The rows of models that went well, no variants.
    """
    others = {}
    for model, of_model in rows.groupby("model"):
        grid = {json.dumps(candidate, sort_keys=True) for candidate in model_of(str(model)).grid}
        trials = max(map(json.loads, of_model["trials"].dropna()), key=len, default=[])
        tried = {
            json.dumps({name: one[name] for name in one if name not in _OF_TRIAL}, sort_keys=True) for one in trials
        }
        if len(grid) > 1 and grid - tried:
            others[str(model)] = len(grid & tried), len(grid)
    return others


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns option → value; options within others are called ``outer.inner``."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) and value else {prefix + name: value}
    return flat
