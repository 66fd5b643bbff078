"""Holds one learned vector per user and per item: what published models start from."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gnnrec.nn.message_graph import GraphShape, MessageGraph

__all__ = ["Identities"]


class Identities(nn.Module):
    """Tables of users and items.

    Args:
        shape: How many users and items there are.
        dim: Width of both tables.
        initialise: Draws a table in place.
    """

    def __init__(
        self, shape: GraphShape, dim: int, initialise: Callable[[Tensor], Any] = nn.init.xavier_uniform_
    ) -> None:
        super().__init__()
        self.initialise = initialise
        self.user = nn.Embedding(shape.num_users, dim)
        self.item = nn.Embedding(shape.num_items, dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws both tables anew."""
        self.initialise(self.user.weight)
        self.initialise(self.item.weight)

    def users(self, graph: MessageGraph) -> Tensor:
        """Returns ``[num_users, dim]``; zero for users without interactions, whose vectors nothing has trained."""
        return torch.where(graph.user_degree[:, None] > 0, self.user.weight, 0.0)

    def items(self, graph: MessageGraph) -> Tensor:
        """Returns ``[num_items, dim]``; zero for items without interactions."""
        return torch.where(graph.item_degree[:, None] > 0, self.item.weight, 0.0)
