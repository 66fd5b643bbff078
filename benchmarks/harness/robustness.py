"""Turns one damage to the media of a data set into one row: what is still found of warm and new items after it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import gnnrec as gr
from gnnrec.cold_start_report import ColdStartReport, evaluate_cold_start
from gnnrec.data.split import Splitter
from gnnrec.fitting import resolve_device
from gnnrec.modalities.encode import encode_dataset
from harness.cold_start import cold_parts
from harness.measure import choose_and_fit
from harness.models import model_of
from harness.plan import COLD_START as BENCHMARKS
from harness.record import peak_memory, record, versions
from harness.rows import ROBUSTNESS, Fit, per_user_column, view_column
from harness.task import FitTask, FittedModel


@dataclass(frozen=True)
class Damage:
    """What is done to the vectors of one modality of items.

    Attributes:
        modality: Its name; empty when nothing is done.
        kind: ``missing``: the rows of the drawn owners are left out. ``noise``: normal noise takes their place.
        share: Share of its owners; all of them missing means that the modality is not there at all.
    """

    modality: str = ""
    kind: str = ""
    share: float = 0.0


def measure(results: Path, fit: Fit, options: Mapping[str, Any], device: str = "auto") -> None:
    """Fits the default model under the damage that the options describe, measures it and writes its row."""
    record(results, fit, options, device, ROBUSTNESS, _steps(fit, Damage(**options), device))


def with_vectors(dataset: gr.Dataset, device: str = "cpu") -> gr.Dataset:
    """Returns the data set with the encoded vectors in the place of its media, those of all items at once."""
    ids = {"item": dataset.items.ids, "user": dataset.users.ids}
    vectors = {
        name: gr.Vectors(feature.values, ids[feature.of][feature.owner_index], feature.of)
        for name, feature in encode_dataset(dataset, device=device).items()
    }
    return replace(dataset, modalities=vectors)


def damaged(dataset: gr.Dataset, damage: Damage, seed: int) -> gr.Dataset:
    """Returns the data set with one modality damaged, for known and new items alike.

    Args:
        dataset: Of :func:`with_vectors`.
        damage: What to do. The owners of a larger share contain those of a smaller one.
        seed: Seed of the owners and of the noise, whose mean and deviation in each dimension are those of the vectors.
    """
    if not damage.share:
        return dataset
    modalities = dict(dataset.modalities)
    spec = modalities.pop(damage.modality)
    drawn = _of_drawn_owners(spec.ids, damage.share, seed)
    if damage.kind == "noise":
        shape = spec.matrix.shape
        noise = np.random.default_rng([seed, 1]).normal(spec.matrix.mean(axis=0), spec.matrix.std(axis=0), shape)
        modalities[damage.modality] = replace(spec, matrix=np.where(drawn[:, None], noise, spec.matrix).astype("f4"))
    elif not drawn.all():
        modalities[damage.modality] = replace(spec, matrix=spec.matrix[~drawn], ids=spec.ids[~drawn])
    return replace(dataset, modalities=modalities)


def validation_parts(dataset: gr.Dataset, splitter: Splitter) -> tuple[gr.Dataset, ...]:
    """Splits a data set as ``benchmarks/cold_start.py`` does, and leaves its test pairs out.

    Returns:
        (train, valid), or (train, valid, validation pairs of warm items) where ``valid`` has none of these.
    """
    train, valid, _, *warm_test = cold_parts(dataset, splitter)
    if not warm_test:
        return train, valid
    train, warm = gr.split.holdout(train, fraction=0.1, seed=0)
    return train, valid, warm


def _of_drawn_owners(owners: NDArray[Any], share: float, seed: int) -> NDArray[np.bool_]:
    # Not [seed, 0], which numpy takes for the seed itself: splits draw their new items with that.
    order = np.random.default_rng([seed, 2]).permutation(np.unique(owners))
    return np.isin(owners, order[: round(share * len(order))])


def _steps(fit: Fit, damage: Damage, device: str) -> Iterator[dict[str, Any]]:
    model = model_of(fit.model)
    yield {"package": model.package, "deterministic": model.deterministic, **versions(model.package)}
    whole = with_vectors(gr.datasets.load(fit.dataset), resolve_device(device))
    train, *held_out = validation_parts(damaged(whole, damage, fit.seed), BENCHMARKS[fit.dataset].splitter)

    def report(fitted: FittedModel) -> ColdStartReport:
        assert fitted.state is not None
        return evaluate_cold_start(fitted.state, *held_out, mask="train", device=resolve_device(device))

    def judge(fitted: FittedModel) -> float:
        return report(fitted).evaluations["cold among cold"].values["recall@20"]

    fitted, facts = choose_and_fit(model, FitTask(train, held_out[0], fit.seed, device), judge)
    yield facts | peak_memory()
    for view, evaluation in report(fitted).evaluations.items():
        column = view_column("valid", "recall@20", view)
        yield {column: evaluation.values["recall@20"], per_user_column(column): evaluation.per_user["recall@20"]}
