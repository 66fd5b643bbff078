"""MGCN: purifies each modality by behaviour, and fuses a view of behaviour with views of content (Yu et al. 2023)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from gnnrec.nn.identity import Identities
from gnnrec.nn.item_content import ItemContent, described_modalities, fused_neighbours
from gnnrec.nn.message_graph import GraphShape, MessageGraph
from gnnrec.nn.model import Embeddings, GraphModel, NewItems
from gnnrec.nn.model_config import ModelConfig
from gnnrec.nn.propagate import propagate

__all__ = ["MGCN"]


class MGCN(GraphModel):
    """Yu et al. 2023, "Multi-View Graph Convolutional Network for Multimedia Recommendation".

    1. *Behaviour-guided purifier* (eq. 1 and 2): ``p_i^m = e_i ⊙ σ(W c_i^m + b)`` of identity and projected content.
    2. *User–item view* (eq. 3 to 5): LightGCN on the identities.
    3. *Item–item view* (eq. 6 to 9): ``p^m`` goes ``item_hops`` times over the cosine k-NN graph of its modality, which
       the graph builder makes with ``item_graph="lattice"``; a user's view is one hop from the items (eq. 10).
    4. *Behaviour-aware fuser* (eq. 11 to 15): attention over modalities gives what they have in common; what is left of
       each passes a gate that behaviour opens, ``σ(W behaviour + b)``; the side view is the mean of all of these.
    5. *Score* (eq. 17 and 18): the inner product of ``behaviour + side`` of user and item.
    6. *Loss* (eq. 16 and 19): BPR, ``view-contrast`` between both views (τ = .2), ``output-regularisation``.

    A user before the fuser is a sum over the history in every view, and serving keeps that sum, so new events and new
    users are exact. A new item has no behaviour: it is fused from what its neighbours in each modality send.

    Args:
        shape: Sizes, modalities and relations of the training graph.
        config: ``embedding_dim``, ``hops``, ``item_hops``, ``decoder``, ``projections`` and ``fine_tune_features``
            count.
    """

    reads = frozenset({"hops", "item_hops", "projections", "fine_tune_features"})
    hears_without_hops = True  # a view of content is a sum over the history

    def __init__(self, shape: GraphShape, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.embedding_dim
        self.identities = Identities(shape, dim)
        self.content = ItemContent(shape, config, dim)
        self.names = described_modalities(shape, config.architecture)
        self.purifiers = nn.ModuleList(_gate(dim) for _ in self.names)
        self.query = nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, 1, bias=False))
        self.preferences = nn.ModuleList(_gate(dim) for _ in self.names)

    def forward(self, graph: MessageGraph, *, hidden_items: Tensor | None = None) -> Embeddings:
        """Embeds every node. Cost: ``O((hops + modalities) × num_edges × dim + num_rows × width × dim)``."""
        num_users, identity = graph.num_users, self.identities.item.weight
        layer_zero = torch.cat([self.identities.users(graph), identity])
        behaviour, messages = propagate(graph.interactions, layer_zero, self.config.hops)

        content, of_items, sent = self.content(graph), [], []
        for name, gate in zip(self.names, self.purifiers, strict=True):
            heard, last = fused_neighbours(graph, {name: 1.0}, identity * gate(content[name]), self.config.item_hops)
            of_items.append(heard)
            sent.append(last)
        item_views = torch.cat(of_items, dim=1)
        from_items = torch.cat([item_views.new_zeros(num_users, item_views.shape[1]), item_views])
        user_views = (graph.interactions @ from_items)[:num_users]

        mixed = torch.cat([behaviour, torch.cat([user_views, item_views])], dim=1)
        side = self._side(mixed)
        return Embeddings(
            user_mixed=mixed[:num_users],
            decode=self.decode,
            item=super().decode((behaviour + side)[num_users:]),
            layer_zero=layer_zero,
            messages=torch.cat([messages, mixed[:, behaviour.shape[1] :]], dim=1),
            propagated=behaviour,
            item_sent=torch.cat(sent, dim=1),
            views={"behaviour": behaviour, "side": side},
        )

    @property
    def can_be_sampled(self) -> bool:
        """Never: a user hears of the relations of its items."""
        return False

    @property
    def takes_new_items(self) -> bool:
        """If items hear of their neighbours."""
        return self.config.item_hops > 0

    def decode(self, mixed: Tensor) -> Tensor:
        """Fuses ``[num_nodes, (1 + num_modalities) × dim]`` views, behaviour first."""
        return super().decode(mixed[:, : self.config.embedding_dim] + self._side(mixed))

    def sent_by_new_items(
        self, x_dict: Mapping[str, Tensor], owner_dict: Mapping[str, Tensor], num_items: int
    ) -> Tensor:
        """Returns zeros: the purifier lets nothing pass without an identity."""
        return self.identities.item.weight.new_zeros(num_items, len(self.names) * self.config.embedding_dim)

    def new_items(self, sent: Tensor, heard: Mapping[str, Tensor]) -> NewItems:
        """Fuses what the neighbours in each modality send of it."""
        heard_of = [heard.get(name, sent) for name in self.names]
        blocks = [x.tensor_split(len(self.names), dim=1)[index] for index, x in enumerate(heard_of)]
        mixed = torch.cat([torch.zeros_like(blocks[0]), *blocks], dim=1)
        return NewItems(item=self.decode(mixed), messages=mixed)

    def _side(self, mixed: Tensor) -> Tensor:
        """Returns the side view ``[num_nodes, dim]`` of views ``[num_nodes, (1 + num_modalities) × dim]``."""
        behaviour, *views = mixed.tensor_split(len(self.names) + 1, dim=1)
        common = self._common(views)
        own = [gate(behaviour) * (view - common) for gate, view in zip(self.preferences, views, strict=True)]
        return torch.stack([common, *own]).sum(dim=0) / (len(views) + 1)

    def _common(self, views: Sequence[Tensor]) -> Tensor:
        """Returns the attention-weighted mean of the modalities."""
        stacked = torch.stack(list(views), dim=1)
        attention: Tensor = self.query(stacked).softmax(dim=1)
        return (attention * stacked).sum(dim=1)


def _gate(dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, dim), nn.Sigmoid())
