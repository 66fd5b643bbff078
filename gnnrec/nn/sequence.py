"""Reads the last events of people in the order in which they came."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

__all__ = ["SEQUENCE_ENCODERS", "GRUEncoder", "Histories", "SequenceEncoder", "TransformerEncoder"]

_HEADS = 4
_LAYERS = 2


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

    def last(self, user_index: Tensor, length: int) -> Tensor:
        """Returns ``[num_given, at most length]`` the last items of each user, oldest first, then -1."""
        return self._window(self.start[user_index], self.start[user_index + 1], length)

    def before(self, user_index: Tensor, edge: Tensor, length: int) -> Tensor:
        """Returns ``[num_given, at most length]`` the items that came last before each edge, oldest first, then -1.

        Args:
            user_index: ``[num_given]`` user of each edge.
            edge: ``[num_given]`` which of the edges.
            length: Items at most.
        """
        return self._window(self.start[user_index], self.position[edge], length)

    def _window(self, start: Tensor, end: Tensor, length: int) -> Tensor:
        first = torch.maximum(start, end - length)
        longest = int((end - first).max()) if len(end) else 0
        at = first[:, None] + torch.arange(longest, device=end.device)
        inside = at < end[:, None]
        return torch.where(inside, self.item_index[at.where(inside, 0)], -1)


class SequenceEncoder(nn.Module):
    """From the vectors of a person's last events, oldest first, to one vector. A subclass is ``Encoder(dim, length)``.

    Args:
        dim: Width of both.
        length: Events at most.
    """

    def __init__(self, dim: int, length: int) -> None:
        super().__init__()
        self.length = length

    def forward(self, x: Tensor, count: Tensor) -> Tensor:
        """Reads ``x`` of ``[num_people, at most length, dim]``, of which the first ``count`` rows are events.

        Returns:
            ``[num_people, dim]``; of what it is without any event nothing is said.
        """
        raise NotImplementedError


class GRUEncoder(SequenceEncoder):
    """The last state of a gated recurrent unit (Hidasi et al. 2016, GRU4Rec, section 3.1), in a linear layer.

    Cost: ``O(num_people × length × dim²)``, one event after the other.
    """

    def __init__(self, dim: int, length: int) -> None:
        super().__init__(dim, length)
        self.recurrent = nn.GRU(dim, dim, batch_first=True)
        self.linear = nn.Linear(dim, dim)

    def forward(self, x: Tensor, count: Tensor) -> Tensor:
        """Reads events; rows behind the last one come too late to change its state."""
        states, _ = self.recurrent(x)
        last = (count - 1).clamp(min=0)
        heard: Tensor = self.linear(states[torch.arange(len(x), device=x.device), last])
        return heard


class TransformerEncoder(SequenceEncoder):
    """What a transformer makes of the last event (Kang & McAuley 2018, SASRec, section 3).

    Positions are counted from the last event, so that a person's history may grow beyond ``length``. Events hear from
    all others of the history, which holds none that is to be predicted. Layers normalise first (Xiong et al. 2020).

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

    def forward(self, x: Tensor, count: Tensor) -> Tensor:
        """Reads events; padding is not attended to."""
        ago = (count[:, None] - 1 - torch.arange(x.shape[1], device=x.device)).clamp(min=0)
        token = self.enter(x) + self.position[ago]
        # Of people without events the first row is read, so that there is something to attend to.
        padding = torch.arange(x.shape[1], device=x.device) >= count.clamp(min=1)[:, None]
        read = self.layers(token, src_key_padding_mask=padding)
        last = read[torch.arange(len(x), device=x.device), (count - 1).clamp(min=0)]
        heard: Tensor = self.leave(last)
        return heard


# Name in the option ``sequence_encoder`` → class.
SEQUENCE_ENCODERS: Mapping[str, type[SequenceEncoder]] = {"gru": GRUEncoder, "transformer": TransformerEncoder}
