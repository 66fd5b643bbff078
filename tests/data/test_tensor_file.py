"""A safetensors file written in pieces is one that safetensors itself reads."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from gnnrec.data.tensor_file import TensorWriter, mapped_tensors

ARRAYS = {
    "short": np.arange(5, dtype=np.float32),
    "long": np.arange(7, dtype=np.int64) << 40,
    "matrix": np.arange(6, dtype=np.float32).reshape(3, 2),
    "none": np.empty(0),
}


def write(path, pieces):
    with TensorWriter(path, {name: (array.dtype, array.shape) for name, array in ARRAYS.items()}) as tensors:
        for start in range(0, 7, pieces):
            for name, array in ARRAYS.items():
                tensors.append(name, array[start : start + pieces])


@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_pieces_of_several_arrays_become_whole(tmp_path, pieces):
    write(tmp_path / "a.safetensors", pieces)
    for read in (load_file, mapped_tensors):
        found = read(tmp_path / "a.safetensors")
        assert set(found) == set(ARRAYS)
        for name, array in ARRAYS.items():
            assert found[name].dtype == array.dtype
            np.testing.assert_array_equal(found[name], array)


def test_mapped_arrays_are_aligned_and_writing_into_them_leaves_the_file_alone(tmp_path):
    write(tmp_path / "a.safetensors", 7)
    before = (tmp_path / "a.safetensors").read_bytes()
    found = mapped_tensors(tmp_path / "a.safetensors")
    assert all(array.flags.aligned and array.flags.writeable for array in found.values())
    found["long"][:] = 0
    assert (tmp_path / "a.safetensors").read_bytes() == before
    assert mapped_tensors(tmp_path / "a.safetensors")["long"].tolist() == ARRAYS["long"].tolist()


def test_an_array_that_is_not_complete_is_noticed(tmp_path):
    with (
        pytest.raises(AssertionError, match="not of the size"),
        TensorWriter(tmp_path / "a.safetensors", {"a": (np.dtype(np.int64), (2,))}) as tensors,
    ):
        tensors.append("a", np.zeros(1, dtype=np.int64))
