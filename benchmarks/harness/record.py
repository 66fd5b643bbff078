"""Turns the steps of a measurement into one row: what was found, on which machine, and why it stopped if it did."""

import json
import os
import platform
import re
import traceback
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from gnnrec.fitting import resolve_device
from harness.machine import processor
from harness.rows import Fit, Table, write_row


def record(
    results: Path, fit: Fit, options: Mapping[str, Any], device: str, table: Table, steps: Iterator[dict[str, Any]]
) -> None:
    """Writes the row that the steps add up to; an error becomes a failed row that says why, no step makes no row."""
    row: dict[str, Any] = {}
    try:
        for columns in steps:
            row |= columns
    except Exception as error:  # noqa: BLE001 - whatever a peer raises is the reason of its row
        traceback.print_exc()
        row |= {"status": "failed", "reason": f"{type(error).__name__}: {error}"}
    else:
        if not row:
            return
        row["status"] = "ok"
    write_row(results, fit, {"options": json.dumps(options), **_surroundings(device), **row}, table)


def versions(package: str) -> dict[str, str]:
    """Returns the column of installed versions: those of a package and of what all results depend on."""
    found = {"python": platform.python_version()}
    for name in dict.fromkeys(("gnnrec", "numpy", "scipy", "torch", "torch-geometric", package)):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # the import of the peer will say so
    return {"versions": json.dumps(found)}


def peak_memory() -> dict[str, float | None]:
    """Returns the columns of what this process has needed at most so far."""
    # Not getrusage: Linux lets a process inherit the peak of the one that started it.
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak is not None
    on_device = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else None
    return {"peak_memory_gib": int(peak[1]) / 2**20, "peak_device_memory_gib": on_device}


def _surroundings(device: str) -> dict[str, Any]:
    resolved = resolve_device(device)
    return {
        "machine": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(resolved) if resolved.startswith("cuda") else "cpu",
    }
