"""Measures how well held-out items find each other across modalities, space by space, and writes the page.

    python benchmarks/alignment.py
    python benchmarks/alignment.py --dataset stamps --seeds 0 1
    python benchmarks/alignment.py --draw

``BENCHMARKS`` in ``benchmarks/harness/alignment_plan.py`` declares the data sets, their splits and the spaces: no
alignment, the closed-form start alone, each objective, and combinations. Results lie in
``benchmarks/results/alignment``, a file per data set; a space that is there is not measured again, so remove its entry
when it has changed. The page ``docs/benchmarks-alignment.md`` and its pictures are written from them after each run;
``--draw`` does nothing else. The maps of a data set are drawn when its default is measured.

Needs gnnrec with the extras ``offline``, ``audio``, ``voice`` and ``plot``, and the data sets below GNNREC_DATA_DIR.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from gnnrec.evaluation import PairedBootstrap, plot_modalities
from harness import markdown
from harness.alignment import K, Media, aligned_vectors, measure, taken
from harness.alignment_plan import BENCHMARKS, CLOSED_FORM, DEFAULT, NONE, AlignmentBenchmark, Space
from harness.machine import machine
from harness.pages import DOCS
from harness.pictures import draw_directions, draw_spaces
from harness.results import read_results, write_results
from harness.rows import RESULTS, Fit, log_test_reading

Entries = Mapping[str, Mapping[str, Any]]

_INTRODUCTION = f"""# Benchmarks of alignment

`benchmarks/alignment.py` wrote this page from its results in `benchmarks/results/alignment`. No figure on it was typed
by hand.

## How it was measured

- A space is learned from the media of some items and measured on others. The vector that a held-out item has in one
  modality ranks the vectors of another by their cosine; candidates are all held-out items that have it.
- Recall@{K} is the share of queries whose own item is among the first {K}. Candidates that tie count as in random
  order. Chance is {K} over the number of candidates.
- Means over seeds; ± is the standard deviation over them. Differences are of each item's hits, averaged over the
  seeds that ask for it, by a paired bootstrap over items: mean, 95 % interval, p-value. "Queries" counts these items.
- `{NONE}` projects each modality at random to the width of the space. `{CLOSED_FORM}` is regularised canonical
  correlation analysis, where all other spaces start unless they say "random start"; their objectives train on from
  there.
- Everything but the objective is the default of `AlignmentConfig`, save what the column "options" says.
- Validation recall@{K} is the mean over the listed directions. It alone may choose a space; the best is in bold.
"""

_READING = {
    "ml-100k-multimodal": """**How to read it.** With a thousand movies to learn from, the closed form is hard to beat:
it uses all pairs at once, and training on from there mostly learns the movies by heart, so that the default makes few
small steps. The differences among the spaces of that start are small beside their intervals. From a random start an
objective shows what it can do alone. Those that compare distributions (`distribution`, `adversarial`) do not know which
plot belongs to which poster, so alone they stay at chance; `multi-task` learns what each modality says of genre and
stars, not which movie it is. These three are meant as companions of an objective that sees pairs, or of a start that
did. A poster says little of a plot: much of what is found is genre, era and style, which many movies share. Posters are
seen whole (`efficientnet-lite0-whole`): by their middle squares, which the default encoder sees, fewer were found in
cross-validation on the movies that are not for test.
""",
    "stamps": """**Which pairs stay weak, and why.** Names in all languages find pictures well, since the encoders have
learned from much text what things are alike. Spoken names are far weaker: the packaged encoder was made to tell
speakers apart and not words, and a few hundred recordings cannot teach words, most of which are not among them. Sounds
are weaker still: few stamps have one to learn from, a spectrum without trained weights describes them, and the picture
of a thing does not say how it sounds. Where sounds are the candidates there are fewer than fifty, so that chance alone
is above a fifth and nothing could reach five times as much. A hub encoder that was trained on pairs (CLIP, CLAP) takes
the place of any of these by its name.
""",
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS))
    parser.add_argument("--space", nargs="+", default=[], help="names of spaces; all when not given")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument(
        "--draw", action="store_true", help="write the page of the results that are there; learn nothing"
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--docs", type=Path, default=DOCS)
    chosen = parser.parse_args(arguments)
    for name in () if chosen.draw else chosen.dataset:
        measure_dataset(name, chosen)
    (chosen.docs / "images").mkdir(parents=True, exist_ok=True)
    (chosen.docs / "benchmarks-alignment.md").write_text(page(chosen.results, chosen.docs), encoding="utf-8")


def measure_dataset(name: str, chosen: argparse.Namespace) -> None:
    """Measures the spaces of a data set that have no result yet."""
    benchmark, media, path = BENCHMARKS[name], None, _path(chosen.results, name)
    for space in benchmark.spaces:
        entries = read_results(path)  # read anew each time: another run may have added something
        if space.name in entries or (chosen.space and space.name not in chosen.space):
            continue
        media = media or Media.encode(benchmark)
        for seed in chosen.seeds:
            log_test_reading(chosen.results, "alignment", Fit(name, "alignment", seed, space.name), {})
        found = measure(media, space, chosen.seeds) | _surroundings()
        write_results(path, {**read_results(path), space.name: found})
        print(f"{name} · {space.name}: {found['seconds']:.1f} s a seed", flush=True)
        if space.name == DEFAULT:
            draw_maps(name, media, space, chosen.docs)


def draw_maps(name: str, media: Media, space: Space, docs: Path) -> None:
    """Draws the held-out items before and after alignment."""
    (docs / "images").mkdir(parents=True, exist_ok=True)
    *_, train, test = media.parts(seed=0)
    for when, one in (("before", Space(NONE, None)), ("after", space)):
        listed = dict.fromkeys(modality for pair in BENCHMARKS[name].directions for modality in pair)
        vectors = taken(aligned_vectors(media, one, train, seed=0), test)
        vectors = {modality: vectors[modality] for modality in listed}  # a map has colours for six
        title = f"Held-out items {when} alignment"
        plot_modalities(vectors, docs / f"images/alignment-map-{name}-{when}.png", title=title)


def page(results: Path, docs: Path) -> str:
    """Returns the page of all results, and draws their pictures."""
    parts, software = [_INTRODUCTION], set()
    for name, benchmark in BENCHMARKS.items():
        if entries := read_results(_path(results, name)):
            entries = {space.name: entries[space.name] for space in benchmark.spaces if space.name in entries}
            parts += section(name, benchmark, entries, docs)
            software |= {(one["machine"], one["versions"]) for one in entries.values()}
    lines = "\n".join(f"- {place}; {used}" for place, used in sorted(software))
    return "\n".join([*parts, f"## Machines and versions\n\n{lines}\n"])


def section(name: str, benchmark: AlignmentBenchmark, entries: Entries, docs: Path) -> Iterator[str]:
    """Yields the section of one data set, and draws its pictures."""
    best = max(entries, key=lambda one: np.mean(entries[one]["validation"]))
    yield f"## {benchmark.title}\n\n[{name}](../datasets/{name}.md). Split: {benchmark.words}.\n"
    picture = f"images/alignment-{name}.png"
    draw_spaces(_summary(benchmark, entries), f"Recall@{K} of held-out items", docs / picture)
    yield f"![recall@{K} of every space]({picture})\n"
    yield _space_table(benchmark, entries, best)
    yield f"**Figures of the best on validation, `{best}`**\n"
    yield _direction_table(benchmark, entries[best])
    if len(entries[best]["uniformity"]) > 2:
        picture = f"images/alignment-{name}-directions.png"
        draw_directions(_matrix(entries[best]), f"Recall@{K} over chance, `{best}`".replace("`", ""), docs / picture)
        yield f"![recall@{K} over chance of every direction]({picture})\n"
    yield _weak(entries[best]) + "\n" + _READING[name]
    yield _geometry_table(benchmark, entries[best])
    if DEFAULT in entries:
        yield f"![held-out items before alignment](images/alignment-map-{name}-before.png)\n"
        yield f"![held-out items in the space of `{DEFAULT}`](images/alignment-map-{name}-after.png)\n"


def _space_table(benchmark: AlignmentBenchmark, entries: Entries, best: str) -> str:
    header = ["space", "seeds", *(f"{query} → {target}" for query, target in benchmark.directions), "times chance"]
    header += [f"over `{NONE}`", f"validation recall@{K}", "seconds", "options"]
    lines = []
    for name, entry in entries.items():
        figures = [entry["directions"][f"{query} → {target}"] for query, target in benchmark.directions]
        line = [f"**`{name}`**" if name == best else f"`{name}`", entry["seeds"]]
        line += [f"{_mean(one['recall'])} ({np.mean(one['median rank']):.0f})" for one in figures]
        line.append(f"{np.mean([np.mean(one['recall']) / one['chance'] for one in figures]):.1f}")
        line.append("" if name == NONE else _least([PairedBootstrap(**one["above no alignment"]) for one in figures]))
        line += [markdown.number(float(np.mean(entry["validation"]))), f"{entry['seconds']:.1f}"]
        options = {option: value for option, value in (entry["options"] or {}).items() if option != "objectives"}
        lines.append([*line, markdown.plain(json.dumps(options))])
    note = (
        f"Recall@{K}, the median rank in brackets. The difference over `{NONE}` is that of the direction where it is "
    )
    return f"{note}least.\n\n{markdown.table(header, lines)}"


def _direction_table(benchmark: AlignmentBenchmark, entry: Mapping[str, Any]) -> str:
    lines = []
    for query, target in benchmark.directions:
        one = entry["directions"][f"{query} → {target}"]
        recall = float(np.mean(one["recall"]))
        line = [f"{query} → {target}", one["queries"], one["candidates"], _mean(one["recall"])]
        line += [markdown.number(one["chance"]), f"{recall / one['chance']:.1f}"]
        line += [f"{np.mean(one['median rank']):.1f}", f"{one['chance rank']:.1f}"]
        lines.append([*line, markdown.compared(PairedBootstrap(**one["above chance"]))])
    header = ["direction", "queries", "candidates", f"recall@{K}", "chance", "times chance"]
    return markdown.table([*header, "median rank", "of chance", f"recall@{K} over chance"], lines)


def _geometry_table(benchmark: AlignmentBenchmark, entry: Mapping[str, Any]) -> str:
    """Returns cosines, entropies, distances and gap of the listed directions, and the uniformity of each modality."""
    columns = ("cosine_before", "cosine", "alignment", "gap", "entropy", "cross-entropy")
    lines = []
    for query, target in benchmark.directions:
        one = entry["directions"][f"{query} → {target}"]
        line = [f"{query} → {target}", *(f"{one[column]:.3f}" for column in columns)]
        lines.append([*line, f"{np.log(one['candidates']):.3f}"])
    header = ["direction", "cosine before", "cosine after", "alignment", "modality gap", "entropy", "cross-entropy"]
    uniformity = ", ".join(f"{name} {value:.2f}" for name, value in entry["uniformity"].items())
    about = "**Geometry** ([what the figures mean](evaluation.md#aligned-modalities))\n"
    return f"{about}\n{markdown.table([*header, 'entropy of chance'], lines)}\nUniformity: {uniformity}.\n"


def _weak(entry: Mapping[str, Any]) -> str:
    """Returns which directions are not above chance, and which below five times chance."""
    at_chance, low = [], []
    for name, one in entry["directions"].items():
        if not one["above chance"]["low"] > 0:
            at_chance.append(f"{name} ({one['queries']})")
        elif np.mean(one["recall"]) < 5 * one["chance"]:
            low.append(f"{name} ({one['queries']})")
    total = len(entry["directions"])
    parts = [f"{total - len(at_chance)} of {total} directions are above chance."]
    parts += [f"Not told from chance (queries in brackets): {', '.join(at_chance)}."] if at_chance else []
    parts += [f"Above chance, but below five times chance: {', '.join(low)}."] if low else []
    return " ".join(parts) + "\n"


def _summary(benchmark: AlignmentBenchmark, entries: Entries) -> pd.DataFrame:
    """Returns ``space``, ``direction``, ``recall``, ``deviation`` and ``chance``, a row per space and direction."""
    rows = []
    for name, entry in entries.items():
        for query, target in benchmark.directions:
            one = entry["directions"][f"{query} → {target}"]
            recall, row = pd.Series(one["recall"]), {"space": name, "direction": f"{query} → {target}"}
            rows.append(row | {"recall": recall.mean(), "deviation": recall.std(), "chance": one["chance"]})
    return pd.DataFrame(rows).fillna({"deviation": 0.0})  # of one seed


def _matrix(entry: Mapping[str, Any]) -> pd.DataFrame:
    """Returns recall over chance, queries in rows and targets in columns; NaN on the diagonal."""
    names = list(entry["uniformity"])
    matrix = pd.DataFrame(np.nan, index=names, columns=names)
    for direction, one in entry["directions"].items():
        query, target = direction.split(" → ")
        matrix.loc[query, target] = np.mean(one["recall"]) / one["chance"]
    return matrix


def _mean(values: list[float]) -> str:
    deviation = f" ± {markdown.number(float(np.std(values, ddof=1)))}" if len(values) > 1 else ""
    return markdown.number(float(np.mean(values))) + deviation


def _least(differences: list[PairedBootstrap]) -> str:
    return markdown.compared(min(differences, key=lambda one: one.low))


def _path(results: Path, name: str) -> Path:
    return results / "alignment" / f"{name}.json"


def _surroundings() -> dict[str, str]:
    versions = [f"{name} {version(name)}" for name in ("gnnrec", "numpy", "scipy", "torch")]
    return {"machine": f"{machine(torch.get_num_threads())}, cpu", "versions": ", ".join(versions)}


if __name__ == "__main__":
    main()
