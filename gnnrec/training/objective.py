"""What a training step minimises: one ranking loss plus weighted auxiliary losses."""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from gnnrec.errors import ConfigError
from gnnrec.nn import losses
from gnnrec.nn.message_graph import MessageGraph
from gnnrec.nn.model import Embeddings
from gnnrec.training.auxiliary import AUXILIARY_LOSSES, Batch, Candidates, one_minus_cosine
from gnnrec.training.config import TrainingConfig
from gnnrec.training.negatives import UniformNegatives
from gnnrec.training.steps import Step

__all__ = ["Objective"]

# Catalogues up to this size are normalised over in full: beyond, a sampled softmax is as good and far cheaper.
_FULL_SOFTMAX_ITEMS = 50_000
_DRAWS = 4_096  # by popularity, and as many uniformly
# Where the order of events is read, no two pairs share a row of scores; fewer candidates then rank as well, in a third
# of the time.
_FULL_SOFTMAX_ITEMS_IN_ORDER = 2_000
_DRAWS_IN_ORDER = 1_024
_PAIRWISE = ("bpr", "bce")
# The cosine of a positive can lead by 2 at most, and the more items compete, the further it has to lead.
_USUAL_ITEMS = 10_000
_COLDEST = 0.3


class Objective:
    """Computes the loss of a batch of positive pairs.

    Items without interactions take no part as negatives: nothing is known against them, and pushing them down would
    teach the model that whatever is new is bad.

    Args:
        graph: The training graph.
        config: Which losses, and their weights.
        reads_order: The model reads histories in order, so a user is another one at each pair.

    Attributes:
        loss: The ranking loss that ``auto`` came to.
        temperature: What scores are divided by.
        shares_scores: All pairs of a user in a batch share one row of scores, or one pass over the user's events.
    """

    def __init__(self, graph: MessageGraph, config: TrainingConfig, *, reads_order: bool = False) -> None:
        self.config = config
        warm = graph.item_degree > 0
        self.warm_index = torch.nonzero(warm).flatten()
        self.position = torch.cumsum(warm.long(), 0) - 1
        self.loss: str = config.loss
        if self.loss == "auto":
            most = _FULL_SOFTMAX_ITEMS_IN_ORDER if reads_order else _FULL_SOFTMAX_ITEMS
            few = len(self.warm_index) <= most and not config.sampled_neighbours
            self.loss = "softmax" if few else "sampled-softmax"
        self.negatives: UniformNegatives | None = None
        if self.loss in _PAIRWISE:
            self.negatives = UniformNegatives(graph.edge_index, self.warm_index, graph.num_items)
        self.temperature = config.temperature
        self.shares_scores = self.loss in ("softmax", "sampled-softmax")
        if self.shares_scores:
            self.temperature *= max(_COLDEST, min(1.0, (_USUAL_ITEMS / len(self.warm_index)) ** 0.5))
        self.ranking_loss = {
            "softmax": self._softmax,
            "sampled-softmax": self._sampled_softmax,
            "bpr": self._bpr,
            "bce": self._bce,
            "bootstrap": self._bootstrap,
        }[self.loss]
        self.chosen_items = graph.edge_index[1]
        self.draws = _DRAWS_IN_ORDER if reads_order else _DRAWS
        share = graph.item_degree.double() / graph.item_degree.sum()
        never = self.draws * (torch.log1p(-share) + math.log1p(-1 / max(len(self.warm_index), 2)))
        self.log_inclusion = (-torch.expm1(never)).log().float()

    def __call__(self, embeddings: Embeddings, step: Step, users: Tensor | None = None) -> dict[str, Tensor]:
        """Returns the weighted terms of the loss, to be added up; ``ranking`` is the first.

        Args:
            embeddings: Of the graph of the step.
            step: The positives, and what they are compared with.
            users: ``[batch, dim]`` the user of each positive as of the moment before it, where order counts.
        """
        batch = Batch(
            step.user_index,
            step.item_index,
            step.negative_index,
            self.config.view_dropout,
            users,
            self._candidates_of(step),
        )
        terms = {"ranking": self.ranking_loss(embeddings, batch)}
        for name, weight in self.config.auxiliary.items():
            if weight:
                terms[name] = weight * AUXILIARY_LOSSES[name](embeddings, batch)
        return terms

    def draw_candidates(self, generator: torch.Generator) -> Tensor:
        """Draws the items of a sampled softmax, half by popularity and half uniformly; returns them once, ascending."""
        pairs = torch.randint(len(self.chosen_items), (self.draws,), generator=generator)
        uniform = torch.randint(len(self.warm_index), (self.draws,), generator=generator)
        device = self.warm_index.device
        drawn = torch.cat([self.chosen_items[pairs.to(device)], self.warm_index[uniform.to(device)]])
        distinct: Tensor = torch.unique(drawn)
        return distinct

    def drawn(self, step: Step, generator: torch.Generator) -> Step:
        """Draws what the pairs of a step on the whole graph are compared with."""
        if self.negatives is not None:
            negative_index = self.negatives.sample(step.user_index, self.config.negatives, generator)
            return replace(step, negative_index=negative_index)
        if self.loss == "sampled-softmax":
            candidates = self.draw_candidates(generator)
            return replace(step, candidate_index=candidates, candidate_id=candidates)
        return step

    def _candidates_of(self, step: Step) -> Candidates | None:
        """Returns the candidates that a step brings along, as nodes of its graph."""
        if step.candidate_index is None or step.candidate_id is None:
            return None
        return Candidates(step.candidate_index, self.log_inclusion[step.candidate_id].to(step.candidate_index.device))

    def _softmax(self, embeddings: Embeddings, batch: Batch) -> Tensor:
        candidates = embeddings.item
        if len(self.warm_index) < len(candidates):
            candidates = candidates.index_select(0, self.warm_index)
        of_users, row = _users(embeddings, batch)
        return losses.full_softmax(of_users, candidates, row, self.position[batch.item_index], self.temperature)

    def _sampled_softmax(self, embeddings: Embeddings, batch: Batch) -> Tensor:
        """Compares with candidates that the whole batch shares."""
        candidates = batch.candidates
        assert candidates is not None
        own = torch.searchsorted(candidates.index, batch.item_index).clamp(max=len(candidates.index) - 1)
        of_users, row = _users(embeddings, batch)
        return losses.sampled_softmax(
            of_users,
            embeddings.item[batch.item_index],
            embeddings.item[candidates.index],
            candidates.log_inclusion,
            row=row,
            own=torch.where(candidates.index[own] == batch.item_index, own, -1),
            temperature=self.temperature,
        )

    def _bpr(self, embeddings: Embeddings, batch: Batch) -> Tensor:
        return losses.bpr(*self._scores(embeddings, batch))

    def _bce(self, embeddings: Embeddings, batch: Batch) -> Tensor:
        return losses.binary_cross_entropy(*self._scores(embeddings, batch))

    def _bootstrap(self, embeddings: Embeddings, batch: Batch) -> Tensor:
        """Predicts the item from the user and the user from the item (Zhou et al. 2023, BM3, section 3.3)."""
        if "item" not in embeddings.views:
            raise ConfigError("the loss 'bootstrap' compares views that only the architecture 'bm3' has; set it too")
        user = F.dropout(embeddings.user_mixed[batch.user_index], batch.view_dropout)
        item = F.dropout(embeddings.views["item"][batch.item_index], batch.view_dropout)
        online_user, online_item = embeddings.of_users(batch.user_index), embeddings.item[batch.item_index]
        return one_minus_cosine(online_user, item) + one_minus_cosine(online_item, user)

    def _scores(self, embeddings: Embeddings, batch: Batch) -> tuple[Tensor, Tensor]:
        of_users, row = _users(embeddings, batch)
        users = of_users[row] / self.temperature
        positive_score = (users * embeddings.item[batch.item_index]).sum(-1)
        negative_score = torch.einsum("bd,bnd->bn", users, embeddings.item[batch.negative_index])
        return positive_score, negative_score


def _users(embeddings: Embeddings, batch: Batch) -> tuple[Tensor, Tensor]:
    """Returns the different users of the batch ``[num_users, dim]``, and which of them each pair's is ``[batch]``."""
    if batch.user is not None:  # the same user is another one at another time
        return batch.user, torch.arange(len(batch.user), device=batch.user.device)
    users, row = torch.unique(batch.user_index, return_inverse=True)
    return embeddings.of_users(users), row
