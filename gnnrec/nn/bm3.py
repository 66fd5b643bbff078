"""BM3: learns from positives alone, by predicting one view of a node from another (Zhou et al. 2023)."""

import torch
from torch import Tensor, nn

from gnnrec.nn.identity import Identities
from gnnrec.nn.item_content import ItemContent
from gnnrec.nn.message_graph import GraphShape, MessageGraph
from gnnrec.nn.model import Embeddings, GraphModel
from gnnrec.nn.model_config import ModelConfig
from gnnrec.nn.propagate import propagate

__all__ = ["BM3"]


class BM3(GraphModel):
    """Zhou et al. 2023, "Bootstrap Latent Representations for Multi-modal Recommendation".

    1. *Backbone* (section 3.1): LightGCN, with the identity of an item added once more, ``h_i = lightgcn_i + e_i``;
       each modality is projected linearly.
    2. *Predictor* (section 3.2): one linear layer ``f`` shared by users, items and modalities gives the online views.
       Their targets are the vectors before ``f`` under dropout (``view_dropout`` in training), without gradient.
    3. *Loss* (section 3.3): ``loss="bootstrap"`` predicts the item from the user and the user from the item by cosine;
       ``content-bootstrap`` predicts the item, and the modality itself, from each modality; ``norm-regularisation``.
    4. *Score* (section 3.4): the inner product of ``f(h_u)`` and ``f(h_i)``.

    ``f`` is linear and a user is LightGCN's, so new events and new users are one row of the adjacency and then ``f``,
    exactly; with ``hops=0`` they are fitted by least squares to the item vectors. Media shape the identities in
    training only: new items need a refit.

    Args:
        shape: Sizes and modalities of the training graph.
        config: ``embedding_dim``, ``hops``, ``decoder``, ``projections`` and ``fine_tune_features`` count.
    """

    reads = frozenset({"hops", "projections", "fine_tune_features"})

    def __init__(self, shape: GraphShape, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.identities = Identities(shape, config.embedding_dim)
        self.content = ItemContent(shape, config, config.embedding_dim)
        self.predictor = nn.Linear(config.embedding_dim, config.embedding_dim)
        for layer in (self.predictor, *self.content.modules()):
            if isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight)

    def forward(self, graph: MessageGraph, *, hidden_items: Tensor | None = None) -> Embeddings:
        """Embeds every node. Cost: ``O(hops × num_edges × dim + num_rows × width × dim)``."""
        identity = self.identities.items(graph)
        layer_zero = torch.cat([self.identities.users(graph), identity])
        propagated, messages = propagate(graph.interactions, layer_zero, self.config.hops)
        user, heard = propagated.tensor_split([graph.num_users])
        item = heard + identity
        content = self.content(graph) if self.training else {}
        return Embeddings(
            user_mixed=user,
            decode=self.decode,
            item=self.decode(item),
            layer_zero=layer_zero,
            messages=messages,
            propagated=propagated,
            item_sent=item,
            views={"item": item}
            | {f"content.{name}": value for name, value in content.items()}
            | {f"predicted.{name}": self.predictor(value) for name, value in content.items()},
        )

    def decode(self, mixed: Tensor) -> Tensor:
        """Returns the online view."""
        return super().decode(self.predictor(mixed))
