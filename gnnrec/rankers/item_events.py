"""Moves new items towards the people who have chosen them since the fit."""

from dataclasses import replace

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F

from gnnrec.rankers.serving import ServingTensors

__all__ = ["tell_new_items"]

_CONTENT_EVENTS = 5.0  # on validation as good as 2, better than 15 (MovieLens 100K) and than 1, 10 and 20 (CiteULike)


def tell_new_items(serving: ServingTensors, interactions: sp.csr_matrix, width: int) -> ServingTensors:
    """Lets those who chose a new item count beside its content, which counts as five of them.

    The direction of the item becomes ``normalise(5 ĉ + sum of û over its people)`` with the direction ``ĉ`` that its
    content gives and the directions ``û`` of the people; its length stays, and so does its bias. What it tells of those
    people, in turn, stays what its content says: so all depends on which events are known, and not on the order in
    which they came. Cost: ``O(num_entries)``, and ``O(width)`` for every event on a new item and
    each of its people.

    Args:
        serving: With the vectors of the people as they are now.
        interactions: ``[num_users, num_items]`` binary: all pairs by now, those of the fit included.
        width: Of the vectors without a bias.
    """
    new = np.flatnonzero(serving.item_is_new.numpy())
    if not len(new):
        return serving
    people = interactions[:, new].T.tocsr()
    chosen = np.flatnonzero(np.diff(people.indptr))
    told = torch.from_numpy(new[chosen])
    content, bias = serving.item[told].tensor_split([width], dim=1)
    someone = np.unique(people.indices).astype(np.int64)
    direction = F.normalize(serving.user[torch.from_numpy(someone), :width]).numpy()
    total = torch.from_numpy(np.asarray(people[chosen][:, someone] @ direction, dtype=np.float32))
    moved = F.normalize(_CONTENT_EVENTS * F.normalize(content) + total) * content.norm(dim=1, keepdim=True)
    return replace(serving, told=told, told_item=torch.cat([moved, bias], dim=1))
