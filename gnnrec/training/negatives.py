"""Draws items that a user has not interacted with."""

import torch
from torch import Tensor

__all__ = ["UniformNegatives"]

_ROUNDS = 16  # redraws of accidental positives; a user who has seen nine tenths of all items keeps .9^17 = 17 %


class UniformNegatives:
    """Uniform negatives among the items with interactions, positives of the user redrawn.

    One draw costs ``O(count × log num_edges)``: membership is a binary search among sorted pairs, for the whole batch
    at once. A user who has seen (nearly) everything may be left with a few positives.

    Args:
        edge_index: ``[2, num_edges]`` (user, item) positives.
        candidates: ``[num_candidates]`` item indices to draw from.
        num_items: Size of the catalogue.
    """

    def __init__(self, edge_index: Tensor, candidates: Tensor, num_items: int) -> None:
        self.num_items = num_items
        self.candidates = candidates
        self.pairs = (edge_index[0] * num_items + edge_index[1]).sort().values

    def sample(self, user_index: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
        """Returns ``[batch, count]`` item indices for the users ``[batch]``."""
        users = user_index[:, None].expand(-1, count)
        items = self._draw(users.numel(), generator).view_as(users).clone()
        for _ in range(_ROUNDS):
            seen = self._seen(users, items)
            if not seen.any():
                break
            items[seen] = self._draw(int(seen.sum()), generator)
        return items

    def _draw(self, count: int, generator: torch.Generator | None) -> Tensor:
        drawn = torch.randint(len(self.candidates), (count,), generator=generator)
        return self.candidates[drawn.to(self.candidates.device)]

    def _seen(self, users: Tensor, items: Tensor) -> Tensor:
        pairs = users * self.num_items + items
        position = torch.searchsorted(self.pairs, pairs).clamp(max=len(self.pairs) - 1)
        return self.pairs[position] == pairs
