"""Rows that a step does not touch stay, and every row is Adam's by the steps that it took part in."""

import pytest
import torch
import torch.nn.functional as F

from gnnrec.training.lazy_adam import LazyAdam


def loss(table: torch.Tensor, index: list[int], target: float, *, sparse: bool) -> torch.Tensor:
    if table.ndim == 1:
        rows = torch.gather(table, 0, torch.tensor(index), sparse_grad=sparse)
    else:
        rows = F.embedding(torch.tensor(index), table, sparse=sparse)
    return (rows - target).square().sum()


@pytest.mark.parametrize("shape", [(5,), (5, 3)])
def test_each_row_is_an_adam_of_its_own(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    table = torch.nn.Parameter(torch.randn(shape))
    alone = [torch.nn.Parameter(row.detach().clone()[None]) for row in table]
    lazy = LazyAdam([table], lr=0.1)
    adams = [torch.optim.Adam([row], lr=0.1) for row in alone]
    for step in range(30):
        touched = [0, step % 3, 3, 3] if step % 5 == 0 else [0, step % 3]  # repeated rows add up
        lazy.zero_grad()
        loss(table, touched, step, sparse=True).backward()
        lazy.step()
        for row in set(touched):
            adams[row].zero_grad()
            loss(alone[row], [0] * touched.count(row), step, sparse=False).backward()
            adams[row].step()
    torch.testing.assert_close(table.detach(), torch.cat(alone).detach())


def test_dense_gradients_move_as_with_adam() -> None:
    def run(optimiser: type[torch.optim.Optimizer]) -> torch.Tensor:
        weight = torch.nn.Parameter(torch.arange(4.0))
        optimizer = optimiser([weight], lr=0.1)
        for target in (1.0, -2.0, 3.0):
            optimizer.zero_grad()
            (weight - target).square().sum().backward()
            optimizer.step()
        return weight.detach()

    torch.testing.assert_close(run(LazyAdam), run(torch.optim.Adam))


def test_its_state_goes_on_where_it_was_saved() -> None:
    def steps(table: torch.nn.Parameter, optimizer: LazyAdam, targets: list[float]) -> None:
        for target in targets:
            optimizer.zero_grad()
            loss(table, [1, 2], target, sparse=True).backward()
            optimizer.step()

    whole, first = (torch.nn.Parameter(torch.ones(4, 2)) for _ in range(2))
    steps(whole, LazyAdam([whole], lr=0.1), [1, 2, 3, 4])
    before = LazyAdam([first], lr=0.1)
    steps(first, before, [1, 2])
    after = LazyAdam([first], lr=0.1)
    after.load_state_dict(before.state_dict())
    steps(first, after, [3, 4])
    assert torch.equal(whole, first)
    assert whole[0].tolist() == [1, 1]
