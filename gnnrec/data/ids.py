"""Maps the ids that people use (strings or integers) to rows 0 … n-1 and back."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from gnnrec.errors import DataError, UnknownIdError

__all__ = ["EXACT_IN_A_FLOAT", "IdArray", "IdMap", "as_id_array", "id_column", "kind_in_words", "listed"]

# Either int64 or object holding only ``str``.
IdArray: TypeAlias = NDArray[Any]

EXACT_IN_A_FLOAT = 2**53  # up to here a float64 holds every whole number
_SHOWN = 5  # how many offending ids an error message lists


def as_id_array(values: Any, what: str = "id") -> IdArray:
    """Returns ids as an int64 array, or as an object array of ``str``; never a mixture.

    Args:
        values: Any one-dimensional collection of integers or of strings. Floats without a
            fraction (what a nullable integer column becomes) count as integers.
        what: The column or argument that holds them, for messages.

    Raises:
        DataError: A null id, an id that is neither integer nor valid text, or both kinds at once.
    """
    try:
        return _as_id_array(values, what)
    except (UnicodeError, pa.ArrowException) as error:
        raise DataError(f"{what}: an id is no valid text: {error}") from error


def _as_id_array(values: Any, what: str) -> IdArray:
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise DataError(f"{what}: expected a collection of ids, got the single value {values!r}")
    if (dimensions := getattr(values, "ndim", 1)) != 1:
        raise DataError(f"{what}: expected a flat collection of ids, got one of {dimensions} dimensions")
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in "iu":
        if values.dtype == np.uint64 and len(values) and values.max() > np.iinfo(np.int64).max:
            raise DataError(f"{what}: {values.max()} does not fit into 64 bits with sign; use strings")
        return values.astype(np.int64, copy=False)
    if hasattr(values, "to_pylist"):  # a column of pyarrow, whose items are no plain values
        values = values.to_pylist()
    series = pd.Series(values if isinstance(values, pd.Series | pd.Index | np.ndarray | Sequence) else list(values))
    if len(series) == 0:
        return np.empty(0, dtype=np.int64)
    if series.isna().any():
        raise DataError(f"{what}: row {int(np.flatnonzero(series.isna())[0])} has no id")
    kind = pd.api.types.infer_dtype(series, skipna=False)
    if kind == "integer":
        bounds = np.iinfo(np.int64)
        for number in (int(series.min()), int(series.max())):
            if not bounds.min <= number <= bounds.max:
                raise DataError(f"{what}: {number} does not fit into 64 bits with sign; use strings")
        return series.to_numpy(dtype=np.int64)
    if kind in ("floating", "mixed-integer-float"):
        numbers = series.to_numpy(dtype=np.float64)
        broken = numbers[~np.isfinite(numbers) | (numbers != np.floor(numbers))]
        if len(broken):
            raise DataError(f"{what}: {float(broken[0])} is not an id; use integers or strings")
        if (inexact := np.abs(numbers).max()) > EXACT_IN_A_FLOAT:
            raise DataError(f"{what}: {inexact:g} is too large for a float to hold exactly; use integers or strings")
        return numbers.astype(np.int64)
    if kind == "string":
        return series.to_numpy(dtype=object)
    if kind == "categorical":
        return _as_id_array(series.astype(series.cat.categories.dtype), what)
    first_of_type = {type(value).__name__: value for value in reversed(series.tolist())}
    types = " and ".join(f"{name} ({value!r})" for name, value in sorted(first_of_type.items()))
    raise DataError(f"{what}: ids must be all integers or all strings, not {types}; convert them, for instance by str")


def id_column(ids: IdArray, kind: Literal["int", "str"]) -> pd.Series:
    """Returns ids as a column, of the same type where there are none, which by themselves tell no kind."""
    return pd.Series(ids, dtype=str if kind == "str" else np.int64)


def kind_in_words(ids: IdArray) -> str:
    """Returns ``integers`` or ``strings``, for messages."""
    return "integers" if ids.dtype.kind == "i" else "strings"


def listed(ids: IdArray | pd.Index) -> str:
    """Returns the first five ids as a message shows them, and how many more there are."""
    return ", ".join(map(repr, ids[:_SHOWN].tolist())) + (f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else "")


class IdMap:
    """An immutable list of distinct ids; the position of an id is its index.

    Args:
        ids: ``[n]`` distinct integers or strings.
        what: What they identify (``"user"`` or ``"item"``), for messages.

    Raises:
        DataError: A null, repeated or mixed id.
    """

    def __init__(self, ids: Any, what: str = "item") -> None:
        self._hold(as_id_array(ids, f"{what} ids"), what)
        if not self._index.is_unique:
            repeated = self._index[self._index.duplicated()].unique()
            raise DataError(f"{what} ids must be distinct; repeated: {listed(repeated)}")

    def _hold(self, ids: IdArray, what: str) -> None:
        self.what = what
        self.ids: IdArray = ids
        self.ids.setflags(write=False)
        self._index = pd.Index(self.ids, dtype=self.ids.dtype)

    @classmethod
    def from_values(cls, values: Iterable[IdArray], what: str) -> "IdMap":
        """Builds the map of all distinct ids in several arrays, in sorted order.

        Raises:
            DataError: Some arrays hold integers and others strings.
        """
        arrays = [array for array in values if len(array)]
        if len({array.dtype.kind for array in arrays}) > 1:
            one_of_each = {array.dtype.kind: array[:1].tolist()[0] for array in arrays}
            examples = " and ".join(map(repr, one_of_each.values()))
            raise DataError(
                f"{what} ids are integers in one place and strings in another, such as {examples}; convert one of them"
            )
        if not arrays:
            return cls(np.empty(0, dtype=np.int64), what)
        return cls(np.sort(pd.unique(np.concatenate(arrays))), what)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"IdMap({len(self)} {self.what}s)"

    @property
    def kind(self) -> Literal["int", "str"]:
        """Whether the ids are integers or strings."""
        return "int" if self.ids.dtype.kind == "i" else "str"

    def find(self, ids: Any) -> NDArray[np.int64]:
        """Returns the index of each id ``[n]``, with -1 for an unknown one."""
        wanted = as_id_array(ids, f"{self.what} ids")
        if len(wanted) and wanted.dtype.kind != self.ids.dtype.kind:
            return np.full(len(wanted), -1, dtype=np.int64)
        return self._index.get_indexer(pd.Index(wanted, dtype=wanted.dtype)).astype(np.int64)

    def index_of(self, ids: Any) -> NDArray[np.int64]:
        """Returns the index of each id ``[n]``.

        Raises:
            UnknownIdError: Some id is unknown; the message lists the first few.
        """
        wanted = as_id_array(ids, f"{self.what} ids")
        index = self.find(wanted)
        if (index < 0).any():
            unknown = pd.unique(wanted[index < 0])
            hint = ""
            if len(self) and wanted.dtype.kind != self.ids.dtype.kind:
                hint = f" (known {self.what} ids are {kind_in_words(self.ids)})"
            raise UnknownIdError(f"unknown {self.what} ids: {listed(unknown)}{hint}")
        return index

    def ids_of(self, index: Any) -> IdArray:
        """Returns the ids at the given positions."""
        return self.ids[np.asarray(index, dtype=np.int64)]

    def extend(self, ids: Any) -> "IdMap":
        """Returns a map with further ids behind the present ones, whose positions stay.

        Raises:
            DataError: An id that is already there, or of the other kind.
        """
        added = as_id_array(ids, f"{self.what} ids")
        if len(self) and len(added) and added.dtype.kind != self.ids.dtype.kind:
            raise DataError(f"new {self.what} ids must be {kind_in_words(self.ids)} like the old")
        known = added[self.find(added) >= 0]
        if len(known):
            raise DataError(f"{self.what} ids exist already: {listed(known)}")
        IdMap(added, self.what)  # refuses repeated ones
        extended = object.__new__(IdMap)  # the present ids need no second look, which takes long for a million
        extended._hold(np.concatenate([self.ids, added]) if len(self) else added, self.what)
        return extended
