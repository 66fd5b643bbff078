"""Describes items that nobody has chosen: by their media, and by those of the items that a relation joins them to."""

from collections.abc import Iterable, Mapping

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor

from gnnrec.modalities.features import Features, owned_by

__all__ = ["other_ends", "unit_vectors", "with_related"]

_RELATED_SHARE = 0.5  # .25 and 1 do about as well on CiteULike's citations


def unit_vectors(x_dict: Mapping[str, Tensor], owner_dict: Mapping[str, Tensor], num_items: int) -> dict[str, Tensor]:
    """Returns the mean direction of the rows of each item, at length 1; zeros without rows.

    Args:
        x_dict: Modality → ``[num_rows, width]``.
        owner_dict: Modality → ``[num_rows]`` item of each row.
        num_items: How many items.

    Returns:
        Modality → ``[num_items, width]``.
    """
    return {
        name: F.normalize(x.new_zeros(num_items, x.shape[1]).index_add_(0, owner_dict[name], F.normalize(x)))
        for name, x in x_dict.items()
    }


def with_related(unit: Tensor, related: sp.csr_matrix, of_related: Tensor) -> Tensor:
    """Adds to the vectors of items half the mean of those of the items that a relation joins them to.

    It is one step of message passing over content (Wu et al. 2019, "Simplifying Graph Convolutional Networks"): a
    paper without an abstract is described by the papers that it cites. Cost: ``O(num_edges × width)``.

    Args:
        unit: ``[num_items, width]`` unit vectors; a row of zeros lacks the modality.
        related: ``[num_items, num_related]`` weights of the edges, above 0.
        of_related: ``[num_related, width]`` unit vectors of the other ends; a row of zeros lacks the modality.

    Returns:
        ``[num_items, width]`` unit vectors; zeros where neither the item nor a related one has the modality.
    """
    having = np.asarray(of_related.square().sum(dim=1) > 0, dtype=np.float32)
    total = torch.from_numpy(np.asarray(related @ of_related.numpy(), dtype=np.float32))
    weight = torch.from_numpy(np.asarray(related @ having, dtype=np.float32))
    mean = total / weight.clamp(min=torch.finfo(torch.float32).tiny)[:, None]
    return F.normalize(unit + _RELATED_SHARE * mean)


def other_ends(
    relations: Mapping[str, sp.csr_matrix],
    unit_dict: Mapping[str, Tensor],
    known: Mapping[str, Features],
    modalities: Iterable[str],
    num_known: int,
) -> tuple[dict[str, sp.csr_matrix], dict[str, Tensor]]:
    """Describes the items at the other ends of the edges of new ones, and no others.

    Args:
        relations: Relation → ``[num_added, num_known + num_added]`` weights of the edges of new items.
        unit_dict: Modality → ``[num_added, width]`` unit vectors of the new items; any may be absent.
        known: Modality → prepared vectors of the known items.
        modalities: Those to describe items by.
        num_known: How many items are known.

    Returns:
        The relations with the columns of the items in question alone ``[num_added, num_ends]``, and modality →
        ``[num_ends, width]`` unit vectors.
    """
    ends = np.unique(np.concatenate([edges.indices for edges in relations.values()])).astype(np.int64)
    old, new = ends[ends < num_known], torch.from_numpy(ends[ends >= num_known] - num_known)
    described = {}
    for name in modalities:
        x, owner = owned_by(known[name], old).tensors()
        unit = unit_vectors({name: x}, {name: owner}, len(old))[name]
        own = unit_dict[name][new] if name in unit_dict else unit.new_zeros(len(new), unit.shape[1])
        described[name] = torch.cat([unit, own])
    return {name: edges[:, ends] for name, edges in relations.items()}, described
