"""Turns a training and a validation set into the options that fit them best."""

from pathlib import Path
from typing import Any

import numpy as np

from gnnrec.data.dataset import Dataset, require_datasets
from gnnrec.errors import ConfigError, DataError, GnnrecError
from gnnrec.evaluation.validation_part import set_aside
from gnnrec.fitting import learns_from_media, resolve_device
from gnnrec.modalities.encode import encode_dataset
from gnnrec.presets import RecommenderConfig
from gnnrec.presets import preset as named_preset
from gnnrec.tuning.problem import Problem
from gnnrec.tuning.report import TuningReport
from gnnrec.tuning.space import GivenSpace, at_point, resolve_space

__all__ = ["tune"]


def tune(
    train: Dataset,
    valid: Dataset | None = None,
    *,
    preset: str | None = None,
    config: RecommenderConfig | None = None,
    trials: int = 50,
    timeout: float | None = None,
    workers: int = 1,
    storage: str | Path | None = None,
    space: GivenSpace | None = None,
    metric: str | None = None,
    cache_dir: str | Path | None = None,
    progress: bool = True,
    **options: Any,
) -> TuningReport:
    """Searches the options with which a fit scores best on the validation set. Needs the extra ``tune``.

    The first trial has the options that the search starts from, so what it returns is at least as good as they are on
    the validation set. A trial that falls behind the others is stopped early; one that fails is noted with its reason.
    No test set is ever asked for. Media are encoded once, before the first trial.

    With one worker, the same data, options and seed give the same trials. Several workers are processes: a script that
    asks for them needs the usual ``if __name__ == "__main__":``.

    Args:
        train: What every trial learns from.
        valid: What every trial is measured on. When not given, or without a new pair of a known user and a known
            item, a tenth of the training pairs is held out, once for all trials: the very pairs that
            ``Recommender.fit`` holds out.
        preset: Where to start from (``gnnrec`` when not given).
        config: Where to start from, instead of a preset.
        trials: Total number of trials, those in ``storage`` included.
        timeout: No trial begins after so many seconds.
        workers: Processes that run trials side by side; each takes its share of torch's threads.
        storage: File that keeps every trial as it ends. A search with the same file, data, options and space goes on
            from there; use it for one search at a time.
        space: The options to search, and no others: names whose declared range is meant, or a mapping from a name to
            ``(low, high)``, a list of choices, or ``None`` for the declared range. When not given, every option that
            declares a range (``gnnrec.tuning.search_space``).
        metric: What to maximise, such as ``ndcg@10``: the option ``select_by``.
        cache_dir: Folder of encoded media (default ``GNNREC_CACHE_DIR`` or ``~/.cache/gnnrec``).
        progress: Show progress bars where standard error is a terminal.
        **options: Options to start from, by their name as in :class:`~gnnrec.recommender.Recommender`; ``seed`` fixes
            the search as well.

    Raises:
        ConfigError: An unknown option, an impossible value or range, or a storage that holds another search.
        DataError: There is nothing to learn from or to measure on.
        MissingPackageError: Optuna is not installed.
        StorageError: The storage cannot be read or written.
        GnnrecError: Not one trial came to its end.
    """
    from gnnrec.tuning.study import run_trials  # the one module that needs Optuna

    for name, number in (("trials", trials), ("workers", workers), ("timeout", timeout)):
        if number is not None and number <= 0:
            raise ConfigError(f"{name} must be positive, got {number}")
    if config is not None and preset is not None:
        raise ConfigError("preset= and config= exclude each other")
    config = config or named_preset(preset or "gnnrec")
    config = config.with_options(options if metric is None else {**options, "select_by": metric})
    problem = _problem(train, valid, config, space, cache_dir=cache_dir, progress=progress)

    frame, importance = run_trials(
        problem,
        trials=trials,
        timeout=timeout,
        workers=workers,
        storage=None if storage is None else Path(storage),
        progress=progress,
    )
    value = frame[problem.metric].where(frame["state"] == "complete").to_numpy(dtype=np.float64)
    if np.isnan(value).all():
        reasons = frame["reason"][frame["state"] == "failed"].tolist()
        raise GnnrecError(f"not one of {len(frame)} trials came to its end" + "".join(f": {r}" for r in reasons[:1]))
    best = frame.to_dict("records")[int(np.nanargmax(value))]
    best_options = {name: best[name] for name in problem.space}
    return TuningReport(
        metric=problem.metric,
        best_options=best_options,
        best_config=at_point(config, best_options),
        start_options=problem.start,
        space=problem.space,
        trials=frame,
        importance=importance,
    )


def _problem(
    train: Dataset,
    valid: Dataset | None,
    config: RecommenderConfig,
    space: GivenSpace | None,
    *,
    cache_dir: str | Path | None,
    progress: bool,
) -> Problem:
    """Settles everything that all trials share."""
    require_datasets(train=train, optional={"valid": valid})
    searched, start = resolve_space(config, space)
    if len(train.events) == 0:
        raise DataError("the training set has no events; check the split or the cleaning rules")
    part = set_aside(train, valid, seed=config.seed)
    if part.pairs.nnz == 0:
        raise DataError("no pair can be held out to measure on: no user and item keep another one; give valid=")
    device = resolve_device(config.device)
    features = {}
    if config.ranker == "neural" or learns_from_media(config):  # a trial of the former may start to
        features = encode_dataset(part.train, cache_dir=cache_dir, device=device, progress=progress)
    return Problem(part.train, part.valid, features, config, searched, start)
