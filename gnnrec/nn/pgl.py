"""PGL: learns on a small sample of the interactions, with content as the item's identity (Yu et al. 2025)."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnnrec.nn.fusion.weighted import modality_shares
from gnnrec.nn.item_content import ItemContent, described_modalities, fused_neighbours
from gnnrec.nn.message_graph import GraphShape, MessageGraph
from gnnrec.nn.model import Embeddings, GraphModel, NewItems
from gnnrec.nn.model_config import ModelConfig
from gnnrec.nn.propagate import propagate

__all__ = ["PGL"]


class PGL(GraphModel):
    """Yu et al. 2025, "Mind Individual Information! Principal Graph Learning for Multimedia Recommendation".

    1. *Principal subgraph*: training propagates over a sample of the interactions that keeps 30 %, popular nodes least
       (``edge_dropout=0.7``), scoring over all of them. This is the paper's local-aware extraction; the global-aware
       one, from singular vectors, is left out.
    2. *Content is the identity*: an item is its projected modalities, each of length 1, side by side; a user has as
       many learned vectors side by side.
    3. *Two graphs*: as in FREEDOM, LightGCN over the interactions, plus ``item_hops`` over the frozen item graph for
       items.
    4. *Loss*: BPR, and ``dropout-contrast``: InfoNCE between two dropouts (``view_dropout``) of a node's embedding.

    A user is LightGCN's, so new events and new users are one row of the adjacency, exactly. A new item is its content,
    without edges, plus what its neighbours by content send.

    Args:
        shape: Sizes, modalities and relations of the training graph.
        config: ``embedding_dim`` (per modality), ``hops``, ``item_hops``, ``modality_shares``, ``decoder``,
            ``projections`` and ``fine_tune_features`` count.
    """

    reads = frozenset({"hops", "item_hops", "modality_shares", "projections", "fine_tune_features"})

    def __init__(self, shape: GraphShape, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.content = ItemContent(shape, config, config.embedding_dim)
        self.user = nn.Embedding(shape.num_users, len(self.content.names) * config.embedding_dim)
        self.shares = modality_shares(described_modalities(shape, config.architecture), config.modality_shares)
        nn.init.xavier_uniform_(self.user.weight)

    def forward(self, graph: MessageGraph, *, hidden_items: Tensor | None = None) -> Embeddings:
        """Embeds every node at the cost of FREEDOM with ``modalities × dim`` for the width."""
        identity = _side_by_side(self.content(graph))
        heard, sent = fused_neighbours(graph, self.shares, identity, self.config.item_hops)
        known = torch.where(graph.user_degree[:, None] > 0, self.user.weight, 0.0)
        layer_zero = torch.cat([known, identity])
        propagated, messages = propagate(graph.interactions, layer_zero, self.config.hops)
        user, item = propagated.tensor_split([graph.num_users])
        return Embeddings(
            user_mixed=user,
            decode=self.decode,
            item=self.decode(item + heard),
            layer_zero=layer_zero,
            messages=messages,
            propagated=propagated,
            item_sent=sent,
        )

    @property
    def takes_new_items(self) -> bool:
        """Content is all there is to an item."""
        return True

    def sent_by_new_items(
        self, x_dict: Mapping[str, Tensor], owner_dict: Mapping[str, Tensor], num_items: int
    ) -> Tensor:
        """Returns the content of the items."""
        return _side_by_side(self.content.of_items(x_dict, owner_dict, num_items))

    def new_items(self, sent: Tensor, heard: Mapping[str, Tensor]) -> NewItems:
        """Adds what the neighbours send to what propagation makes of a node without edges."""
        own = sent / (self.config.hops + 1)
        if not self.config.item_hops:
            return NewItems(item=self.decode(own + sent), messages=own * (self.config.hops > 0))
        item = own
        for name, message in heard.items():
            item = item + self.shares[name] * message
        return NewItems(item=self.decode(item), messages=own * (self.config.hops > 0))


def _side_by_side(content: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([F.normalize(value) for value in content.values()], dim=1)
