"""Writes arrays larger than memory into one safetensors file, piece by piece, and maps such a file into memory."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file

__all__ = ["TensorWriter", "mapped_tensors"]

_TYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "int64": "I64", "int32": "I32", "bool": "BOOL"}
_ALIGNMENT = 8  # the header is padded to this many bytes, so that every array starts where its type may


class TensorWriter:
    """Writes a safetensors file whose arrays grow at the same time.

    Args:
        path: The file to write.
        arrays: Name → type and full shape. All of it must be appended before the file is closed.
    """

    def __init__(self, path: Path, arrays: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]) -> None:
        header, end = {}, 0
        self._types = {name: dtype for name, (dtype, _) in arrays.items()}
        self._next: dict[str, int] = {}
        self._end: dict[str, int] = {}
        for name, (dtype, shape) in sorted(arrays.items(), key=lambda entry: -entry[1][0].itemsize):
            start, end = end, end + dtype.itemsize * int(np.prod(shape))
            header[name] = {"dtype": _TYPES[dtype.name], "shape": list(shape), "data_offsets": [start, end]}
            self._next[name], self._end[name] = start, end
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % _ALIGNMENT)
        self._first = 8 + len(text)
        self._file = path.open("wb")
        self._file.write(len(text).to_bytes(8, "little") + text)
        self._file.truncate(self._first + end)

    def append(self, name: str, values: NDArray[Any]) -> None:
        """Writes the next rows of an array."""
        assert values.dtype == self._types[name], f"{name}: {values.dtype} instead of {self._types[name]}"
        self._file.seek(self._first + self._next[name])
        self._next[name] += self._file.write(np.ascontiguousarray(values).data.cast("B")) if values.size else 0

    def __enter__(self) -> "TensorWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
        assert kind is not None or self._next == self._end, "an array is not of the size that was announced"


def mapped_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Returns the arrays of a safetensors file without reading them: pages come from the file when they are used.

    What is written into the arrays stays in memory and never reaches the file.
    """
    return {name: tensor.numpy() for name, tensor in load_file(path).items()}
