import uuid

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnnrec.data.ids import IdMap, as_id_array
from gnnrec.errors import DataError, UnknownIdError


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3, 1], [3, 1]),
        (np.array([3, 1], dtype=np.uint8), [3, 1]),
        ([3.0, 1.0], [3, 1]),
        (pd.array([3, 1], dtype="Int64"), [3, 1]),
        (pd.Categorical(["b", "a"]), ["b", "a"]),
        (np.array(["b", "a"]), ["b", "a"]),
        ({"b": 0, "a": 1}.keys(), ["b", "a"]),
        (pa.array(["b", "a"]), ["b", "a"]),
        (pa.chunked_array([[3], [1]]), [3, 1]),
        (pl.Series(["b", "a"]), ["b", "a"]),
        ([], []),
    ],
)
def test_ids_become_integers_or_strings(values, expected):
    array = as_id_array(values)
    assert array.tolist() == expected
    assert array.dtype.kind in "iO"
    assert {type(value) for value in array.tolist()} <= {int, str}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("abc", "single value 'abc'"),
        (7, "single value 7"),
        (np.array([["a"]]), "2 dimensions"),
        ([1e19, 2e19], "2e.19 is too large for a float"),
        ([-1e17, 1.0], "1e.17 is too large for a float"),
        ([10**20, 2], "100000000000000000000 does not fit"),
        ([-1, 2**63 + 5], "does not fit"),
        ([-(2**63) - 1, 5], "-9223372036854775809 does not fit"),
        ([1, None], "row 1 has no id"),
        ([1.5, 2.0], "1.5 is not an id"),
        ([1.0, np.inf], "inf is not an id"),
        ([1, "a", 2], r"all integers or all strings, not int \(1\) and str \('a'\)"),
        ([True, False], r"all integers or all strings, not bool \(True\)"),
        ([uuid.UUID(int=7)] * 2, r"not UUID \(UUID\('0000.*7'\)\); convert them, for instance by str"),
        (np.array([2**63], dtype=np.uint64), "9223372036854775808 does not fit"),
        ([2**63, 1], "9223372036854775808 does not fit"),
        (["\udcff", "b"], "an id is no valid text"),
        ([b"x"], "all integers or all strings"),
    ],
)
def test_what_is_no_id_is_refused(values, message):
    with pytest.raises(DataError, match=message):
        as_id_array(values, "column 'x'")


@given(st.lists(st.text(max_size=3), unique=True), st.lists(st.text(max_size=3)))
def test_find_is_the_position_in_the_list(ids, wanted):
    found = IdMap(ids).find(wanted)
    assert found.tolist() == [ids.index(one) if one in ids else -1 for one in wanted]


def test_index_of_names_the_unknown_and_the_kind_that_is_known():
    users = IdMap([5, 7], "user")
    assert users.index_of([7, 5, 7]).tolist() == [1, 0, 1]
    assert users.ids_of([1, 0]).tolist() == [7, 5]
    with pytest.raises(UnknownIdError, match="unknown user ids: 1, 2, 3, 4, 6 and 1 more"):
        users.index_of([1, 2, 3, 4, 6, 8, 7])
    with pytest.raises(UnknownIdError, match=r"'5' \(known user ids are integers\)"):
        users.index_of(["5"])


def test_maps_are_distinct_sorted_unions_and_grow_at_the_end():
    items = IdMap.from_values([np.array([3, 1]), np.array([2, 3])], "item")
    assert items.ids.tolist() == [1, 2, 3]
    assert items.extend([9, 0]).ids.tolist() == [1, 2, 3, 9, 0]
    with pytest.raises(DataError, match="exist already: 2"):
        items.extend([9, 2])
    with pytest.raises(DataError, match="must be integers like the old"):
        items.extend(["x"])
    for repeating in (lambda: IdMap([4, 4]), lambda: items.extend([4, 4])):
        with pytest.raises(DataError, match="repeated: 4"):
            repeating()
    with pytest.raises(DataError, match="integers in one place and strings"):
        IdMap.from_values([np.array([1]), np.array(["a"], dtype=object)], "item")
    with pytest.raises(ValueError, match="read-only"):
        items.ids[0] = 5
