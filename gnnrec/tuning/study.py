"""Runs the trials of a search with Optuna: proposes points, prunes, keeps a journal, works in several processes."""

import logging
import multiprocessing
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch.multiprocessing.spawn import start_processes

from gnnrec.config import Choices, Range
from gnnrec.errors import ConfigError, GnnrecError, MissingPackageError, StorageError
from gnnrec.training.loop import EpochRecord
from gnnrec.tuning.problem import Problem
from gnnrec.tuning.space import SearchSpace

try:
    import optuna
    from optuna.distributions import (
        BaseDistribution,
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import FrozenTrial, TrialState
except ImportError as error:
    raise MissingPackageError("the search for options needs Optuna: pip install 'gnnrec[tune]'") from error

__all__ = ["run_trials"]

logger = logging.getLogger(__name__)

_NAME = "gnnrec"  # of the one study that a journal holds
_FIRST_WORD = b'{"op_code"'  # of a journal
_STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
# A trial is stopped when its best epoch lies below the median of the others at that epoch: not before five trials have
# run to their end, nor before its fifth epoch, nor where fewer than three others came so far.
_PRUNER = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=5, n_min_trials=3)


def run_trials(
    problem: Problem,
    *,
    trials: int,
    timeout: float | None = None,
    workers: int = 1,
    storage: Path | None = None,
    progress: bool = False,
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Runs trials until there are so many, those that the storage already holds included.

    The tree-structured Parzen estimator (Bergstra et al. 2011) proposes the points. Its random stream derives from
    (seed, number of finished trials, worker), so with one worker a continued search equals an uninterrupted one.

    Args:
        problem: What to solve.
        trials: Total number of trials.
        timeout: No trial begins after so many seconds.
        workers: Processes.
        storage: Journal file; the search is forgotten without it.
        progress: Show a progress bar where standard error is a terminal.

    Returns:
        One row per finished trial, and option → its importance.

    Raises:
        ConfigError: The storage holds another search.
        StorageError: The storage cannot be read or written.
    """
    deadline = None if timeout is None else time.time() + timeout
    with _quiet_optuna(), tempfile.TemporaryDirectory() as folder:
        # Absolute: beside it Optuna keeps a lock that links to it, and could not follow a relative link.
        journal = (storage if storage is not None else Path(folder) / "journal").absolute()
        study = _begin(journal, problem)
        missing = max(0, trials - len(_finished(study)))
        with _trial_bar(problem.metric, trials, enabled=progress) as show:
            show(study)
            if workers == 1:
                _work(0, problem, study, threading.Semaphore(missing), deadline, show)
            elif missing:
                _work_in_processes(workers, problem, journal, missing, deadline, lambda: show(study))
        return _frame(study, problem), _importance(study)


def _begin(journal: Path, problem: Problem) -> "optuna.Study":
    """Opens the journal, checks that it is of this search, and queues the start and whatever was interrupted."""
    try:
        journal.parent.mkdir(parents=True, exist_ok=True)
        if journal.exists():
            _drop_unfinished_line(journal)
        study = _open(journal)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"cannot use {str(journal)!r} as the storage of a search: {error}; give another file, or delete this one"
        ) from error
    fingerprint, known = problem.fingerprint(), study.user_attrs.get("fingerprint")
    if known is None:
        study.enqueue_trial(problem.start, skip_if_exists=True)
        study.set_user_attr("fingerprint", fingerprint)
    elif others := [name for name, value in fingerprint.items() if known.get(name) != value]:
        raise ConfigError(
            f"the storage {str(journal)!r} holds a search with other {' and '.join(others)}; "
            "repeat what it was begun with, or give another storage"
        )
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        point = trial.system_attrs.get("fixed_params", trial.params)
        if len(point) == len(problem.space):  # else it broke off while it was proposed, and is proposed again
            study.enqueue_trial(point)
        study.tell(trial.number, state=TrialState.FAIL)
        logger.info("trial %d of %s was interrupted; it is repeated", trial.number, journal)
    return study


def _drop_unfinished_line(journal: Path) -> None:
    """Drops what a killed process left of a line: Optuna would write the next line right behind it.

    Raises:
        ValueError: The file is no journal; it is left as it is.
    """
    with journal.open("rb+") as file:
        lines = file.read()
        if lines[: len(_FIRST_WORD)] != _FIRST_WORD[: len(lines)]:
            raise ValueError("it holds something else")
        whole = lines.rfind(b"\n") + 1
        if whole < len(lines):
            logger.warning("%s ends in the middle of a line, which is dropped; its trial is repeated", journal)
            file.truncate(whole)


def _open(journal: Path) -> "optuna.Study":
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal)))
    return optuna.create_study(
        storage=storage, study_name=_NAME, direction="maximize", pruner=_PRUNER, load_if_exists=True
    )


def _work(
    worker: int,
    problem: Problem,
    study: "optuna.Study",
    tickets: Any,
    deadline: float | None,
    show: Callable[["optuna.Study"], None],
) -> None:
    """Runs one trial per ticket; all workers draw from the same tickets."""
    while (deadline is None or time.time() < deadline) and tickets.acquire(False):
        _run_trial(worker, problem, study)
        show(study)


def _work_in_processes(
    workers: int, problem: Problem, journal: Path, missing: int, deadline: float | None, show: Callable[[], None]
) -> None:
    tickets = multiprocessing.get_context("spawn").Semaphore(missing)
    threads = max(1, torch.get_num_threads() // workers)
    level = logging.getLogger("gnnrec").getEffectiveLevel()
    arguments = (problem, journal, tickets, deadline, threads, level)
    processes = start_processes(_process, arguments, nprocs=min(workers, missing), join=False)  # type: ignore[no-untyped-call]
    while not processes.join(timeout=0.5):
        show()


def _process(
    worker: int, problem: Problem, journal: Path, tickets: Any, deadline: float | None, threads: int, level: int
) -> None:
    """What a worker process does."""
    torch.set_num_threads(threads)
    logging.getLogger("gnnrec").setLevel(level)
    with _quiet_optuna():
        _work(worker, problem, _open(journal), tickets, deadline, lambda study: None)


def _run_trial(worker: int, problem: Problem, study: "optuna.Study") -> None:
    """Proposes a point, fits with it, and writes into the journal what came of it."""
    stream = np.random.SeedSequence([problem.config.seed, len(_finished(study)), worker])
    study.sampler = optuna.samplers.TPESampler(seed=int(stream.generate_state(1)[0]))
    trial = study.ask(_distributions(problem.space))
    started = time.perf_counter()

    epochs: list[float] = []

    def on_epoch(record: EpochRecord) -> None:
        epochs.append(record["epoch"])
        if len(epochs) > record["epoch"]:
            return  # of a second training, which is not to be compared with the first ones of others
        trial.report(record[problem.metric], step=int(record["epoch"]))
        # The start is what all others are compared with, and several workers may end before it.
        if trial.params != problem.start and trial.should_prune():
            raise optuna.TrialPruned

    value, state, outcome = None, TrialState.COMPLETE, "pruned"
    try:
        value = problem.measure(trial.params, on_epoch)
        outcome = f"{problem.metric} {value:.4f}"
    except optuna.TrialPruned:
        state = TrialState.PRUNED
    except (GnnrecError, torch.OutOfMemoryError) as error:
        state, outcome = TrialState.FAIL, f"failed: {error}"
        trial.set_user_attr("reason", str(error))
    trial.set_user_attr("seconds", time.perf_counter() - started)
    study.tell(trial, value, state)
    point = ", ".join(f"{name} {_shown(value)}" for name, value in trial.params.items())
    logger.info("trial %d: %s (%s)", trial.number, outcome, point)


def _distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    def distribution(where: Range | Choices) -> BaseDistribution:
        if isinstance(where, Choices):
            return CategoricalDistribution(where.values)
        if isinstance(where.low, int) and isinstance(where.high, int):
            return IntDistribution(where.low, where.high, log=where.log)
        return FloatDistribution(where.low, where.high, log=where.log)

    return {name: distribution(where) for name, where in space.items()}


def _finished(study: "optuna.Study") -> list[FrozenTrial]:
    """Returns the trials that need no repeating, in order; a failed one without a reason was interrupted."""
    trials = study.get_trials(deepcopy=False, states=tuple(_STATES))
    return [trial for trial in trials if trial.state != TrialState.FAIL or "reason" in trial.user_attrs]


def _frame(study: "optuna.Study", problem: Problem) -> pd.DataFrame:
    # The start comes first, even if it was interrupted and repeated after trials of other workers.
    trials = sorted(_finished(study), key=lambda trial: trial.params != problem.start)
    rows = [
        {
            "trial": number,
            "state": _STATES[trial.state],
            problem.metric: trial.value,
            **trial.params,
            "trained_epochs": len(trial.intermediate_values),
            "seconds": trial.user_attrs.get("seconds"),
            "reason": trial.user_attrs.get("reason", ""),
        }
        for number, trial in enumerate(trials)
    ]
    columns = ["trial", "state", problem.metric, *problem.space, "trained_epochs", "seconds", "reason"]
    return pd.DataFrame(rows, columns=columns)


def _importance(study: "optuna.Study") -> dict[str, float]:
    """Returns the share of each option in what sets the best trials apart (PED-ANOVA, Watanabe et al. 2023)."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len({trial.value for trial in complete}) < 2:
        return {}  # nothing sets any of them apart
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    with warnings.catch_warnings():
        # Where many trials are equally good no option stands out, which the equal shares say by themselves.
        warnings.filterwarnings("ignore", message="Target and region quantiles select the same set")
        return optuna.importance.get_param_importances(study, evaluator=evaluator)


@contextmanager
def _trial_bar(metric: str, total: int, *, enabled: bool) -> Iterator[Callable[["optuna.Study"], None]]:
    """Opens a bar of trials on standard error and gives the function that brings it up to date."""
    console = Console(stderr=True)
    if not enabled or not console.is_terminal:
        yield lambda study: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[best]}"), console=console) as bar:
        task = bar.add_task("trials", total=total, best="")

        def show(study: "optuna.Study") -> None:
            finished = _finished(study)
            values = [trial.value or 0.0 for trial in finished if trial.state == TrialState.COMPLETE]
            bar.update(task, completed=len(finished), best=f"best {metric} {max(values):.4f}" if values else "")

        yield show


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Keeps Optuna's own lines off the terminal: ours say the same in the words of the options."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
