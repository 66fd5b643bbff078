"""Reads the last events of people in the order in which they came."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

__all__ = ["SEQUENCE_ENCODERS", "GRUEncoder", "Histories", "LastEvents", "SequenceEncoder", "TransformerEncoder"]

_HEADS = 4
_LAYERS = 2


@dataclass(frozen=True, eq=False)
class LastEvents:
    """The last events of some users before some moments, of which several may lie in one row.

    Attributes:
        item_index: ``[num_rows, at most length]`` items that one user chose, oldest first, then -1.
        row: ``[num_moments]`` row of the user of each moment.
        count: ``[num_moments]`` how many events of the row come before the moment.
    """

    item_index: Tensor
    row: Tensor
    count: Tensor


@dataclass(frozen=True, eq=False)
class Histories:
    """What each user chose, oldest first.

    Attributes:
        item_index: ``[num_events]`` user by user.
        start: ``[num_users + 1]`` where each user's events start in it.
        position: ``[num_events]`` where each of the edges lies in it from which it was made.
    """

    item_index: Tensor
    start: Tensor
    position: Tensor

    @classmethod
    def from_edges(cls, edge_index: Tensor, place: Tensor, num_users: int) -> Self:
        """Sorts events. Cost: ``O(num_events log num_events)``.

        Args:
            edge_index: ``[2, num_events]`` (user, item).
            place: ``[num_events]`` grows with time within each user; events that share a place stay as they come.
            num_users: Users.
        """
        user_index, item_index = edge_index
        order = place.argsort(stable=True)
        order = order[user_index[order].argsort(stable=True)]
        start = torch.zeros(num_users + 1, dtype=torch.int64, device=place.device)
        start[1:] = torch.bincount(user_index, minlength=num_users).cumsum(0)
        position = torch.empty_like(order)
        position[order] = torch.arange(len(order), device=place.device)
        return cls(item_index[order], start, position)

    def to(self, device: torch.device | str) -> Self:
        """Returns the same on another device."""
        return type(self)(self.item_index.to(device), self.start.to(device), self.position.to(device))

    def last(self, user_index: Tensor, length: int) -> LastEvents:
        """Returns the last ``length`` events of each user ``[num_given]``, or fewer if there are no more."""
        end = self.start[user_index + 1]
        first = torch.maximum(self.start[user_index], end - length)
        return LastEvents(self._between(first, end), torch.arange(len(end), device=end.device), end - first)

    def before(self, user_index: Tensor, edge: Tensor, length: int) -> LastEvents:
        """Returns events that come before each edge: all of them, or at least half of ``length`` and at most all of it.

        Edges of a user that follow each other share a row, so that an encoder which reads a row once, and at each place
        what came until then, serves ``length / 2`` of them at a time.

        Args:
            user_index: ``[num_given]`` user of each edge.
            edge: ``[num_given]`` which of the edges.
            length: Events at most.
        """
        start, at = self.start[user_index], self.position[edge]
        together = (length + 1) // 2
        group = (at - start) // together
        end = torch.minimum(start + (group + 1) * together - 1, self.start[user_index + 1])
        first = torch.maximum(start, end - length)
        groups, row = torch.unique(start + group, return_inverse=True)  # a user has no more groups than events
        first_of_row, end_of_row = (torch.empty_like(groups).scatter_(0, row, bound) for bound in (first, end))
        return LastEvents(self._between(first_of_row, end_of_row), row, at - first)

    def _between(self, first: Tensor, end: Tensor) -> Tensor:
        longest = int((end - first).max()) if len(end) else 0
        at = first[:, None] + torch.arange(longest, device=end.device)
        inside = at < end[:, None]
        return torch.where(inside, self.item_index[at.where(inside, 0)], -1)


class SequenceEncoder(nn.Module, ABC):
    """Reads the vectors of a person's events, oldest first. A subclass is built as ``Encoder(dim, length)``.

    Args:
        dim: Width of what is read and of what is made of it.
        length: Events at most.
    """

    def __init__(self, dim: int, length: int) -> None:
        super().__init__()
        self.length = length

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Returns what each event and those before it tell, and no other: ``[num_people, at most length, dim]``."""


class GRUEncoder(SequenceEncoder):
    """The states of a gated recurrent unit (Hidasi et al. 2016, GRU4Rec, section 3.1), in a linear layer.

    Cost: ``O(num_people × length × dim²)``, one event after the other.
    """

    def __init__(self, dim: int, length: int) -> None:
        super().__init__(dim, length)
        self.recurrent = nn.GRU(dim, dim, batch_first=True)
        self.linear = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Reads events."""
        heard: Tensor = self.linear(self.recurrent(x)[0])
        return heard


class TransformerEncoder(SequenceEncoder):
    """A transformer in which an event attends to itself and those before it (Kang & McAuley 2018, SASRec, section 3).

    Layers normalise first (Xiong et al. 2020).

    Cost: ``O(num_people × (length × dim² + length² × dim))``.
    """

    def __init__(self, dim: int, length: int) -> None:
        super().__init__(dim, length)
        width = -(-dim // _HEADS) * _HEADS
        self.enter, self.leave = nn.Linear(dim, width), nn.Linear(width, dim)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        layer = nn.TransformerEncoderLayer(
            width, _HEADS, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, _LAYERS, norm=nn.LayerNorm(width), enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        """Reads events."""
        count = x.shape[1]
        later = torch.ones(count, count, dtype=torch.bool, device=x.device).triu(1)
        heard: Tensor = self.leave(self.layers(self.enter(x) + self.position[:count], mask=later))
        return heard


# Name in the option ``sequence_encoder`` → class.
SEQUENCE_ENCODERS: Mapping[str, type[SequenceEncoder]] = {"gru": GRUEncoder, "transformer": TransformerEncoder}
