"""Turns one fit into one row on new items: fitted and chosen without them, then measured beside warm ones."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import gnnrec as gr
from gnnrec.cold_start_report import ColdStartReport, evaluate_cold_start
from gnnrec.data.split import Splitter
from gnnrec.evaluation import Evaluation
from gnnrec.fitting import resolve_device
from gnnrec.modalities.encode import encode_dataset
from harness.measure import choose_and_fit, narrowed
from harness.models import model_of
from harness.plan import COLD_START as BENCHMARKS
from harness.record import peak_memory, record, versions
from harness.rows import (
    COLD_METRICS,
    COLD_START,
    HARMONIC_MEAN,
    TRADE_OFF,
    Fit,
    log_test_reading,
    per_user_column,
    view_column,
)
from harness.task import FitTask, FittedModel

RANDOM = "random"  # a name among the models, but measured in closed form


def measure(results: Path, fit: Fit, options: Mapping[str, Any], device: str = "auto") -> None:
    """Fits a preset, measures it and writes its row; an error becomes a failed row that says why."""
    record(results, fit, options, device, COLD_START, _steps(results, fit, options, device))


def encode_media(dataset: str, device: str = "auto") -> None:
    """Encodes the media of a data set into the cache, new items included."""
    encode_dataset(gr.datasets.load(dataset), device=resolve_device(device), progress=True)


def cold_parts(dataset: gr.Dataset, splitter: Splitter) -> tuple[gr.Dataset, ...]:
    """Splits a data set into train, validation and test, and the test of warm items where there is need of one.

    Where new items are no part of the catalogue of train, neither are they of the candidates of another part, and no
    test pair is on a warm item: so a tenth of the training pairs is held out for that.

    Returns:
        (train, valid, test) or (train, valid, test, warm test).
    """
    train, valid, test = dataset.split(splitter)
    if test.num_items == train.num_items:
        return train, valid, test
    for_validation = (valid.items.find(test.items.ids) >= 0) & (train.items.find(test.items.ids) < 0)
    train, warm_test = gr.split.holdout(train, fraction=0.1, seed=0)
    return train, valid, test.without(items=for_validation), warm_test


def _steps(results: Path, fit: Fit, options: Mapping[str, Any], device: str) -> Iterator[dict[str, Any]]:
    model = model_of("popularity" if fit.model == RANDOM else fit.model)
    yield {"package": model.package, "deterministic": model.deterministic, **versions(model.package)}
    train, valid, *tests = cold_parts(gr.datasets.load(fit.dataset), BENCHMARKS[fit.dataset].splitter)

    def report(fitted: FittedModel, mask: Literal["train", "train+valid"], *parts: gr.Dataset) -> ColdStartReport:
        if fitted.state is None:
            raise ValueError(f"{fit.model!r} is none of gnnrec's presets, and no other model takes in new items here")
        return evaluate_cold_start(fitted.state, *parts, mask=mask, device=resolve_device(device))

    def judge(fitted: FittedModel) -> float:
        return report(fitted, "train", valid).evaluations["cold among all"].values["recall@20"]

    task = FitTask(train, valid, fit.seed, device)
    fitted, facts = choose_and_fit(narrowed(model, results, fit, options, COLD_START), task, judge)
    yield facts | peak_memory()
    yield _means("valid", _views(fit, report(fitted, "train", valid)))
    log_test_reading(results, COLD_START.folder, fit, options)
    measured = report(fitted, "train+valid", *tests)
    views = _views(fit, measured)
    both = [views[view].values["recall@20"] for view in ("warm", "cold among all")]
    yield _means("test", views) | _per_user(views) | {HARMONIC_MEAN: gr.evaluation.harmonic_mean(both)}
    if fit.model != RANDOM:
        curve = measured.trade_off.to_frame()
        yield dict(zip(TRADE_OFF, (curve["known"].tolist(), curve["new"].tolist()), strict=True))


def _views(fit: Fit, report: ColdStartReport) -> Mapping[str, Evaluation]:
    return report.random if fit.model == RANDOM else report.evaluations


def _means(part: str, views: Mapping[str, Evaluation]) -> dict[str, float | None]:
    """Returns the columns of means; null where a part has no pair of a view."""
    return {
        view_column(part, metric, view): one.values[metric] if one.num_users else None
        for view, one in views.items()
        for metric in COLD_METRICS
    }


def _per_user(views: Mapping[str, Evaluation]) -> dict[str, Any]:
    columns: dict[str, Any] = {view_column("test", "users", view): one.num_users for view, one in views.items()}
    return columns | {
        per_user_column(view_column("test", metric, view)): one.per_user[metric]
        for view, one in views.items()
        for metric in COLD_METRICS
    }
