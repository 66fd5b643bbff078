"""Holds what a trained model leaves behind for answering."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor

from gnnrec.nn.message_graph import MessageGraph
from gnnrec.nn.model import GraphModel, NewItems
from gnnrec.rankers.fold_in import fold_in_by_propagation

__all__ = ["ServingTensors", "serving_tensors"]


@dataclass(frozen=True, eq=False)
class ServingTensors:
    """What a trained model leaves behind for answering, on the CPU.

    Attributes:
        user: ``[num_users, dim]``, ready for the inner product.
        item: ``[num_items, dim]``, ready for the inner product.
        user_base: ``[num_users, width]`` a user before decoding, less what the user's own history adds.
        item_messages: ``[num_items, width]`` what each item adds to the users who chose it.
        item_propagated: ``[num_items, any]`` what each item sends to its neighbours by content.
        item_degree: ``[num_items]`` interactions in training.
        user_taste: ``[num_users, width]`` how much of which content each user likes; 0 wide where content is not
            compared.
        item_content: ``[num_items, width]`` the content of the items.
        content_weight: ``[num_items]`` how much its likeness to ``user_taste`` counts in the score of each item.
        item_is_new: ``[num_items]`` bool: items that nobody had chosen at the fit.
        told: ``[num_told]`` new items that have been chosen since.
        told_item: ``[num_told, dim]`` what stands for their rows of ``item`` in answers.
    """

    user: Tensor
    item: Tensor
    user_base: Tensor
    item_messages: Tensor
    item_propagated: Tensor
    item_degree: Tensor
    user_taste: Tensor
    item_content: Tensor
    content_weight: Tensor
    item_is_new: Tensor
    told: Tensor
    told_item: Tensor

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], content_taste: float) -> Self:
        """Takes saved tensors; models of formats 1 and 2 do not compare content, those before 5 tell no item.

        Before format 6 likeness of content counted for new items alone, and tastes came multiplied by that weight.
        """
        num_users, num_items = len(tensors["user"]), len(tensors["item"])
        is_new = tensors["item_degree"] == 0  # which those before 5 marked only where content was compared
        if "item_is_new" in tensors:
            is_new |= tensors["item_is_new"]
        before = {
            "user_taste": torch.zeros(num_users, 0),
            "item_content": torch.zeros(num_items, 0),
            "told": torch.zeros(0, dtype=torch.int64),
            "told_item": torch.zeros(0, tensors["item"].shape[1]),
        }
        restored = {**before, **tensors, "item_is_new": is_new}
        if "content_weight" not in tensors:
            restored["user_taste"] = restored["user_taste"] / (content_taste or 1.0)
            restored["content_weight"] = content_taste * is_new
        return cls(**restored)

    def score(self, vectors: Tensor, taste: Tensor) -> Tensor:
        """Scores all items ``[num_people, num_items]``. Cost: ``O(num_people × num_items × (dim + width))``.

        Args:
            vectors: ``[num_people, dim]``, as ``user``.
            taste: ``[num_people, width]``, as ``user_taste``.
        """
        scores = vectors @ self.item.T
        if len(self.told):
            scores[:, self.told] = vectors @ self.told_item.T
        compared = torch.nonzero(self.content_weight).flatten() if taste.shape[1] else self.told.new_zeros(0)
        if len(compared) == len(self.item):  # no copy of all content
            scores.addcmul_(taste @ self.item_content.T, self.content_weight)
        elif len(compared):
            likeness = taste @ self.item_content[compared].T
            scores[:, compared] += likeness * self.content_weight[compared]
        return scores

    @property
    def item_now(self) -> Tensor:
        """``[num_items, dim]``: ``item``, with what events have told since."""
        return self.item.index_copy(0, self.told, self.told_item) if len(self.told) else self.item

    def with_more_users(self, num_users: int) -> Self:
        """Returns the tensors of ``num_users`` users, of which those that were not there are zero."""
        added = num_users - len(self.user)
        if not added:  # padding by nothing would still copy
            return self
        grown = {name: getattr(self, name) for name in ("user", "user_base", "user_taste")}
        return replace(self, **{name: F.pad(rows, (0, 0, 0, added)) for name, rows in grown.items()})

    def with_new_items(self, new: NewItems, sent: Tensor, content: Tensor, content_weight: float) -> Self:
        """Appends items that nobody has chosen.

        Args:
            new: Their vectors and messages, a row each.
            sent: ``[num_added, any]`` what they send to their neighbours by content.
            content: ``[num_added, width]`` their content.
            content_weight: How much its likeness to tastes counts.
        """
        ones = torch.ones(len(sent))
        return replace(
            self,
            item=torch.cat([self.item, new.item]),
            item_messages=torch.cat([self.item_messages, new.messages]),
            item_propagated=torch.cat([self.item_propagated, sent]),
            item_degree=torch.cat([self.item_degree, ones.to(self.item_degree.dtype)]),  # that of their messages
            item_content=torch.cat([self.item_content, content]),
            content_weight=torch.cat([self.content_weight, content_weight * ones]),
            item_is_new=torch.cat([self.item_is_new, ones.bool()]),
        )


@torch.no_grad()
def serving_tensors(model: GraphModel, graph: MessageGraph, interactions: sp.csr_matrix) -> ServingTensors:
    """Runs the trained model once over the whole graph and keeps what answering needs."""
    embeddings = model(graph)
    num_users = graph.num_users
    user, item = embeddings.user.cpu(), embeddings.item.cpu()
    messages = embeddings.messages[num_users:].cpu()
    degree = torch.from_numpy(np.bincount(interactions.indices, minlength=graph.num_items))
    before_decoding = embeddings.user_mixed.cpu()
    history = fold_in_by_propagation(interactions, messages, degree)
    # Users without interactions and without media are nobody in particular: they get the average taste.
    nobody = (before_decoding == 0).all(dim=1)
    user = torch.where(nobody[:, None], user[~nobody].mean(dim=0), user)
    return ServingTensors(
        user=user,
        item=item,
        user_base=before_decoding - history,
        item_messages=messages,
        item_propagated=embeddings.item_sent.cpu().clone(),  # may be the very memory of `item`
        item_degree=degree,
        user_taste=user.new_zeros(len(user), 0),
        item_content=item.new_zeros(len(item), 0),
        content_weight=item.new_zeros(len(item)),
        item_is_new=degree == 0,
        told=torch.zeros(0, dtype=torch.int64),
        told_item=item.new_zeros(0, item.shape[1]),
    )
