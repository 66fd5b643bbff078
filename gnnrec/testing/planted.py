"""Makes interaction graphs with planted tastes: who likes what is known, so a model either finds it or fails."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from gnnrec.geometric import HeteroData
from gnnrec.graph.build import GraphConfig, build_graph
from gnnrec.modalities.features import Features

__all__ = ["PlantedGraph", "planted_graph"]


@dataclass(frozen=True, eq=False)
class PlantedGraph:
    """A graph and its truth.

    Attributes:
        graph: What ``gnnrec.graph.build_graph`` makes of the training pairs and the content.
        train: ``[num_users, num_items]`` binary training pairs.
        test: ``[num_users, num_items]`` held-out pairs, within the tastes of their users.
        features: The one modality ``content``: a noisy picture of each item's taste.
        user_taste: ``[num_users]``.
        item_taste: ``[num_items]``.
        new_items: ``[num_new]`` items without a training pair; their content is in ``features``.
    """

    graph: HeteroData
    train: sp.csr_matrix
    test: sp.csr_matrix
    features: dict[str, Features]
    user_taste: NDArray[np.int64]
    item_taste: NDArray[np.int64]
    new_items: NDArray[np.int64]

    def purity(self, scores: NDArray[np.floating], user_index: NDArray[np.int64], k: int = 10) -> float:
        """Returns the share of the ``k`` best unseen items that match the user's taste; chance is 1 / num_tastes."""
        hidden = np.where(self.train[user_index].toarray() > 0, -np.inf, scores)
        best = np.argsort(-hidden, axis=1, kind="stable")[:, :k]
        return float((self.item_taste[best] == self.user_taste[user_index][:, None]).mean())


def planted_graph(
    num_users: int = 120,
    num_items: int = 80,
    num_tastes: int = 4,
    *,
    events_per_user: int = 10,
    loyalty: float = 0.9,
    num_new: int = 8,
    dim: int = 12,
    noise: float = 0.3,
    seed: int = 0,
    config: GraphConfig | None = None,
) -> PlantedGraph:
    """Plants tastes: each user and each item has one, and most events stay within it.

    Args:
        num_users: Users.
        num_items: Items.
        num_tastes: Tastes.
        events_per_user: Distinct pairs per user, a fifth of which is held out.
        loyalty: Share of the events within the user's taste.
        num_new: Items that take part in no event.
        dim: Width of the content vectors.
        noise: Standard deviation of the noise on content vectors of length about 1.
        seed: Fixes everything.
        config: Relations of the graph.
    """
    rng = np.random.default_rng(seed)
    user_taste = rng.integers(num_tastes, size=num_users)
    item_taste = np.arange(num_items) % num_tastes
    new_items = np.arange(num_items - num_new, num_items)
    match = user_taste[:, None] == item_taste[None, :]
    within = match.sum(axis=1, keepdims=True)
    weight = np.where(match, loyalty / within, (1 - loyalty) / np.maximum(num_items - within, 1))
    weight[:, new_items] = 0
    # The exponential race draws without replacement in proportion to the weights, for all users at once.
    waiting = np.divide(rng.exponential(size=weight.shape), weight, out=np.full(weight.shape, np.inf), where=weight > 0)
    chosen = np.argsort(waiting, axis=1)[:, :events_per_user]
    row = np.repeat(np.arange(num_users), events_per_user)
    held_out = np.zeros((num_users, events_per_user), dtype=bool)
    held_out[:, : max(1, events_per_user // 5)] = True
    held_out &= np.take_along_axis(match, chosen, axis=1)

    def matrix(keep: NDArray[np.bool_]) -> sp.csr_matrix:
        pairs = (row[keep.ravel()], chosen.ravel()[keep.ravel()])
        return sp.csr_matrix((np.ones(len(pairs[0]), dtype=np.float32), pairs), shape=(num_users, num_items))

    train, test = matrix(~held_out), matrix(held_out)
    prototypes = np.linalg.qr(rng.normal(size=(dim, num_tastes)))[0].T
    values = prototypes[item_taste] + noise * rng.normal(size=(num_items, dim))
    features = {"content": Features("content", "item", values.astype(np.float32), np.arange(num_items))}
    graph = build_graph(train, features, config=config or GraphConfig())
    return PlantedGraph(graph, train, test, features, user_taste, item_taste, new_items)
