"""Adam that passes over the rows of a table that a step did not touch."""

from typing import Any

import torch
from torch import Tensor

__all__ = ["LazyAdam"]


class LazyAdam(torch.optim.Adam):
    """Adam (Kingma & Ba 2015, algorithm 1), but a table with a sparse gradient moves only in the rows of the gradient.

    Each such row is an Adam of its own: its moments decay, and its bias is corrected, by the steps that it took part
    in. (``torch.optim.SparseAdam`` corrects by all steps, so that a row which is touched for the first time late moves
    several times too far.) A row that is touched in every step moves as with Adam, and so do dense gradients.

    Cost of a step for a table: ``O(rows touched × dim)``. Memory: two moments of the size of the table, as with Adam.

    Args:
        params: As any optimiser of torch takes them.
        lr: Learning rate.
    """

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, lr=lr, fused=True)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Moves the rows of sparse gradients, then everything that has a dense one."""
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None and table.grad.is_sparse:
                    self._step_rows(table, group)
                    table.grad = None
        super().step()

    def _step_rows(self, table: Tensor, group: dict[str, Any]) -> None:
        assert table.grad is not None
        state = self.state[table]
        if not state:
            state["step"] = torch.zeros(len(table), device=table.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(table), torch.zeros_like(table)
        gradient = table.grad.coalesce()
        row, gradient = gradient.indices()[0], gradient.values()
        first, second = group["betas"]
        step = state["step"][row] + 1
        mean = torch.lerp(state["exp_avg"][row], gradient, 1 - first)
        square = torch.lerp(state["exp_avg_sq"][row], gradient.square(), 1 - second)
        state["step"][row], state["exp_avg"][row], state["exp_avg_sq"][row] = step, mean, square
        # In double precision: 1 - .999 has three digits less than its terms.
        step = step.double().view(-1, *[1] * (table.ndim - 1))
        of_mean, of_square = ((1 - beta**step).to(table.dtype) for beta in (first, second))
        table[row] -= group["lr"] * mean / of_mean / ((square / of_square).sqrt() + group["eps"])
