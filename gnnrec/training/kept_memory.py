"""Keeps the memory that training frees, since the next step asks for as much again."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["keep_freed_memory"]

# Parameters of glibc's mallopt (its manual page, mallopt(3)).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_LARGEST_MMAP_THRESHOLD, _USUAL_MMAP_MAX, _NEVER = 32 * 2**20, 65_536, 2**31 - 1


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Lets the process keep what it frees inside; outside, and once it is over, the system gets it back.

    glibc takes everything above 32 MB from the system anew and returns it when it is freed, and the first touch of
    every page of it is a fault. A step on a large graph fills gigabytes of such short-lived tensors, and faults then
    take as long as the arithmetic. Holds for all threads of the process. Without glibc it does nothing.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(libc, "mallopt"):
        yield
        return
    assert libc is not None
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, _NEVER)
    try:
        yield
    finally:
        # Where glibc's own adjustment of the two thresholds ends, which setting them has turned off.
        libc.mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        libc.mallopt(_TRIM_THRESHOLD, 2 * _LARGEST_MMAP_THRESHOLD)
        libc.mallopt(_MMAP_MAX, _USUAL_MMAP_MAX)
        libc.malloc_trim(0)
