"""Says on which machine a figure was measured."""

import os
import platform
import re
from pathlib import Path

__all__ = ["machine", "processor"]


def machine(threads: int | None = None) -> str:
    """Returns the processor and its cores, and with how many threads torch computed if that is told."""
    computing = "" if threads is None else f", {threads} thread{'s' if threads > 1 else ''}"
    return f"{processor()}, {os.cpu_count()} cores{computing}"


def processor() -> str:
    """Returns the name of the processor; its family and model beside it, since one name covers many generations."""
    known = dict(re.findall(r"^([^\t\n]+)\t+: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE))
    if "model name" not in known:
        return platform.machine()
    return f"{known['model name']} (family {known['cpu family']}, model {known['model']})"
