"""Measures people and items that a fit knows by their events alone: beside fitted people, and event by event.

    python benchmarks/fold_in.py
    python benchmarks/fold_in.py --dataset tiktok --seeds 0 1 2

For every data set the default model is fitted; each person's held-out validation pairs are then looked for twice, once
with the fitted person's scores and once with those of the training history alone, as ``recommend_for`` gives them. On
ml-100k-multimodal new people and new items are measured as well, after 0, 1, 2, 5 and 10 of their events. No test set
is read. Results lie in ``benchmarks/results/fold-in.json``; what is there is not measured again, so remove it when the
model has changed. The page ``docs/fold-in.md`` is written from them after each fit, the pictures with their curves.

Needs gnnrec with the extra ``plot``, and the data sets below GNNREC_DATA_DIR.
"""

import argparse
import dataclasses
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import gnnrec as gr
from gnnrec.cold_start_report import few_shot_items, few_shot_people
from gnnrec.evaluation import Evaluation, PairedBootstrap, compare, evaluate_rankings, plot_few_shot
from gnnrec.fitting import resolve_device
from gnnrec.state import RecommenderState
from harness import markdown
from harness.machine import machine
from harness.pages import DOCS
from harness.plan import BENCHMARKS
from harness.results import read_results, write_results
from harness.rows import RESULTS

DATASETS = ("ml-100k-multimodal", "ml-1m", "tiktok")
FEW_SHOT = "ml-100k-multimodal"
METRICS = ("recall@20", "ndcg@20")
SHOTS = (0, 1, 2, 5, 10)

_INTRODUCTION = """# Fold-in

`benchmarks/fold_in.py` wrote this page from its results in `benchmarks/results/fold-in.json`. No figure on it was typed
by hand, and no test set was read.

## From the history alone

The default model is fitted, and validation pairs of the fitted people are looked for among all items, training pairs
hidden: by the scores of the fitted people, and by what fold-in makes of their training histories, as `recommend_for`
does for strangers. The ratio is that of the two means; the difference is that of each person's recall@20, folded in
minus fitted, by a paired bootstrap: mean, 95 % interval, p-value. The validation pairs also chose the epoch; where a
data set has none, a tenth of the training pairs (seed 0) is held out.
"""

_FEW_SHOT = f"""## Event by event

People and items that the fit (seed 0) did not know, each a tenth of {BENCHMARKS[FEW_SHOT].title}, after some of
their events: people are folded in, items are added by their media and told by `update`. All points of a curve have
the same newcomers, pairs and candidates ([evaluation.md](evaluation.md#interaction-by-interaction)). ± is the standard
error over people.
"""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", nargs="+", choices=DATASETS, default=DATASETS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--docs", type=Path, default=DOCS)
    chosen = parser.parse_args(arguments)
    path = chosen.results / "fold-in.json"

    def stored() -> dict[str, Any]:  # read anew each time: another run may have added something
        return {"fold-in": {}, "few-shot": {}} | read_results(path)

    def keep(part: str, name: str, found: Mapping[str, Any]) -> None:
        results = stored()
        results[part][name] = {**found, **_surroundings(chosen.device)}
        write_results(path, results)
        (chosen.docs / "fold-in.md").write_text(page(results), encoding="utf-8")
        print(f"{name}: done", flush=True)

    for dataset in chosen.dataset:
        for seed in chosen.seeds:
            if (name := f"{dataset}, seed {seed}") not in stored()["fold-in"]:
                keep("fold-in", name, {"dataset": dataset, "seed": seed, **fold_in(dataset, seed, chosen.device)})
        for newcomers in ("people", "items") if dataset == FEW_SHOT else ():
            if newcomers not in stored()["few-shot"]:
                curves = few_shot(newcomers, chosen.device)
                picture = chosen.docs / "images" / f"few-shot-{newcomers}.png"
                picture.parent.mkdir(parents=True, exist_ok=True)
                plot_few_shot(curves, picture)
                keep("few-shot", newcomers, {"curves": {name: _plain(curve) for name, curve in curves.items()}})


def fold_in(dataset: str, seed: int, device: str) -> dict[str, Any]:
    """Fits a data set, and measures fitted people beside what fold-in makes of their histories."""
    train, valid, _ = gr.datasets.load(dataset).split(BENCHMARKS[dataset].splitter)
    if not BENCHMARKS[dataset].has_valid:
        train, valid = gr.split.holdout(train, fraction=0.1, seed=0)
    state = fitted(train, valid, seed, device)

    def score_fitted(user_index: Tensor) -> Tensor:
        return state.ranker.score(user_index.numpy())

    def score_folded_in(user_index: Tensor) -> Tensor:
        histories = state.train if state.order is None else state.order
        return state.ranker.fold_in(histories[user_index.numpy()])

    pairs = valid.interaction_matrix()
    known, strange = (
        evaluate_rankings(score, pairs, mask=state.train, metrics=METRICS) for score in (score_fitted, score_folded_in)
    )
    return {
        "users": known.num_users,
        "fitted": known.values,
        "folded in": strange.values,
        "ratio": {metric: strange.values[metric] / known.values[metric] for metric in METRICS},
        "difference": {metric: dataclasses.asdict(compare(strange, known, metric)) for metric in METRICS},
    }


def few_shot(newcomers: str, device: str) -> dict[str, dict[int, Evaluation]]:
    """Fits without a tenth of the people or items for validation, and measures these; returns curves by name."""
    cold = {"people": gr.split.cold_users, "items": gr.split.cold_items}[newcomers]
    train, valid, _ = gr.datasets.load(FEW_SHOT).split(cold(valid=0.1, test=0.2, seed=0))
    state = fitted(train, None, 0, device)
    if newcomers == "people":
        return {"new people": few_shot_people(state, valid, shots=SHOTS)}
    return {
        "new items among all": few_shot_items(state, valid, shots=SHOTS, device=resolve_device(device)),
        "new items among new": few_shot_items(
            state, valid, shots=SHOTS, candidates="cold", device=resolve_device(device)
        ),
    }


def fitted(train: gr.Dataset, valid: gr.Dataset | None, seed: int, device: str) -> RecommenderState:
    """Fits the default model; without validation pairs on all of train, for as many epochs as a part of it says."""
    return gr.Recommender(seed=seed, device=device).fit(train, valid, refit=valid is None, progress=False).state


def page(results: Mapping[str, Any]) -> str:
    """Returns the page of all results."""
    parts = [_INTRODUCTION, _fold_in_table(results["fold-in"].values())]
    if results["few-shot"]:
        parts.append(_FEW_SHOT)
    for newcomers, one in results["few-shot"].items():
        parts.append(f"![recall@20 of new {newcomers} by what is known of them](images/few-shot-{newcomers}.png)\n")
        parts.append(_curve_table(one["curves"]))
    software = {(one["machine"], one["versions"]) for part in results.values() for one in part.values()}
    parts.append("## Machines and versions\n\n" + "\n".join(f"- {place}; {used}" for place, used in sorted(software)))
    return "\n".join(parts) + "\n"


def _fold_in_table(found: Iterable[Mapping[str, Any]]) -> str:
    lines = []
    for one in found:
        line = [f"[{one['dataset']}](../datasets/{one['dataset']}.md)", one["seed"], f"{one['users']:,}"]
        for metric in METRICS:
            line += [markdown.number(one[side][metric]) for side in ("fitted", "folded in")]
            line.append(f"{one['ratio'][metric]:.3f}")
        lines.append([*line, markdown.compared(PairedBootstrap(**one["difference"]["recall@20"]))])
    header = ["data set", "seed", "people"]
    header += [f"{metric} {what}" for metric in METRICS for what in ("fitted", "folded in", "ratio")]
    return markdown.table([*header, "difference"], lines)


def _curve_table(curves: Mapping[str, Mapping[str, Any]]) -> str:
    lines = []
    for name, curve in curves.items():
        for metric in METRICS:
            points = [point[metric] for point in curve.values()]
            people = f"{next(iter(curve.values()))['users']:,}"
            cells = [f"{markdown.number(one['value'])} ± {markdown.number(one['standard_error'])}" for one in points]
            lines.append([name, people, metric, *cells])
    return markdown.table(["", "people", "events known", *next(iter(curves.values()))], lines)


def _plain(curve: Mapping[int, Evaluation]) -> dict[str, Any]:
    """Returns a curve as JSON can hold it: number of events → people, and mean and standard error of each metric."""
    points = {}
    for count, evaluation in curve.items():
        frame = evaluation.to_frame().set_index("metric")[["value", "standard_error"]]
        points[str(count)] = {"users": evaluation.num_users, **frame.to_dict("index")}
    return points


def _surroundings(device: str) -> dict[str, str]:
    place = machine(torch.get_num_threads())
    versions = [f"{name} {version(name)}" for name in ("gnnrec", "numpy", "scipy", "torch", "torch-geometric")]
    return {"machine": f"{place}, {resolve_device(device)}", "versions": ", ".join(versions)}


if __name__ == "__main__":
    main()
