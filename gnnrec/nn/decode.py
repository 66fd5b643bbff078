"""Scores the link between a user and an item from their embeddings."""

from collections.abc import Callable, Mapping

import torch.nn.functional as F
from torch import Tensor

__all__ = ["DECODERS"]


def _cosine(x: Tensor) -> Tensor:
    return F.normalize(x, dim=-1)


def _dot(x: Tensor) -> Tensor:
    return x


# Name → the map of embeddings after which the score of a link is a plain inner product, so that training, exact
# search and any nearest-neighbour index use the same two matrices.
DECODERS: Mapping[str, Callable[[Tensor], Tensor]] = {"cosine": _cosine, "dot": _dot}
