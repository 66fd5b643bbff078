"""Gives a training step the rows of the tables that hold one for each node: users, items, their biases."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from gnnrec.nn.model import GraphModel

__all__ = ["Tables"]


class Tables:
    """The tables of a model as they are: this process holds every row.

    Where several processes train, :class:`~gnnrec.training.sharded_tables.ShardedTables` takes its place, and each
    process holds some of the rows.

    Args:
        model: The model whose tables these are.
    """

    def __init__(self, model: GraphModel) -> None:
        self.model = model

    @property
    def names(self) -> Collection[str]:
        """The weights whose gradients these tables take care of themselves."""
        return ()

    def whole(self) -> Mapping[str, Tensor]:
        """Returns name → all rows, of the tables that must take another's place in a step on the whole graph."""
        return {}

    def rows(self, name: str, index: Tensor) -> Tensor:
        """Returns rows of a table whose gradient is sparse, so that a step costs nothing for all the others.

        Args:
            name: Of the table in ``model``.
            index: ``[num_rows]`` nodes, in any order and as often as need be.
        """
        table = self.model.get_parameter(name)
        if table.ndim == 1:
            return torch.gather(table, 0, index, sparse_grad=True)
        return F.embedding(index, table, sparse=True)

    def return_gradients(self) -> None:
        """Brings the gradients of the rows that a step was given to where the rows are held."""

    @contextmanager
    def assembled(self) -> Iterator[None]:
        """Puts all rows into the model while the context lasts."""
        yield

    def assemble(self) -> None:
        """Puts all rows into the model for good, when the training is over."""

    def gather(self, name: str, value: Tensor) -> Tensor:
        """Returns all rows of a weight, or of the optimiser's state of it, from what this process holds of it."""
        return value

    def cut(self, name: str, value: Tensor) -> Tensor:
        """Returns what this process holds of a weight, or of the optimiser's state of it: :meth:`gather` undone."""
        return value
