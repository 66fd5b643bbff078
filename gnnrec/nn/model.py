"""The multimodal graph model: align, fuse, propagate, decode."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnnrec.config import Choices, Range, searched, suggest
from gnnrec.errors import ConfigError, UnsupportedError
from gnnrec.nn.align import PROJECTIONS
from gnnrec.nn.decode import DECODERS
from gnnrec.nn.fuse import FUSIONS, Fused, ModalityRows
from gnnrec.nn.message_graph import GraphShape, MessageGraph
from gnnrec.nn.node_encoder import NodeEncoder
from gnnrec.nn.operator import SparseOperator
from gnnrec.nn.propagate import RelationMixing, propagate

__all__ = ["Embeddings", "GraphModel", "ModelConfig", "MultimodalGraphModel", "NewItems"]

# Adam moves every parameter by about the learning rate. A bias answers for all events of an item, and at the pace of
# the other parameters it would follow the last batch; so it is learned in a smaller unit.
_UNIT_OF_BIAS = 0.2


@dataclass(frozen=True)
class ModelConfig:
    """The shape of the model.

    Attributes:
        architecture: A name in ``gnnrec.nn.architectures.ARCHITECTURES``: ``multimodal``, or that of a published model.
            Published models use ``embedding_dim``, ``hops``, ``decoder``, ``projections`` and the options after them.
        embedding_dim: Width of the vectors of users and items.
        hops: Layers of propagation over user–item edges; 0 is matrix factorisation.
        fusion: How a node's modality rows become one content vector: a name in ``gnnrec.nn.fuse.FUSIONS``.
        content: ``add`` content to the identity, or ``none``: ignore the media.
        content_scale: Length of a content vector before training; identities start shorter, at .1.
        relation_weight: Weight of each item–item and user–user relation before training.
        identity_dropout: Share of the items that a training step treats as new: no identity, no interactions, only
            what their media say; in ``dropoutnet`` and ``clcrec`` likewise.
        feature_dropout: Share of the entries of modality vectors set to zero in training.
        decoder: ``cosine`` or ``dot`` product.
        item_bias: Add a learned bias to the scores of each item; it is the last of the ``embedding_dim`` entries.
        popularity_weight: How many times the biases count after training, beside the directions; ``None``: what ranks
            the validation pairs best.
        new_item_offset: Added to the scores of items without interactions; ``None``: as much as known items can afford,
            measured on validation pairs with a fifth of the known items in the part of new ones.
        new_item_price: Share of the recall of known items that places for new ones may cost.
        new_user_prior: As how many events the average person counts in the vector of a new one; ``None``: what ranks
            best for known people on validation when only 1, 3 or 10 of their events are told.
        projections: Modality → how its vectors enter the common space, a name in ``gnnrec.nn.align.PROJECTIONS``:
            ``linear`` unless named here; ``log-mel-cnn`` and ``log-mel-lstm`` train a sound network on the vectors of
            the encoder ``log-mel``.
        item_hops: Layers of propagation over the item–item graph (FREEDOM, MGCN, PGL).
        modality_shares: Modality → its share in the item–item graph of all modalities; what is left goes to the
            modalities that are not named, in equal parts (FREEDOM, PGL).
        fine_tune_features: Train an offset to the vectors of each known item and modality (published models).
    """

    architecture: str = "multimodal"
    embedding_dim: int = 64
    hops: int = searched(2, Range(1, 4))
    fusion: str = "attention"
    content: Literal["add", "none"] = "add"
    content_scale: float = searched(1.0, Range(0.1, 10, log=True))
    relation_weight: float = searched(0.1, Range(0.01, 1, log=True))
    identity_dropout: float = 0.1
    feature_dropout: float = searched(0.0, Range(0, 0.5))
    decoder: Literal["cosine", "dot"] = "cosine"
    item_bias: bool = searched(True, Choices((True, False)))
    popularity_weight: float | None = None
    new_item_offset: float | None = None
    new_item_price: float = 0.02
    new_user_prior: float | None = None
    projections: Mapping[str, str] = field(default_factory=dict)
    item_hops: int = 1
    modality_shares: Mapping[str, float] = field(default_factory=dict)
    fine_tune_features: bool = False

    def __post_init__(self) -> None:
        if self.embedding_dim < 2:
            raise ConfigError(f"option 'embedding_dim' must be at least 2, got {self.embedding_dim}")
        for name in ("hops", "item_hops"):
            if getattr(self, name) < 0:
                raise ConfigError(f"option {name!r} must not be negative, got {getattr(self, name)}")
        for modality, share in self.modality_shares.items():
            if not 0 <= share <= 1:
                raise ConfigError(f"the share of {modality!r} in 'modality_shares' must lie in [0, 1], got {share}")
        if self.fusion not in FUSIONS:
            raise ConfigError(f"option 'fusion' cannot be {self.fusion!r}; choose from {', '.join(sorted(FUSIONS))}")
        for modality, name in self.projections.items():
            if name not in PROJECTIONS:
                raise ConfigError(f"the projection of {modality!r} cannot be {name!r}{suggest(name, PROJECTIONS)}")
        for name in ("identity_dropout", "feature_dropout", "new_item_price"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"option {name!r} must lie in [0, 1), got {getattr(self, name)}")
        if self.popularity_weight is not None and self.popularity_weight < 0:
            raise ConfigError(f"option 'popularity_weight' must not be negative, got {self.popularity_weight}")
        if self.new_item_offset and not self.item_bias:
            raise ConfigError("option 'new_item_offset' moves the bias of new items; it needs item_bias=True")
        if self.new_user_prior is not None and self.new_user_prior < 0:
            raise ConfigError(f"option 'new_user_prior' must not be negative, got {self.new_user_prior}")
        if self.relation_weight <= 0:
            raise ConfigError(f"option 'relation_weight' must be positive, got {self.relation_weight}")


@dataclass(frozen=True, eq=False)
class Embeddings:
    """What one forward pass gives. Users come first wherever both are stacked.

    Attributes:
        user: ``[num_users, dim]``, ready for the inner product.
        item: ``[num_items, dim]``, ready for the inner product.
        user_mixed: ``[num_users, width]`` before decoding, linear in what the items of a user send.
        layer_zero: ``[num_users + num_items, dim]`` identity and content.
        messages: ``[num_users + num_items, width]`` what each node sends to its neighbours over all layers.
        propagated: ``[num_users + num_items, dim]`` before the item–item and user–user relations.
        item_sent: ``[num_items, any]`` what each item sends to its neighbours by content.
        item_content: Fused media of the items; ``None`` without media.
        views: Further tensors by name, which the losses of published models compare.
    """

    user: Tensor
    item: Tensor
    user_mixed: Tensor
    layer_zero: Tensor
    messages: Tensor
    propagated: Tensor
    item_sent: Tensor
    item_content: Fused | None = None
    views: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class NewItems:
    """What a model makes of items that were not there in training.

    Attributes:
        item: ``[num_items, dim]``, ready for the inner product.
        messages: ``[num_items, width]`` what they add to the users who choose them, as in :class:`Embeddings`.
    """

    item: Tensor
    messages: Tensor


class GraphModel(nn.Module, ABC):
    """What training and answering ask of every architecture. A subclass is built as ``Model(shape, config)``."""

    config: ModelConfig

    @abstractmethod
    def forward(
        self,
        graph: MessageGraph,
        *,
        interactions: SparseOperator | None = None,
        hidden_items: Tensor | None = None,
    ) -> Embeddings:
        """Embeds every node.

        Args:
            graph: The graph the model was built for.
            interactions: Another adjacency than the graph's own, e.g. of a sample of the edges.
            hidden_items: ``[num_items]`` bool: items to embed as if they were new, where ``hides_items``.
        """

    def weigh_popularity(self, weight: float) -> None:
        """Makes the biases of items count so many times as much, where popularity may be weighed."""

    @property
    def weighs_popularity(self) -> bool:
        """Whether :meth:`weigh_popularity` has an effect."""
        return False

    @property
    def has_item_bias(self) -> bool:
        """Whether the last entry of an item's vector is its bias, which meets a constant 1 in every user's vector."""
        return False

    @property
    def hides_items(self) -> bool:
        """Whether training may hide items, to teach the model what to do with new ones."""
        return False

    @property
    def takes_new_items(self) -> bool:
        """Whether items that were not there in training can be embedded from their media."""
        return False

    @property
    def regresses_new_items(self) -> bool:
        """Whether new items get what regression on their media predicts, instead of :meth:`new_items`."""
        return False

    @property
    def regresses_new_users(self) -> bool:
        """Whether new people get what regression on their histories predicts, instead of one step of propagation."""
        return False

    @property
    def hears_history(self) -> bool:
        """Whether a user's embedding is a sum over the user's history, so that new events can be added to it."""
        return self.config.hops > 0

    def decode(self, mixed: Tensor) -> Tensor:
        """Turns ``user_mixed`` rows into vectors that are ready for the inner product."""
        return DECODERS[self.config.decoder](mixed)

    def sent_by_new_items(
        self, x_dict: Mapping[str, Tensor], owner_dict: Mapping[str, Tensor], num_items: int
    ) -> Tensor:
        """Returns ``[num_items, any]`` what new items with these media send, as in ``Embeddings.item_sent``.

        Args:
            x_dict: Modality → ``[num_rows, width]``, of known modalities.
            owner_dict: Modality → ``[num_rows]`` new item of each row.
            num_items: How many items are new.
        """
        raise UnsupportedError(f"the architecture {self.config.architecture!r} cannot embed new items; fit again")

    def new_items(self, sent: Tensor, heard: Mapping[str, Tensor]) -> NewItems:
        """Embeds new items.

        Args:
            sent: ``[num_items, any]`` from :meth:`sent_by_new_items`.
            heard: Modality → ``[num_items, any]`` weighted sum of what the neighbours by content send.
        """
        raise UnsupportedError(f"the architecture {self.config.architecture!r} cannot embed new items; fit again")

    @property
    def takes_profiles(self) -> bool:
        """Whether people who were not there in training can be embedded from their media."""
        return False

    def new_users(self, x_dict: Mapping[str, Tensor], owner_dict: Mapping[str, Tensor], degree: Tensor) -> Tensor:
        """Returns ``[num_people, width]``: what media say of new people, beside what their histories add.

        Args:
            x_dict: Modality → ``[num_rows, width]``, of known modalities of users.
            owner_dict: Modality → ``[num_rows]`` person of each row.
            degree: ``[num_people]`` length of each history.
        """
        raise UnsupportedError(f"the architecture {self.config.architecture!r} has no use for profiles of people")


class MultimodalGraphModel(GraphModel):
    """Embeds users and items of a heterogeneous graph in one space.

    1. *Align and fuse* (:class:`~gnnrec.nn.node_encoder.NodeEncoder`): layer 0 is identity plus content.
    2. *Propagate*: mean over the layers of normalised propagation on user–item edges, then one hop of each item–item
       (or user–user) relation, with a learned weight.
    3. *Decode*: cosine or dot product, plus a bias per item (Koren et al. 2009, section 4.2), so that popularity need
       not be told by directions. Hidden items share one learned bias while training.

    A node without interactions goes through the same steps; it only lacks the identity and the edges. That trains the
    content of known items; which vector an item without interactions ends up with is regressed on its media afterwards
    (``gnnrec.rankers.attachment``), for that ranks new items better than the network does.

    Args:
        shape: Sizes, modalities and relations of the training graph.
        config: Options.
    """

    def __init__(self, shape: GraphShape, config: ModelConfig = ModelConfig()) -> None:
        super().__init__()
        self.config = config
        uses_media = config.content != "none"
        dims = (
            {"user": shape.user_modalities, "item": shape.item_modalities} if uses_media else {"user": {}, "item": {}}
        )

        def encoder(kind: str, num_nodes: int) -> NodeEncoder:
            return NodeEncoder(
                num_nodes,
                dims[kind],
                config.embedding_dim - config.item_bias,
                fusion=config.fusion,
                content_scale=config.content_scale,
                projections=config.projections,
            )

        self.users = encoder("user", shape.num_users)
        self.items = encoder("item", shape.num_items)
        self.user_relations = RelationMixing(shape.user_relations, config.relation_weight)
        self.item_relations = RelationMixing(shape.item_relations, config.relation_weight)
        self.item_bias = nn.Parameter(torch.zeros(shape.num_items))
        self.new_item_bias = nn.Parameter(torch.zeros(()))
        self.items_have_media = bool(shape.item_modalities)

    def forward(
        self,
        graph: MessageGraph,
        *,
        interactions: SparseOperator | None = None,
        hidden_items: Tensor | None = None,
    ) -> Embeddings:
        """Embeds every node. Cost: ``O((hops × num_edges + num_rows × width) × dim)``."""
        user_rows, item_rows = self._aligned(self.users, graph, "user"), self._aligned(self.items, graph, "item")
        user_zero, _ = self.users(user_rows, graph.user_degree)
        item_zero, content = self.items(item_rows, graph.item_degree)
        layer_zero = torch.cat([user_zero, item_zero])
        operator = graph.interactions if interactions is None else interactions
        propagated, messages = propagate(operator, layer_zero, self.config.hops)
        user, item = propagated[: graph.num_users], propagated[graph.num_users :]

        item_own, unlinked, new = item, {}, graph.item_degree == 0
        if hidden_items is not None:
            new = new | hidden_items
            hidden = torch.nonzero(hidden_items).flatten()
            rows_of_hidden = None if item_rows is None else item_rows.of(hidden)
            item_own = item.index_copy(0, hidden, self.without_edges(rows_of_hidden, len(hidden)))
            unlinked = {"co_occurs": hidden_items}  # a new item has neighbours by content only
        item_mixed = self.item_relations(item_own, item, graph.relations["item"], unlinked)
        user_mixed = self.user_relations(user, user, graph.relations["user"], {})
        return Embeddings(
            user=self.decode(user_mixed),
            item=self._decode_items(item_mixed, new),
            user_mixed=user_mixed,
            layer_zero=layer_zero,
            messages=messages,
            propagated=propagated,
            item_sent=item,
            item_content=content,
        )

    def decode(self, mixed: Tensor) -> Tensor:
        """Turns ``user_mixed`` rows into vectors whose last entry meets the bias of the items, if there is one."""
        vectors = super().decode(mixed)
        return torch.cat([vectors, torch.ones_like(vectors[:, :1])], dim=1) if self.has_item_bias else vectors

    @torch.no_grad()
    def weigh_popularity(self, weight: float) -> None:
        """Multiplies all biases."""
        self.item_bias.mul_(weight)
        self.new_item_bias.mul_(weight)

    @property
    def weighs_popularity(self) -> bool:
        """With ``item_bias``."""
        return self.config.item_bias

    @property
    def has_item_bias(self) -> bool:
        """With ``item_bias``."""
        return self.config.item_bias

    @property
    def hides_items(self) -> bool:
        """If items have media."""
        return bool(self.items.modalities)

    @property
    def takes_new_items(self) -> bool:
        """If items have media, whether the model itself hears of them or not."""
        return self.regresses_new_items

    @property
    def regresses_new_items(self) -> bool:
        """If items have media."""
        return self.items_have_media

    @property
    def regresses_new_users(self) -> bool:
        """If users hear of their histories."""
        return self.hears_history

    @property
    def takes_profiles(self) -> bool:
        """If users have media, and a history is a sum that those can be added to."""
        return bool(self.users.modalities) and self.hears_history

    def new_users(self, x_dict: Mapping[str, Tensor], owner_dict: Mapping[str, Tensor], degree: Tensor) -> Tensor:
        """Returns what propagation leaves of layer 0: content, which counts less beside a history, and no identity."""
        rows = self.users.align(x_dict, owner_dict, len(degree)) if x_dict else None
        layer_zero, _ = self.users(rows, torch.zeros(len(degree)))
        own: Tensor = layer_zero * self.users.content_share(degree)[:, None] / (self.config.hops + 1)
        return own

    def without_edges(self, rows: ModalityRows | None, num_items: int) -> Tensor:
        """Embeds items that have only media: what propagation makes of a node without edges.

        Args:
            rows: Aligned media of the items, or ``None`` if there are none.
            num_items: How many items.

        Returns:
            ``[num_items, dim]``, before item–item relations.
        """
        layer_zero, _ = self.items(rows, torch.zeros(num_items, device=self.items.identity.weight.device))
        own: Tensor = layer_zero / (self.config.hops + 1)
        return own

    def _decode_items(self, mixed: Tensor, new: Tensor) -> Tensor:
        """Decodes items ``[num_items, dim]``, of which some are ``new`` ``[num_items]``, and appends their bias."""
        vectors = super().decode(mixed)
        if not self.has_item_bias:
            return vectors
        # Where no media speak for new items they rank behind all others.
        of_new = self.new_item_bias if self.hides_items else self.item_bias.min().detach()
        bias = of_new.expand(len(new)) if new.all() else torch.where(new, of_new, self.item_bias)
        return torch.cat([vectors, _UNIT_OF_BIAS * bias[:, None]], dim=1)

    def _aligned(self, encoder: NodeEncoder, graph: MessageGraph, kind: str) -> ModalityRows | None:
        """Projects the media of one node type, with feature dropout while training."""
        x_dict = {name: x for name, x in graph.x_dict.items() if name in encoder.modalities and len(x)}
        if not x_dict:
            return None
        if self.training and self.config.feature_dropout:
            x_dict = {name: F.dropout(x, self.config.feature_dropout) for name, x in x_dict.items()}
        num_nodes = graph.num_users if kind == "user" else graph.num_items
        return encoder.align(x_dict, graph.owner_dict, num_nodes)
