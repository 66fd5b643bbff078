"""DropoutNet: one network for known and new items, which learns to do without an identity (Volkovs et al. 2017)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gnnrec.nn.factorisation import FactorisationModel
from gnnrec.nn.identity import Identities
from gnnrec.nn.identity_or_content import HIDDEN_WIDTHS
from gnnrec.nn.item_content import ItemContent
from gnnrec.nn.message_graph import GraphShape, MessageGraph
from gnnrec.nn.model import Embeddings
from gnnrec.nn.model_config import ModelConfig

__all__ = ["DropoutNet"]


class DropoutNet(FactorisationModel):
    """Volkovs, Yu & Poutanen 2017, "DropoutNet: Addressing Cold Start in Recommender Systems".

    A user is ``f_U(U_u)``, an item ``f_V([V_v, content_v])``: perceptrons over latent factors and content side by side;
    the score is the inner product. In training the latent factors of an item are, at random, set to zero, with
    probability ``identity_dropout``, so that ``f_V`` learns to make up for them. A new item is ``f_V([0, content])``.

    Ours: the latent factors are trained along, by the ranking loss, where the paper takes those of a finished matrix
    factorisation and fits its scores; one hidden layer each; latent factors of users are not dropped, and new users
    are fitted by least squares to the item vectors, where the paper averages the latent factors of their items.

    Args:
        shape: Sizes and modalities of the training graph.
        config: ``embedding_dim``, ``decoder``, ``identity_dropout``, ``projections`` and ``fine_tune_features`` count.
    """

    reads = frozenset({"identity_dropout", "projections", "fine_tune_features"})

    def __init__(self, shape: GraphShape, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        dim, hidden = config.embedding_dim, HIDDEN_WIDTHS * config.embedding_dim
        self.latent = Identities(shape, dim)
        self.user_network = nn.Sequential(nn.Linear(dim, hidden), nn.Tanh(), nn.Linear(hidden, dim))
        # The first layer over [V_v, content_v], in parts: a sum of one product for each.
        self.from_latent = nn.Linear(dim, hidden, bias=False)
        self.from_content = ItemContent(shape, config, hidden)
        self.item_network = nn.Sequential(nn.Tanh(), nn.Linear(hidden, dim))

    def forward(self, graph: MessageGraph, *, hidden_items: Tensor | None = None) -> Embeddings:
        """Embeds every node. Cost: ``O((num_users + num_items) × dim² + num_rows × width × dim)``."""
        user_latent, item_latent = self.latent.users(graph), self.latent.items(graph)
        if hidden_items is not None:
            item_latent = torch.where(hidden_items[:, None], 0.0, item_latent)
        user = torch.where(graph.user_degree[:, None] > 0, self.user_network(user_latent), 0.0)
        item = self._items(item_latent, self.from_content(graph))
        layer_zero = torch.cat([user_latent, item_latent])
        return self._embeddings(user, item, layer_zero)

    @property
    def hides_items(self) -> bool:
        """A hidden item has no latent factors."""
        return True

    def sent_by_new_items(
        self, x_dict: Mapping[str, Tensor], owner_dict: Mapping[str, Tensor], num_items: int
    ) -> Tensor:
        """Returns ``f_V([0, content])``."""
        nothing = self.latent.item.weight.new_zeros(num_items, self.config.embedding_dim)
        return self._items(nothing, self.from_content.of_items(x_dict, owner_dict, num_items))

    def _items(self, latent: Tensor, content: Mapping[str, Tensor]) -> Tensor:
        item: Tensor = self.item_network(torch.stack([self.from_latent(latent), *content.values()]).sum(dim=0))
        return item
