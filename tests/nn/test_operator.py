import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnrec.nn.operator import SparseOperator


def dense(edge_index: torch.Tensor, weight: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The definition: entry [target, source] is the sum of the weights of its edges."""
    num_sources, num_targets = size
    matrix = torch.zeros(num_targets, num_sources)
    return matrix.index_put_((edge_index[1], edge_index[0]), weight, accumulate=True)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    num_sources=st.integers(1, 9),
    num_targets=st.integers(1, 9),
    num_edges=st.integers(0, 60),
)
def test_product_and_gradient_equal_the_dense_ones(
    seed: int, num_sources: int, num_targets: int, num_edges: int
) -> None:
    rng = np.random.default_rng(seed)
    source, target = rng.integers(num_sources, size=num_edges), rng.integers(num_targets, size=num_edges)
    edge_index = torch.from_numpy(np.stack([source, target]))
    weight = torch.from_numpy(rng.normal(size=num_edges).astype(np.float32))
    operator = SparseOperator(edge_index, weight, (num_sources, num_targets))
    matrix = dense(edge_index, weight, (num_sources, num_targets))
    x = torch.from_numpy(rng.normal(size=(num_sources, 3)).astype(np.float32)).requires_grad_()
    incoming = torch.from_numpy(rng.normal(size=(num_targets, 3)).astype(np.float32))

    product = operator @ x
    product.backward(incoming)
    torch.testing.assert_close(product.detach(), matrix @ x.detach(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(x.grad, matrix.T @ incoming, atol=1e-5, rtol=1e-4)


def test_repeated_entries_add_up() -> None:
    edge_index = torch.tensor([[1, 1, 0], [2, 2, 2]])
    operator = SparseOperator(edge_index, torch.tensor([0.5, 2.0, 1.0]), (2, 3))
    assert operator.num_entries == 2
    assert (operator @ torch.eye(2)).tolist() == [[0, 0], [0, 0], [1.0, 2.5]]


def test_a_symmetric_matrix_is_its_own_transpose() -> None:
    edge_index = torch.tensor([[0, 1, 1, 2, 2], [1, 0, 2, 1, 2]])
    weight = torch.tensor([3.0, 3.0, -1.0, -1.0, 4.0])
    operator = SparseOperator(edge_index, weight, (3, 3), symmetric=True)
    assert operator.backward_matrix is operator.forward_matrix
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (operator @ x).square().sum().backward()
    matrix = dense(edge_index, weight, (3, 3))
    torch.testing.assert_close(x.grad, 2 * matrix.T @ matrix @ x.detach())
    assert operator.to("cpu").backward_matrix is operator.forward_matrix


def test_indices_are_32_bit() -> None:
    operator = SparseOperator(torch.tensor([[0, 1], [1, 0]]), torch.ones(2), (4, 5))
    for matrix in (operator.forward_matrix, operator.backward_matrix):
        assert matrix.crow_indices().dtype == matrix.col_indices().dtype == torch.int32


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_are_summed_in_single_and_given_back_as_they_came(kind: torch.dtype) -> None:
    # 256 messages of 1 beside one of 1/4: a sum in bfloat16 would stay at 256.
    operator = SparseOperator(torch.stack([torch.arange(257), torch.zeros(257).long()]), torch.ones(257), (257, 1))
    x = torch.cat([torch.ones(256, 1), torch.tensor([[3.0]])]).to(kind).requires_grad_()
    product = operator @ x
    product.sum().backward()
    assert product.dtype == x.grad.dtype == kind
    assert product.item() == torch.tensor(259.0).to(kind).item()
    assert x.grad.unique().tolist() == [1]


def test_works_under_autocast() -> None:
    operator = SparseOperator(torch.tensor([[0, 1], [0, 0]]), torch.tensor([1.0, 2.0**-12]), (2, 1))
    with torch.autocast("cpu", torch.bfloat16):
        product = operator @ torch.ones(2, 1)
    assert product.item() == 1 + 2.0**-12


@pytest.mark.parametrize("dim", [1, 7, 64, 65])
def test_any_width_and_any_layout_of_rows(dim: int) -> None:
    generator = torch.Generator().manual_seed(dim)
    edge_index = torch.stack([torch.randint(50, (300,), generator=generator) for _ in range(2)])
    weight = torch.randn(300, generator=generator)
    x = torch.randn(dim, 50, generator=generator).T  # columns are contiguous, rows are not
    operator = SparseOperator(edge_index, weight, (50, 50))
    torch.testing.assert_close(operator @ x, dense(edge_index, weight, (50, 50)) @ x, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rows", [1, 3])
def test_refuses_rows_that_do_not_fit(rows: int) -> None:
    operator = SparseOperator(torch.tensor([[0, 1], [1, 0]]), torch.ones(2), (2, 2))
    with pytest.raises(ValueError, match=f"{rows} rows do not fit a matrix of 2 columns"):
        operator @ torch.ones(rows, 4)
