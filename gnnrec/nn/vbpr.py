"""VBPR: matrix factorisation with visual factors beside the latent ones (He & McAuley 2016)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gnnrec.nn.factorisation import FactorisationModel
from gnnrec.nn.identity import Identities
from gnnrec.nn.item_content import ItemContent
from gnnrec.nn.message_graph import GraphShape, MessageGraph
from gnnrec.nn.model import Embeddings
from gnnrec.nn.model_config import ModelConfig

__all__ = ["VBPR"]


class VBPR(FactorisationModel):
    """He & McAuley 2016, "VBPR: Visual Bayesian Personalized Ranking from Implicit Feedback".

    Eq. 4, with all modalities side by side as the visual features ``f``:

        ``x_ui = α + β_u + β_i + γ_u · γ_i + θ_u · (E f_i) + β' · f_i``

    ``α`` and ``β_u`` are the same for all items of a user and so cancel in every ranking and in BPR; the rest is the
    inner product of ``[γ_u, θ_u, 1]`` and ``[γ_i, E f_i, β_i + β' · f_i]``.

    A new item is ``[0, E f_i, β' · f_i]``; a new user is fitted by least squares to the item vectors.

    Args:
        shape: Sizes and modalities of the training graph.
        config: ``embedding_dim`` (of the latent and of the visual factors), ``decoder``, ``projections`` and
            ``fine_tune_features`` count.
    """

    reads = frozenset({"projections", "fine_tune_features"})

    def __init__(self, shape: GraphShape, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.embedding_dim
        self.latent = Identities(shape, dim)
        self.taste = nn.Embedding(shape.num_users, dim)
        self.bias = nn.Embedding(shape.num_items, 1)
        self.content = ItemContent(shape, config, dim + 1)  # E and β' are one projection
        nn.init.xavier_uniform_(self.taste.weight)
        nn.init.zeros_(self.bias.weight)

    def forward(self, graph: MessageGraph, *, hidden_items: Tensor | None = None) -> Embeddings:
        """Embeds every node. Cost: ``O(num_rows × width × dim)``."""
        taste = torch.where(graph.user_degree[:, None] > 0, self.taste.weight, 0.0)
        active = (graph.user_degree[:, None] > 0).to(taste.dtype)
        user = torch.cat([self.latent.users(graph), taste, active], dim=1)
        bias = torch.where(graph.item_degree[:, None] > 0, self.bias.weight, 0.0)
        item = _item_vectors(self.latent.items(graph), bias, self.content(graph))
        layer_zero = torch.cat([user, item])
        return self._embeddings(user, item, layer_zero)

    def decode(self, mixed: Tensor) -> Tensor:
        """Decodes all but the last entry, which meets the bias."""
        return torch.cat([super().decode(mixed[:, :-1]), mixed[:, -1:]], dim=1)

    @property
    def has_item_bias(self) -> bool:
        """That of the item and that of its content, in one."""
        return True

    def sent_by_new_items(
        self, x_dict: Mapping[str, Tensor], owner_dict: Mapping[str, Tensor], num_items: int
    ) -> Tensor:
        """Returns the vectors of items whose latent factors and bias are 0."""
        nothing = self.bias.weight.new_zeros(num_items, self.config.embedding_dim)
        return _item_vectors(nothing, nothing[:, :1], self.content.of_items(x_dict, owner_dict, num_items))


def _item_vectors(latent: Tensor, bias: Tensor, content: Mapping[str, Tensor]) -> Tensor:
    """Returns ``[γ_i, E f_i, β_i + β' · f_i]``."""
    visual = torch.stack(list(content.values())).sum(dim=0)
    return torch.cat([latent, visual[:, :-1], bias + visual[:, -1:]], dim=1)
