"""Splits the tables with a row for each node among processes, by rows, and brings rows to the steps that need them."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Shard, distribute_tensor

from gnnrec.nn.message_graph import GraphShape
from gnnrec.nn.model import GraphModel
from gnnrec.nn.warm_start import tables_of_nodes
from gnnrec.training.tables import Tables

__all__ = ["ShardedTables"]


@dataclass(frozen=True, eq=False)
class _Lent:
    """Rows that a step computes with, and the way back of their gradient.

    Attributes:
        rows: A leaf of the step's graph, whose gradient is that of this process alone.
        give_back: From that gradient to the sum over all processes, in the rows that this process holds.
    """

    rows: Tensor
    give_back: Callable[[Tensor], Tensor]


class ShardedTables(Tables):
    """Tables of which every process holds ``ceil(num_rows / num_processes)`` consecutive rows, the last ones fewer.

    In place of each table the model gets the rows of this process, so whatever is made for the weights of the model,
    such as the moments of Adam or the best weights so far, is made for these rows only. The layout is that of a
    ``DTensor`` with ``Shard(0)``.

    A step on the whole graph needs every row: they are gathered before it, and their gradient is reduced and scattered
    behind it. Both together move as many bytes as averaging the gradient of a whole table would. A step on a sample
    asks each process for the rows that it needs, and sends their gradients back there.

    Args:
        model: The model, whose tables are cut in place.
        shape: Of its graph.
    """

    def __init__(self, model: GraphModel, shape: GraphShape) -> None:
        super().__init__(model)
        weights = dict(model.named_parameters())
        tables = {name: weights[name] for name in tables_of_nodes(shape, model.config) if name in weights}
        self.num_rows = {name: len(table) for name, table in tables.items()}
        self.num_processes = dist.get_world_size()
        self.mesh = init_device_mesh(next(iter(weights.values())).device.type, (self.num_processes,))
        self._lent: dict[str, _Lent] = {}
        for name, table in tables.items():
            self._put(name, nn.Parameter(self.cut(name, table.detach())))

    @property
    def names(self) -> Collection[str]:
        """All tables with a row for each node."""
        return self.num_rows.keys()

    def whole(self) -> Mapping[str, Tensor]:
        """Gathers all tables. Memory while a step lasts: the tables, and as much again for their gradients."""
        for name in self.num_rows:
            rows = self.gather(name, self.model.get_parameter(name).detach()).requires_grad_()
            self._lent[name] = _Lent(rows, self._sum_of_own_rows)
        return {name: lent.rows for name, lent in self._lent.items()}

    def rows(self, name: str, index: Tensor) -> Tensor:
        """Fetches rows from the processes that hold them, each once; their gradient comes back to be sparse there."""
        own = self.model.get_parameter(name)
        held = -(-self.num_rows[name] // self.num_processes)  # rows of a process
        wanted, place = torch.unique(index, return_inverse=True)  # ascending, so that those of a process are together
        num_wanted = torch.bincount(wanted // held, minlength=self.num_processes)
        num_asked = torch.empty_like(num_wanted)
        dist.all_to_all_single(num_asked, num_wanted)
        of_others, of_this = num_wanted.tolist(), num_asked.tolist()
        asked = _exchange(wanted, of_others, of_this) - held * dist.get_rank()

        def give_back(gradient: Tensor) -> Tensor:
            values = _exchange(gradient, of_others, of_this)
            return torch.sparse_coo_tensor(asked[None], values, own.shape, check_invariants=False)

        rows = _exchange(own.detach()[asked], of_this, of_others).requires_grad_()
        self._lent[name] = _Lent(rows, give_back)
        return rows[place]

    def return_gradients(self) -> None:
        """Gives every process the mean over all processes of the gradient of its rows."""
        for name, lent in self._lent.items():
            gradient = torch.zeros_like(lent.rows) if lent.rows.grad is None else lent.rows.grad
            self.model.get_parameter(name).grad = lent.give_back(gradient) / self.num_processes
        self._lent.clear()

    @contextmanager
    def assembled(self) -> Iterator[None]:
        """Gathers all rows into the model while the context lasts; its own rows take their place again behind it."""
        own = {name: self.model.get_parameter(name) for name in self.num_rows}
        self.assemble()
        try:
            yield
        finally:
            for name, rows in own.items():
                self._put(name, rows)

    def assemble(self) -> None:
        """Gathers all rows into the model for good."""
        for name in self.num_rows:
            self._put(name, nn.Parameter(self.gather(name, self.model.get_parameter(name).detach())))

    def gather(self, name: str, value: Tensor) -> Tensor:
        """Returns all rows, to every process."""
        if name not in self.num_rows or not value.ndim:
            return value
        whole = torch.empty(self.num_rows[name], *value.shape[1:], device="meta")
        shard = DTensor.from_local(
            value.contiguous(), self.mesh, [Shard(0)], run_check=False, shape=whole.shape, stride=whole.stride()
        )
        return shard.full_tensor()

    def cut(self, name: str, value: Tensor) -> Tensor:
        """Returns a copy of the rows of this process."""
        if name not in self.num_rows or not value.ndim:
            return value
        # Every process has the same rows at hand, so nothing is sent.
        return distribute_tensor(value, self.mesh, [Shard(0)], src_data_rank=None).to_local().clone()

    def _sum_of_own_rows(self, gradient: Tensor) -> Tensor:
        parts = DTensor.from_local(gradient, self.mesh, [Partial()], run_check=False)
        return parts.redistribute(placements=[Shard(0)]).to_local()

    def _put(self, name: str, table: nn.Parameter) -> None:
        module, _, attribute = name.rpartition(".")
        setattr(self.model.get_submodule(module), attribute, table)


def _exchange(values: Tensor, sent: list[int], received: list[int]) -> Tensor:
    """Sends each process so many consecutive rows, and returns so many from each, in the order of their ranks."""
    result = values.new_empty(sum(received), *values.shape[1:])
    dist.all_to_all_single(result, values.contiguous(), received, sent)
    return result
