"""Finds each item's nearest neighbours, by content or by shared users, without ever holding items × items."""

import itertools
from typing import Any, Literal, TypeAlias

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gnnrec.errors import ConfigError
from gnnrec.modalities.features import Features, mean_per_owner
from gnnrec.selection.topk import top_k

__all__ = [
    "ItemGraph",
    "co_occurrence_edges",
    "nearest_neighbours",
    "neighbour_shares",
    "similarity_edges",
    "top_entries_per_row",
]

# How the nearest items by content weigh. ``cosine``: in proportion to their cosine. ``lattice``: the item is one of its
# own neighbours, and the cosines are normalised by both degrees, D^-1/2 S D^-1/2 (Zhang et al. 2021, LATTICE, eq. 1 to
# 3). ``freedom``: the same with 1 instead of the cosine (Zhou & Shen 2023, FREEDOM, section 3.1).
ItemGraph: TypeAlias = Literal["cosine", "lattice", "freedom"]

_BLOCK_ENTRIES = 4_000_000  # pairs with a user in common that are counted at once


def nearest_neighbours(queries: Tensor, base: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Finds the base vectors of highest cosine similarity to each query, exactly; equal ones by index.

    Cost: ``O(num_queries × num_base × dim)`` time, in the blocks of :func:`~gnnrec.retrieval.top_k`.

    Args:
        queries: ``[num_queries, dim]``.
        base: ``[num_base, dim]``.
        k: Neighbours of each query; fewer when there are fewer base vectors.

    Returns:
        Similarities ``[num_queries, k]`` in descending order and indices ``[num_queries, k]`` into ``base``.

    Raises:
        ConfigError: ``k`` is not positive.
    """
    if k <= 0:
        raise ConfigError(f"the number of neighbours must be positive, not {k}")
    return top_k(F.normalize(queries.float()), F.normalize(base.float()), k)


def similarity_edges(features: Features, k: int, weights: ItemGraph = "cosine") -> tuple[Tensor, Tensor]:
    """Links each item to the items whose content is most like its own.

    An item with several rows (pictures, text parts) is compared by their mean; one without gets no edge. Edges of
    negative similarity are left out.

    Args:
        features: Vectors of one modality.
        k: Neighbours of each item; for ``lattice`` and ``freedom`` the item itself is the first of them.
        weights: How the neighbours weigh.

    Returns:
        ``edge_index [2, num_edges]`` (neighbour, item) and the weights ``[num_edges]``; those of ``lattice`` and
        ``freedom`` are normalised already.
    """
    means, owner = mean_per_owner(features)
    similarity, index = nearest_neighbours(means, means, k + 1)
    target = torch.arange(len(owner))[:, None].expand_as(index)
    keep = (index != target) & (similarity > 0)
    # Identical items may push an item out of its own list: never keep more than k.
    keep &= keep.cumsum(dim=1) <= k - (weights != "cosine")
    source, target, weight = index[keep], target[keep], similarity[keep]
    if weights != "cosine":
        itself = torch.arange(len(owner))
        source, target = torch.cat([itself, source]), torch.cat([itself, target])
        weight = torch.cat([torch.ones(len(owner)), torch.ones_like(weight) if weights == "freedom" else weight])
        degree = torch.zeros(len(owner)).index_add_(0, target, weight)
        weight = weight * (degree[source] * degree[target]).rsqrt()
    return torch.stack([owner[source], owner[target]]), weight


def neighbour_shares(added: Tensor, known: Tensor, k: int, weights: ItemGraph) -> tuple[Tensor, Tensor, Tensor]:
    """Finds the known items that are most like each new item, and what share each has in what the new item hears.

    The weights are those of :func:`similarity_edges`, but for the degrees of the known items: shares add up to 1.

    Args:
        added: ``[num_added, dim]``.
        known: ``[num_known, dim]``.
        k: Neighbours of each item, as in the graph.
        weights: How they weigh, as in the graph.

    Returns:
        Positions in ``known`` ``[num_added, k]``, their shares, and the item's share in itself ``[num_added]``.
    """
    similarity, index = nearest_neighbours(added, known, k if weights == "cosine" else max(1, k - 1))
    weight = similarity.clamp(min=0)
    if weights == "freedom":
        weight = (weight > 0).float()
    if weights != "cosine" and k == 1:  # where an item is the first of its neighbours
        weight = torch.zeros_like(weight)
    own = torch.full((len(added),), float(weights != "cosine"))
    total = (weight.sum(dim=1) + own).clamp(min=1e-12)
    return index, weight / total[:, None], own / total


def co_occurrence_edges(matrix: sp.csr_matrix, k: int, minimum_shared: int = 2) -> tuple[Tensor, Tensor]:
    """Links each item to the items that share most users with it.

    Cost: ``O(sum over users of degree²)`` time, in blocks of items bounded by their number of shared pairs.

    Args:
        matrix: ``[num_users, num_items]`` binary interactions; transposed, it links users that share items.
        k: Neighbours of each item.
        minimum_shared: Pairs with fewer common users are chance rather than evidence.

    Returns:
        ``edge_index [2, num_edges]`` (neighbour, item) and the number of shared users ``[num_edges]``.

    Raises:
        ConfigError: ``k`` is not positive.
    """
    if k <= 0:
        raise ConfigError(f"the number of neighbours must be positive, not {k}")
    by_item = matrix.T.tocsr()
    # What row i of the product can hold at most: the degrees of all users of item i.
    work = np.asarray(by_item @ np.diff(matrix.indptr).astype(np.float64)).ravel()
    block_of = (np.cumsum(work) // _BLOCK_ENTRIES).astype(np.int64)
    bounds = np.searchsorted(block_of, np.arange(block_of[-1] + 2)) if len(work) else np.zeros(1, dtype=np.int64)
    sources, targets, counts = [], [], []
    for start, end in itertools.pairwise(bounds):
        shared = by_item[start:end] @ matrix
        itself = np.repeat(np.arange(start, end), np.diff(shared.indptr))
        shared.data[(shared.indices == itself) | (shared.data < minimum_shared)] = 0
        shared.eliminate_zeros()
        row, column, count = top_entries_per_row(shared, k)
        sources.append(column)
        targets.append(row + start)
        counts.append(count)
    if not sources:
        return torch.zeros(2, 0, dtype=torch.int64), torch.zeros(0)
    edge_index = np.stack([np.concatenate(sources), np.concatenate(targets)]).astype(np.int64)
    return torch.from_numpy(edge_index), torch.from_numpy(np.concatenate(counts).astype(np.float32))


def top_entries_per_row(matrix: sp.csr_matrix, k: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]:
    """Returns row, column and value of the ``k`` largest stored entries of each row; ties go to the lower column."""
    if not matrix.has_sorted_indices:
        matrix = matrix.sorted_indices()
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    # Two stable sorts leave equal values in the order of their columns; np.lexsort takes three times as long.
    order = np.argsort(_narrow(matrix.data.max(initial=0) - matrix.data), kind="stable")
    order = order[np.argsort(_narrow(row)[order], kind="stable")]
    rank = np.arange(len(order)) - np.repeat(matrix.indptr[:-1], np.diff(matrix.indptr))
    chosen = order[rank < k]
    return row[chosen].astype(np.int64), matrix.indices[chosen].astype(np.int64), matrix.data[chosen]


def _narrow(numbers: NDArray[Any]) -> NDArray[Any]:
    """Returns the same numbers, none of them negative, in 16 bits if they fit: NumPy sorts those by radix."""
    small = numbers.astype(np.uint16) if numbers.max(initial=0) < 2**16 else numbers
    return small if np.array_equal(small, numbers) else numbers
