"""Embeds an item either as its learned identity or as the encoding of its content: what known and new items are."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnnrec.nn.factorisation import FactorisationModel
from gnnrec.nn.identity import Identities
from gnnrec.nn.item_content import ItemContent
from gnnrec.nn.message_graph import GraphShape, MessageGraph
from gnnrec.nn.model import Embeddings
from gnnrec.nn.model_config import ModelConfig

__all__ = ["HIDDEN_WIDTHS", "ContentEncoder", "IdentityOrContent"]

HIDDEN_WIDTHS = 4  # width of a hidden layer, in widths of the embeddings


class ContentEncoder(nn.Module):
    """A perceptron with one hidden layer over all modalities of an item side by side.

    Args:
        shape: Which modalities items have.
        config: ``embedding_dim``, ``projections`` and ``fine_tune_features`` count.

    Raises:
        ConfigError: Items have no media.
    """

    def __init__(self, shape: GraphShape, config: ModelConfig) -> None:
        super().__init__()
        hidden = HIDDEN_WIDTHS * config.embedding_dim
        self.first = ItemContent(shape, config, hidden)  # summed, one linear layer over all of them
        self.last = nn.Linear(hidden, config.embedding_dim)

    def forward(self, graph: MessageGraph) -> Tensor:
        """Returns ``[num_items, dim]`` for the items of the training graph."""
        return self._encode(self.first(graph))

    def of_items(self, x_dict: Mapping[str, Tensor], owner_dict: Mapping[str, Tensor], num_items: int) -> Tensor:
        """Returns ``[num_items, dim]`` for any items."""
        return self._encode(self.first.of_items(x_dict, owner_dict, num_items))

    def _encode(self, content: Mapping[str, Tensor]) -> Tensor:
        encoding: Tensor = self.last(F.leaky_relu(torch.stack(list(content.values())).sum(dim=0)))
        return encoding


class IdentityOrContent(FactorisationModel):
    """Matrix factorisation beside a content encoder; what trains the encoder is up to the subclass and its losses.

    An item is its identity, and the encoding of its content where it has no interactions or is hidden. The views
    ``identity`` and ``encoding`` hold both for all items. New users are fitted by least squares to the item vectors.

    Args:
        shape: Sizes and modalities of the training graph.
        config: ``embedding_dim``, ``decoder``, ``projections`` and ``fine_tune_features`` count.
    """

    reads = frozenset({"projections", "fine_tune_features"})

    def __init__(self, shape: GraphShape, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.identities = Identities(shape, config.embedding_dim)
        self.encoder = ContentEncoder(shape, config)

    def forward(self, graph: MessageGraph, *, hidden_items: Tensor | None = None) -> Embeddings:
        """Embeds every node. Cost: ``O(num_rows × width × dim)``."""
        user, identity, encoding = self.identities.users(graph), self.identities.item.weight, self.encoder(graph)
        new = graph.item_degree == 0
        if hidden_items is not None:
            new = new | hidden_items
        item = torch.where(new[:, None], encoding, identity)
        layer_zero = torch.cat([user, item])
        return self._embeddings(user, item, layer_zero, {"identity": identity, "encoding": encoding})

    def sent_by_new_items(
        self, x_dict: Mapping[str, Tensor], owner_dict: Mapping[str, Tensor], num_items: int
    ) -> Tensor:
        """Returns the encodings."""
        return self.encoder.of_items(x_dict, owner_dict, num_items)
