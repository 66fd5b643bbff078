"""Turns one fit into one row: chooses hyper-parameters on validation, fits, and only then reads the test set."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

import gnnrec as gr
from gnnrec.data.pairs import only_items
from gnnrec.evaluation import evaluate_rankings, sliced
from gnnrec.fitting import resolve_device
from gnnrec.modalities.encode import encode_dataset
from harness.models import model_of
from harness.plan import BENCHMARKS
from harness.record import peak_memory, record, versions
from harness.rows import (
    AMONG_RARE_PER_USER,
    COLD_METRICS,
    MASKS,
    PER_USER_METRICS,
    QUALITY,
    RARE,
    RARE_PER_USER,
    TEST_METRICS,
    Fit,
    Table,
    cold_column,
    log_test_reading,
    per_user_column,
    read_row,
    test_column,
)
from harness.task import FitTask, FittedModel, Model, ScoreBlock


def measure(results: Path, fit: Fit, options: Mapping[str, Any], device: str = "auto") -> None:
    """Fits a model, measures it and writes its row; an error becomes a failed row that says why."""
    record(results, fit, options, device, QUALITY, _steps(results, fit, options, device))


def _steps(results: Path, fit: Fit, options: Mapping[str, Any], device: str) -> Iterator[dict[str, Any]]:
    model = model_of(fit.model)
    if model.deterministic and fit.seed:
        return
    yield {"package": model.package, "deterministic": model.deterministic, **versions(model.package)}
    import_module(model.package.replace("-", "_"))  # so that no fit is timed with that in it
    train, valid, test = _parts(fit.dataset)
    task = FitTask(train, valid if BENCHMARKS[fit.dataset].has_valid else None, fit.seed, device)
    fitted, facts = choose_and_fit(narrowed(model, results, fit, options, QUALITY), task)
    yield facts | peak_memory()
    log_test_reading(results, QUALITY.folder, fit, options)
    yield measure_on_test(fitted.score_block, task, test.interaction_matrix())


def encode_media(dataset: str, device: str = "auto") -> None:
    """Encodes the media of a data set into the cache, so that no fit is timed with that in it."""
    encode_dataset(_parts(dataset)[0], device=resolve_device(device), progress=True)


def choose_and_fit(
    model: Model, task: FitTask, judge: Callable[[FittedModel], float] | None = None
) -> tuple[FittedModel, dict[str, Any]]:
    """Fits every candidate of the grid and keeps the one with the best validation recall@20.

    Without validation pairs a tenth of the training pairs is held out for the choice, and the chosen candidate is then
    fitted on all of them, for as many epochs as were best.

    Args:
        model: The model and its grid.
        task: What to fit it on.
        judge: Measures recall@20 on validation pairs; all items of the catalogue are ranked when not given.

    Returns:
        The fitted model, and the facts for its row.
    """
    nothing_to_choose = len(model.grid) == 1 and not model.early_stopping
    if task.valid is None and (nothing_to_choose or model.refits_itself):
        fitted, seconds = _timed_fit(model, task, model.grid[0])
        return fitted, _facts(fitted, model.grid[0], [], None, seconds, seconds)

    choosing = task
    if task.valid is None:
        part, held_out = gr.split.holdout(task.train, fraction=0.1, seed=task.seed)
        choosing = replace(task, train=part, valid=held_out)
    trials: list[dict[str, Any]] = []
    best, best_recall, fit_seconds = None, -1.0, 0.0
    for candidate in model.grid:
        fitted, seconds = _timed_fit(model, choosing, candidate)
        recall = judge(fitted) if judge is not None else choosing.validation_recall(fitted.score_block)
        trials.append({**candidate, "valid recall@20": recall, "seconds": round(seconds, 2)})
        if best is None or recall > best_recall:
            best, best_recall, fit_seconds, chosen = fitted, recall, seconds, candidate
    search_seconds = sum(trial["seconds"] for trial in trials)
    assert best is not None
    if choosing is not task:
        epochs = {"epochs": best.best_epoch} if best.best_epoch else {}
        best, seconds = _timed_fit(model, task, {**chosen, **epochs})
        # Without epochs to choose, the fit that was held out from belongs to the search alone.
        fit_seconds = seconds + (fit_seconds if epochs else 0.0)
        search_seconds += seconds
    return best, _facts(best, chosen, trials, best_recall, fit_seconds, search_seconds)


def measure_on_test(score_block: ScoreBlock, task: FitTask, test: sp.csr_matrix) -> dict[str, Any]:
    """Reads the test set: all items ranked under each mask, rare and cold ones apart, recall by training events."""
    masks = {"train": task.pairs}
    if task.valid is not None:
        masks["train+valid"] = sp.csr_matrix(task.pairs + task.valid.interaction_matrix())
    row: dict[str, Any] = {}
    for mask in MASKS[: len(masks)]:
        evaluation = evaluate_rankings(score_block, test, mask=masks[mask], metrics=TEST_METRICS)
        row |= {test_column(metric, mask): value for metric, value in evaluation.values.items()}
        row |= {per_user_column(test_column(name, mask)): evaluation.per_user[name] for name in PER_USER_METRICS}
    row["num_test_users"] = evaluation.num_users
    row["slices"] = sliced(evaluation, test, task.pairs).drop(columns="standard_error").to_dict("records")

    degree = np.bincount(task.pairs.indices, minlength=test.shape[1])
    rare = degree <= RARE
    on_rare = only_items(test, rare)
    if on_rare.nnz:
        for column, candidates in ((RARE_PER_USER, None), (AMONG_RARE_PER_USER, rare)):
            of_rare = evaluate_rankings(
                score_block, on_rare, mask=masks[mask], metrics=("recall@20",), candidates=candidates
            )
            row[column] = of_rare.per_user["recall@20"]
    cold = degree == 0
    if cold[test.indices].any():
        among_cold = evaluate_rankings(score_block, test, mask=masks[mask], metrics=COLD_METRICS, candidates=cold)
        row |= {cold_column(metric): value for metric, value in among_cold.values.items()}
        row["num_cold_test_users"] = among_cold.num_users
    return row


def _parts(dataset: str) -> tuple[gr.Dataset, gr.Dataset, gr.Dataset]:
    benchmark = BENCHMARKS[dataset]
    return gr.datasets.load(benchmark.dataset or dataset).split(benchmark.splitter)


def narrowed(model: Model, results: Path, fit: Fit, options: Mapping[str, Any], table: Table) -> Model:
    """Puts the options of the command line into the grid; later seeds take over what the first one chose."""
    grid = tuple({json.dumps(one): one for one in ({**candidate, **options} for candidate in model.grid)}.values())
    if fit.seed and len(grid) > 1:
        first = read_row(results, replace(fit, seed=0), table)
        if first is None or first["status"] != "ok":
            raise ValueError("seed 0 chooses the hyper-parameters of all seeds, and it has not been measured")
        grid = (json.loads(first["hyperparameters"]),)
    return replace(model, grid=grid)


def _timed_fit(model: Model, task: FitTask, hyperparameters: Mapping[str, Any]) -> tuple[FittedModel, float]:
    started = time.perf_counter()
    fitted = model.fit(task, hyperparameters)
    return fitted, time.perf_counter() - started


def _facts(
    fitted: FittedModel,
    hyperparameters: Mapping[str, Any],
    trials: list[dict[str, Any]],
    recall: float | None,
    fit_seconds: float,
    search_seconds: float,
) -> dict[str, Any]:
    return {
        "hyperparameters": json.dumps(hyperparameters),
        "config": json.dumps(fitted.config),
        "trials": json.dumps(trials),
        "valid recall@20": recall,
        "best_epoch": fitted.best_epoch,
        "epochs": fitted.epochs,
        "fit_seconds": fit_seconds,
        "search_seconds": search_seconds,
    }
