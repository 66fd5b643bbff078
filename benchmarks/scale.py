"""Fits the default model on planted logs of growing size and says what that takes, and how much of the truth it finds.

    python benchmarks/scale.py --pairs 100000 1000000 3000000 10000000 [--epochs 2] [--threads 2]

A log of ``n`` events has ``n / 10`` people, ``n / 50`` items and two modalities. Every item belongs to one taste, and
within it popularity falls with the rank (Zipf); every person has two tastes, so that the best possible ranking, the
oracle's, is known. One event of each person is held out for test, one of every twentieth person to choose the epoch.
Each size runs in a process of its own, with what came before it read from ``benchmarks/results/scale.json``; the script
then writes ``docs/benchmarks-scale.md``.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

import gnnrec as gr
from gnnrec.evaluation import evaluate_rankings
from harness import markdown
from harness.machine import machine
from harness.results import read_results, write_results

RESULTS = Path(__file__).parent / "results" / "scale.json"
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks-scale.md"

_EVENTS_PER_PERSON, _EVENTS_PER_ITEM, _ITEMS_PER_TASTE = 10, 50, 400
_SHARE_OF_FIRST_TASTE = 0.7
_WIDTHS = {"picture": 48, "text": 32}
_NOISE = 0.5
_VALIDATED_SHARE = 0.05
_MEASURED_PEOPLE = 10_000


@dataclass(frozen=True, eq=False)
class PlantedLog:
    """Events whose law is known.

    Attributes:
        events: ``user_id``, ``item_id`` and ``part`` (0: train, 1: valid, 2: test), distinct pairs.
        tastes: ``[num_people, 2]`` the tastes of each person.
        item_taste: ``[num_items]``.
        item_share: ``[num_items]`` chance of each item within its taste.
    """

    events: pd.DataFrame
    tastes: NDArray[np.int64]
    item_taste: NDArray[np.int64]
    item_share: NDArray[np.float64]

    def chances(self, people: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns ``[len(people), num_items]`` how likely each item is to be chosen: what the oracle ranks by."""
        scores = np.zeros((len(people), len(self.item_taste)), dtype=np.float32)
        for place, weight in enumerate((_SHARE_OF_FIRST_TASTE, 1 - _SHARE_OF_FIRST_TASTE)):
            scores += weight * (self.tastes[people, place, None] == self.item_taste)
        return scores * self.item_share.astype(np.float32)


def planted_log(num_events: int, seed: int = 0) -> PlantedLog:
    """Invents a log of about so many distinct pairs."""
    rng = np.random.default_rng(seed)
    num_people, num_items = num_events // _EVENTS_PER_PERSON, num_events // _EVENTS_PER_ITEM
    num_tastes = max(2, num_items // _ITEMS_PER_TASTE)
    item_taste = np.arange(num_items) % num_tastes
    rank = np.arange(num_items) // num_tastes
    item_share = 1 / (rank + 1.0)
    item_share /= np.bincount(item_taste, item_share)[item_taste]
    tastes = rng.integers(num_tastes, size=(num_people, 2))

    drawn = round(1.25 * num_events)  # some repeat a pair
    person = rng.integers(num_people, size=drawn)
    taste = tastes[person, (rng.random(drawn) > _SHARE_OF_FIRST_TASTE).astype(np.int64)]
    # The items of a taste are num_tastes apart, the most popular first: one table of cumulated shares serves all.
    cumulated = np.cumsum(1 / np.arange(1, num_items // num_tastes + 1))
    item = np.searchsorted(cumulated, rng.random(drawn) * cumulated[-1]) * num_tastes + taste
    pairs = pd.DataFrame({"user_id": person, "item_id": item}).drop_duplicates(ignore_index=True)[:num_events]
    place = pairs.groupby("user_id", sort=False).cumcount().to_numpy()
    part = np.where(place == 0, 2, np.where((place == 1) & (pairs["user_id"] % round(1 / _VALIDATED_SHARE) == 0), 1, 0))
    return PlantedLog(pairs.assign(part=part), tastes, item_taste, item_share)


def media(log: PlantedLog) -> dict[str, gr.Vectors]:
    """Returns noisy pictures of the taste of each item, in two modalities."""
    rng, ids = np.random.default_rng(1), np.arange(len(log.item_taste))
    vectors = {}
    for name, width in _WIDTHS.items():
        centres = rng.normal(size=(log.item_taste.max() + 1, width)).astype(np.float32)
        values = centres[log.item_taste]
        values += _NOISE * rng.standard_normal(values.shape, dtype=np.float32)
        vectors[name] = gr.Vectors(values, ids)
    return vectors


def measure(num_events: int, options: dict[str, Any]) -> dict[str, Any]:
    """Fits one size and measures it against the oracle, for the same people."""
    log = planted_log(num_events)
    memory = _Memory()
    started = time.perf_counter()
    data = gr.Dataset.from_frames(log.events, modalities=media(log))
    train, valid, test = data.split(gr.split.column("part"))
    seconds = {"dataset": time.perf_counter() - started}
    recommender = gr.Recommender(device="cpu", **options)
    fit_started = time.perf_counter()
    recommender.fit(train, valid, progress=False)
    fit_ended = time.perf_counter()
    assert recommender.fit_report is not None
    seconds |= recommender.fit_report.stage_seconds  # in the order in which they ran; the rest is little
    ends = list(itertools.accumulate(seconds.values(), initial=started))
    peaks = {name: memory.peak(*span) for name, span in zip(seconds, itertools.pairwise(ends), strict=True)}
    peaks["train"] = memory.peak(ends[-2], fit_ended)  # what stands between the stages counts as well
    peaks["fit"] = memory.peak(fit_started, fit_ended)
    seconds["fit"] = fit_ended - fit_started

    wanted, state = test.interaction_matrix(), recommender.state
    people = np.sort(np.random.default_rng(2).choice(wanted.shape[0], min(_MEASURED_PEOPLE, wanted.shape[0]), False))
    known = sp.csr_matrix(state.seen)

    def recall(score: Any) -> float:
        return evaluate_rankings(score, wanted, mask=known, metrics=("recall@20",), users=people, block_size=64).values[
            "recall@20"
        ]

    person, item = data.users.ids, data.items.ids
    found = {
        "gnnrec": recall(lambda rows: state.ranker.score(rows.numpy())),
        "oracle": recall(lambda rows: torch.from_numpy(log.chances(person[rows.numpy()])[:, item])),
        "popularity": recall(lambda rows: torch.from_numpy(state.popularity.astype(np.float32)).repeat(len(rows), 1)),
    }
    history = recommender.history
    return {
        "events": len(log.events),
        "people": data.num_users,
        "items": data.num_items,
        "widths": _WIDTHS,
        "seconds": {**seconds, "epoch": float(history["seconds"].median())},
        "validation recall@20": history["recall@20"].tolist(),
        "epochs": len(history),
        "best_epoch": state.best_epoch,
        "load": os.getloadavg()[0],
        "peak_gib": peaks,
        "recall@20": found,
        "options": options,
        "threads": torch.get_num_threads(),
        "machine": machine(),
        "versions": {name: version(name) for name in ("gnnrec", "torch", "numpy", "scipy")},
    }


class _Memory:
    """Watches how much memory the process holds, five times a second, from now on."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, float]] = []
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        page = os.sysconf("SC_PAGE_SIZE") / 2**30
        while True:
            resident = int(Path("/proc/self/statm").read_text().split()[1])
            self.samples.append((time.perf_counter(), resident * page))
            time.sleep(0.2)

    def peak(self, start: float, end: float) -> float:
        """Returns the most GiB between two moments, and from the last sample before them on."""
        before = [gib for moment, gib in self.samples if moment <= start][-1:]
        return max(before + [gib for moment, gib in self.samples if start <= moment <= end])


def write_page(rows: list[dict[str, Any]]) -> None:
    """Writes the table of all sizes, and how time and memory grow from one to the next."""
    header = ["events", "people", "items", "data set", "graph", "train", "epochs", "s per epoch", "fit", "peak GiB"]
    header += ["recall@20", "oracle", "share", "popularity", "threads", "load"]
    lines, growth = [], []
    for row in rows:
        seconds, recall = row["seconds"], row["recall@20"]
        lines.append(
            [f"{row['events']:,}", f"{row['people']:,}", f"{row['items']:,}"]
            + [f"{seconds[name]:.0f} s" for name in ("dataset", "graph", "train")]
            + [row["epochs"], f"{seconds['epoch']:.1f}", f"{seconds['fit'] / 60:.1f} min"]
            + [f"{row['peak_gib']['fit']:.2f}"]
            + [markdown.number(recall["gnnrec"]), markdown.number(recall["oracle"])]
            + [f"{recall['gnnrec'] / recall['oracle']:.0%}", markdown.number(recall["popularity"]), row["threads"]]
            + [f"{row['load']:.1f}"]
        )
    whole = [(rows[1], rows[-1])] if len(rows) > 3 else []  # the smallest fits into the cache
    for before, after in [*itertools.pairwise(rows), *whole]:
        slopes = [_slope(before, after, figure) for figure in _GROWING.values()]
        growth.append([f"{before['events']:,} → {after['events']:,}", *(f"{slope:.2f}" for slope in slopes)])
    text = [
        "# Fits of growing size\n\n`benchmarks/scale.py` wrote this page from `benchmarks/results/scale.json`; its "
        "head says how the logs are planted. Recall@20 is that of one held-out event of each of the same "
        f"{_MEASURED_PEOPLE:,} people, all items ranked, known pairs hidden. The oracle ranks by the true chances. "
        "The load is that of the machine at the end, other work included.\n",
        markdown.table(header, lines),
        "\n## Memory\n\nThe most GiB that the process held in each stage, what it held before included.\n",
        markdown.table(
            ["events", *_STAGES],
            [[f"{row['events']:,}", *(f"{row['peak_gib'][stage]:.2f}" for stage in _STAGES)] for row in rows],
        ),
        "\n## Growth\n\nThe exponent with which a figure grows from one size to the next; 1 is linear.\n",
        markdown.table(["from → to", *_GROWING], growth),
    ]
    if len(rows) > 1:
        last, before = rows[-1], rows[-2]
        text += [
            f"\n**Extrapolated, not measured**: the figures of {last['events']:,} events and what they become if each "
            f"goes on as from {before['events']:,} to {last['events']:,}, but at least linearly.\n",
            markdown.table(
                ["events", *_GROWING],
                [_extrapolated(before, last, events) for events in _EXTRAPOLATED if events > last["events"]],
            ),
        ]
    PAGE.write_text("\n".join(text), encoding="utf-8")


# What grows, and where a row keeps it.
_GROWING: dict[str, Callable[[dict[str, Any]], float]] = {
    "seconds for the data set": lambda row: row["seconds"]["dataset"],
    "seconds for the graph": lambda row: row["seconds"]["graph"],
    "seconds per epoch": lambda row: row["seconds"]["epoch"],
    "seconds of the fit": lambda row: row["seconds"]["fit"],
    "peak GiB": lambda row: row["peak_gib"]["fit"],
}
_STAGES = ("dataset", "encode", "prepare", "graph", "train")
_EXTRAPOLATED = (10_000_000, 100_000_000, 1_000_000_000)


def _slope(before: dict[str, Any], after: dict[str, Any], figure: Callable[[dict[str, Any]], float]) -> float:
    return float(np.log(figure(after) / figure(before)) / np.log(after["events"] / before["events"]))


def _extrapolated(before: dict[str, Any], last: dict[str, Any], events: int) -> list[str]:
    """Returns a line of the table: the figures at so many events."""
    times = events / last["events"]
    values = [figure(last) * times ** max(1.0, _slope(before, last, figure)) for figure in _GROWING.values()]
    return [f"{events:,}", *(f"{value:,.0f}" for value in values)]


def _measure_here(num_events: int, options: dict[str, Any], threads: int, path: Path) -> None:
    torch.set_num_threads(threads)
    path.write_text(json.dumps(measure(num_events, options)), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, nargs="+", default=[100_000, 1_000_000, 3_000_000, 10_000_000])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args()
    rows = {row["events"]: row for row in read_results(RESULTS)}
    for num_events in chosen.pairs:
        part = RESULTS.with_suffix(".part")
        process = multiprocessing.get_context("spawn").Process(
            target=_measure_here, args=(num_events, {"epochs": chosen.epochs}, chosen.threads, part)
        )
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(f"the fit of {num_events:,} events ended with {process.exitcode}")
        row = json.loads(part.read_text())
        part.unlink()
        rows[row["events"]] = row
        print(json.dumps(row), flush=True)
        write_results(RESULTS, [rows[key] for key in sorted(rows)])
    write_page([rows[key] for key in sorted(rows)])


if __name__ == "__main__":
    main()
