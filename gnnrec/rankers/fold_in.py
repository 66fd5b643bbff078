"""Turns the histories of new people into user vectors, in closed form."""

import itertools

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["content_tastes", "fold_in_by_least_squares", "fold_in_by_propagation", "tastes_of_histories"]

_BLOCK_ENTRIES = 4_000_000  # numbers of the stacked outer products held at once


def fold_in_by_propagation(histories: sp.csr_matrix, messages: Tensor, item_degree: Tensor) -> Tensor:
    """Propagates from the items of a history to a new user node: one row of the normalised adjacency.

    Because layers add up linearly, one product with the items' summed messages equals all layers of LightGCN for a
    node to which nobody listens (He et al. 2020, eq. 3 and 4). Cost: ``O(num_entries × dim)``.

    Args:
        histories: ``[num_people, num_items]`` binary.
        messages: ``[num_items, dim]`` what each item sends over all layers.
        item_degree: ``[num_items]`` degrees of the items in training.

    Returns:
        ``[num_people, dim]``; zero for an empty history.
    """
    length = np.maximum(np.diff(histories.indptr), 1)
    chosen = np.unique(histories.indices)  # one history must not cost a pass over the messages of the whole catalogue
    per_item = sp.diags(1 / np.sqrt(np.maximum(item_degree.numpy()[chosen], 1).astype(np.float64)))
    rows = sp.diags(1 / np.sqrt(length)) @ histories[:, chosen] @ per_item
    return torch.from_numpy(np.asarray(rows @ messages.numpy()[chosen], dtype=np.float32))


def tastes_of_histories(histories: sp.csr_matrix, propagated: Tensor, directions: Tensor) -> Tensor:
    """Describes people by two views of what they chose: what propagation brings them, and what the items are like.

    Cost: ``O(num_entries × dim)``.

    Args:
        histories: ``[num_people, num_items]`` binary.
        propagated: ``[num_people, width]`` from :func:`fold_in_by_propagation`.
        directions: ``[num_items, dim]`` vectors of the items.

    Returns:
        ``[num_people, width + dim]``, each view at length 1; zero for an empty history.
    """
    chosen, counts = _chosen_items(histories)
    total = torch.from_numpy(np.asarray(counts @ F.normalize(directions[chosen]).numpy(), dtype=np.float32))
    return torch.cat([F.normalize(propagated), F.normalize(total)], dim=1)


def content_tastes(histories: sp.csr_matrix, content: Tensor) -> Tensor:
    """Describes people by the mean content of what they chose. Cost: ``O(num_entries × width)``.

    Args:
        histories: ``[num_people, num_items]`` binary.
        content: ``[num_items, width]``.

    Returns:
        ``[num_people, width]``; zero for an empty history.
    """
    chosen, counts = _chosen_items(histories)
    total = np.asarray(counts @ content[chosen].numpy(), dtype=np.float32)
    total /= np.maximum(np.diff(histories.indptr), 1)[:, None]
    return torch.from_numpy(total)


def fold_in_by_least_squares(
    histories: sp.csr_matrix, item_vectors: Tensor, *, unseen_weight: float = 0.05, ridge: float = 0.1
) -> Tensor:
    """Fits a new user's vector to 1 on the history and 0 elsewhere (Hu et al. 2008, eq. 4, with fixed items).

    ``p = (V_h' V_h + w V'V + ridge s I)^-1 V_h' 1`` with the mean squared length ``s`` of the item vectors, so that the
    scores do not depend on the unit in which those are measured. Cost: ``O(num_entries × dim² + num_people × dim³)``.

    Args:
        histories: ``[num_people, num_items]`` binary.
        item_vectors: ``[num_items, dim]``.
        unseen_weight: ``w``, how much the items outside the history count.
        ridge: Shrinks the answer, in shares of the mean squared length of the item vectors.

    Returns:
        ``[num_people, dim]``; zero for an empty history.
    """
    dim = item_vectors.shape[1]
    squared_length = item_vectors.square().sum(dim=1).mean().clamp(min=1e-12)
    base = unseen_weight * item_vectors.T @ item_vectors + ridge * squared_length * torch.eye(dim)
    answer = torch.zeros(histories.shape[0], dim)
    for start, end in itertools.pairwise(_block_bounds(histories, dim)):
        block = histories[start:end]
        chosen = item_vectors[torch.from_numpy(block.indices.astype(np.int64))]
        row = torch.from_numpy(np.repeat(np.arange(end - start), np.diff(block.indptr)))
        if end - start == 1:  # whose history may be as long as the catalogue
            outer = (chosen.T @ chosen)[None]
        else:
            outer = torch.zeros(end - start, dim, dim).index_add_(0, row, chosen[:, :, None] * chosen[:, None, :])
        total = torch.zeros(end - start, dim).index_add_(0, row, chosen)
        answer[start:end] = torch.linalg.solve(base + outer, total)
    return answer


def _chosen_items(histories: sp.csr_matrix) -> tuple[Tensor, sp.csr_matrix]:
    """Returns the items in any history ``[num_chosen]``, and the histories over those alone."""
    chosen, position = np.unique(histories.indices, return_inverse=True)
    counts = sp.csr_matrix((histories.data, position, histories.indptr), (histories.shape[0], len(chosen)))
    return torch.from_numpy(chosen.astype(np.int64)), counts


def _block_bounds(histories: sp.csr_matrix, dim: int) -> NDArray[np.int64]:
    """Returns where each block of people starts, and the end; an empty history takes room as well."""
    of_row = np.maximum(np.diff(histories.indptr), 1).astype(np.int64) * dim**2
    starts = np.unique(np.cumsum(of_row) // _BLOCK_ENTRIES, return_index=True)[1]
    behind_a_long_one = np.flatnonzero(of_row > _BLOCK_ENTRIES) + 1  # which is a block of its own
    return np.union1d(starts, np.append(behind_a_long_one, histories.shape[0]))
