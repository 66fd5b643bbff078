"""Writes what several pages have: which fits failed, which are outdated, on what machines they ran."""

import json
from pathlib import Path

import pandas as pd

from harness import markdown
from harness.options import outdated_options

DOCS = Path(__file__).parents[2] / "docs"


def failed(rows: pd.DataFrame) -> str:
    """Returns the fits that went wrong, with their reasons."""
    groups = rows.groupby(["model", "variant", "reason"], sort=True)["seed"].agg(lambda seeds: sorted(set(seeds)))
    lines = [
        [f"`{model}`" + (f" {variant}" if variant else ""), ", ".join(map(str, seeds)), markdown.plain(reason)]
        for (model, variant, reason), seeds in groups.items()
    ]
    return "**Not measured**\n\n" + markdown.table(["model", "seeds", "reason"], lines)


def since_changed(rows: pd.DataFrame) -> str:
    """Returns which presets were measured with other options than they have now, if any; ``rows`` hold no variants."""
    outdated = [
        f"`{model}` ({', '.join(f'{name} {then}, now {now}' for name, (then, now) in sorted(options.items()))})"
        for model, options in outdated_options(rows).items()
    ]
    return f"\nMeasured before an option of theirs was changed: {'; '.join(outdated)}.\n" if outdated else ""


def surroundings(rows: pd.DataFrame) -> str:
    """Returns where and with what the rows were measured."""
    known = rows.dropna(subset=["machine"])
    machines = known[["machine", "cores", "threads", "device"]].drop_duplicates().itertuples(index=False)
    texts = [
        f"- {row.machine}, {row.cores:.0f} cores, {markdown.threads(row.threads)}{_gpu(row.device)}" for row in machines
    ]
    versions = [json.loads(text) for text in known["versions"].dropna().unique()]
    names = ("gnnrec", "python", "numpy", "scipy", "torch", "torch-geometric")
    found = {name: sorted({one[name] for one in versions if name in one}) for name in names}
    software = ", ".join(f"{name} {' and '.join(values)}" for name, values in found.items() if values)
    dates = f"{known['date'].min()} to {known['date'].max()}" if len(known) else "never"
    return "## Machines and versions\n\n" + "\n".join([*texts, f"- {software}", f"- measured {dates}"]) + "\n"


def _gpu(device: str) -> str:
    return "" if device == "cpu" else f", {device}"
