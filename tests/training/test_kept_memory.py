"""Freed memory stays with the process while a model trains, and goes back to the system afterwards."""

import ctypes
import json
import subprocess
import sys

import pytest
import torch

from gnnrec.training.kept_memory import keep_freed_memory

PAGES = 16_384  # of 4 KiB in the tensor below
SCRIPT = """
import json, resource
from pathlib import Path
import torch
from gnnrec.training.kept_memory import keep_freed_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1])

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(30):
        torch.ones(64 * 2**20 // 4)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

found = {"faults outside": faults()}
before = resident()
try:
    with keep_freed_memory():
        found["faults inside"] = faults()
        found["kept"] = resident() - before
        raise ZeroDivisionError
except ZeroDivisionError:
    found["kept afterwards"] = resident() - before
print(json.dumps(found))
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="only glibc has such parameters"
)
def test_freed_memory_is_kept_inside_and_given_back_afterwards() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["faults outside"] > 29 * PAGES  # every one of thirty tensors is taken anew
    # A small tensor may settle where a large one was, which then needs another place: some of the first ones do.
    assert found["faults inside"] < 15 * PAGES
    assert found["kept"] > 0.9 * PAGES
    assert found["kept afterwards"] < 0.1 * PAGES


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with keep_freed_memory():
        assert torch.ones(3).sum() == 3
