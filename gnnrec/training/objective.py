"""What a training step minimises: one ranking loss plus weighted auxiliary losses."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from gnnrec.nn import losses
from gnnrec.nn.message_graph import MessageGraph
from gnnrec.nn.model import Embeddings
from gnnrec.training.config import TrainingConfig
from gnnrec.training.negatives import UniformNegatives

__all__ = ["AUXILIARY_LOSSES", "Objective"]

# Catalogues up to this size are normalised over in full: beyond, a sampled softmax is as good and far cheaper.
_FULL_SOFTMAX_ITEMS = 50_000
_SHARED_NEGATIVES = 4_096


class Objective:
    """Computes the loss of a batch of positive pairs.

    Items without interactions take no part as negatives: nothing is known against them, and pushing them down would
    teach the model that whatever is new is bad.

    Args:
        graph: The training graph.
        config: Which losses, and their weights.

    Attributes:
        loss: The ranking loss that ``auto`` came to.
    """

    def __init__(self, graph: MessageGraph, config: TrainingConfig) -> None:
        self.config = config
        warm = graph.item_degree > 0
        self.warm_index = torch.nonzero(warm).flatten()
        self.position = torch.cumsum(warm.long(), 0) - 1
        self.negatives = UniformNegatives(graph.edge_index, self.warm_index, graph.num_items)
        self.loss: str = config.loss
        if self.loss == "auto":
            self.loss = "softmax" if len(self.warm_index) <= _FULL_SOFTMAX_ITEMS else "sampled-softmax"
        self.ranking_loss = getattr(self, "_" + self.loss.replace("-", "_"))
        self.item_share = graph.item_degree / graph.item_degree.sum()

    def __call__(
        self, embeddings: Embeddings, user_index: Tensor, item_index: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Returns the weighted terms of the loss, to be added up; ``ranking`` is the first.

        Args:
            embeddings: Of the whole graph.
            user_index: ``[batch]`` users of the positives.
            item_index: ``[batch]`` items of the positives.
            generator: Source of negatives, on CPU.
        """
        terms = {"ranking": self.ranking_loss(embeddings, user_index, item_index, generator)}
        for name, weight in self.config.auxiliary.items():
            if weight:
                terms[name] = weight * AUXILIARY_LOSSES[name](embeddings, user_index, item_index)
        return terms

    def _softmax(self, embeddings: Embeddings, user: Tensor, item: Tensor, generator: torch.Generator) -> Tensor:
        candidates = embeddings.item[self.warm_index]
        users, row = torch.unique(user, return_inverse=True)
        return losses.full_softmax(
            embeddings.user[users], candidates, row, self.position[item], self.config.temperature
        )

    def _sampled_softmax(
        self, embeddings: Embeddings, user: Tensor, item: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Shares two kinds of negatives: the positives of the batch (by popularity) and uniform draws."""
        draws = torch.randint(len(self.warm_index), (_SHARED_NEGATIVES,), generator=generator)
        uniform = self.warm_index[draws.to(self.warm_index.device)]
        candidate = torch.cat([item, uniform])
        expected = len(item) * self.item_share[candidate] + _SHARED_NEGATIVES / len(self.warm_index)
        log_expected = expected.log().repeat(len(user), 1)
        log_expected[candidate[None, :] == item[:, None]] = torch.inf
        return losses.sampled_softmax(
            embeddings.user[user],
            embeddings.item[item],
            embeddings.item[candidate],
            log_expected,
            self.config.temperature,
        )

    def _bpr(self, embeddings: Embeddings, user: Tensor, item: Tensor, generator: torch.Generator) -> Tensor:
        return losses.bpr(*self._scores(embeddings, user, item, generator))

    def _bce(self, embeddings: Embeddings, user: Tensor, item: Tensor, generator: torch.Generator) -> Tensor:
        return losses.binary_cross_entropy(*self._scores(embeddings, user, item, generator))

    def _scores(
        self, embeddings: Embeddings, user: Tensor, item: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        negative = self.negatives.sample(user, self.config.negatives, generator)
        users = embeddings.user[user] / self.config.temperature
        positive_score = (users * embeddings.item[item]).sum(-1)
        negative_score = torch.einsum("bd,bnd->bn", users, embeddings.item[negative])
        return positive_score, negative_score


def _regularisation(embeddings: Embeddings, user: Tensor, item: Tensor) -> Tensor:
    """Half the squared length of the layer-0 embeddings of a batch (He et al. 2020, LightGCN, eq. 15)."""
    num_users = len(embeddings.user)
    of_batch = embeddings.layer_zero[torch.cat([user, item + num_users])]
    return of_batch.square().sum() / (2 * len(user))


def _alignment(embeddings: Embeddings, user: Tensor, item: Tensor) -> Tensor:
    """InfoNCE between an item's fused content and what its interactions say of it (Wei et al. 2021, CLCRec, eq. 6)."""
    items = torch.unique(item)
    if embeddings.item_content is not None:
        items = items[embeddings.item_content.present[items]]
    if embeddings.item_content is None or not len(items):
        return torch.zeros((), device=user.device)
    content = embeddings.item_content.x[items]
    behaviour = embeddings.propagated[len(embeddings.user) + items][:, : content.shape[1]]
    return losses.info_nce(F.normalize(content), F.normalize(behaviour), temperature=0.2)


AUXILIARY_LOSSES: Mapping[str, Callable[[Embeddings, Tensor, Tensor], Tensor]] = {
    "alignment": _alignment,
    "regularisation": _regularisation,
}
