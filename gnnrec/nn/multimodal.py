"""The default model: align, fuse, propagate, decode."""

import logging
from collections.abc import Mapping
from dataclasses import fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnnrec.errors import ConfigError
from gnnrec.nn.alignment import AlignedRows, WeightedObjectives
from gnnrec.nn.fusion import ModalityRows
from gnnrec.nn.fusion.blocks import Blocks
from gnnrec.nn.message_graph import GraphShape, MessageGraph
from gnnrec.nn.model import Embeddings, GraphModel
from gnnrec.nn.model_config import ModelConfig
from gnnrec.nn.node_encoder import IDENTITY_LENGTH, NodeEncoder
from gnnrec.nn.propagate import RelationMixing, propagate
from gnnrec.nn.sequence import SEQUENCE_ENCODERS, LastEvents
from gnnrec.nn.spectral import spectral_embeddings

__all__ = ["MultimodalGraphModel"]

logger = logging.getLogger(__name__)

# Adam moves every parameter by about the learning rate. A bias answers for all events of an item, and at the pace of
# the other parameters it would follow the last batch; so it is learned in a smaller unit.
_UNIT_OF_BIAS = 0.2
_MOST_ALIGNED = 2048
_INITIAL_SEQUENCE_WEIGHT = 0.1


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

    Raises:
        ConfigError: The alignment objective ``multi-task`` without labels.
    """

    reads = frozenset(field.name for field in fields(ModelConfig)) - {"item_hops", "fine_tune_features"}

    def __init__(self, shape: GraphShape, config: ModelConfig) -> None:
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
                modality_shares=config.modality_shares,
            )

        self.users = encoder("user", shape.num_users)
        self.items = encoder("item", shape.num_items)
        self.user_relations = RelationMixing(shape.user_relations, config.relation_weight)
        self.item_relations = RelationMixing(shape.item_relations, config.relation_weight)
        self.item_bias = nn.Parameter(torch.zeros(shape.num_items))
        self.new_item_bias = nn.Parameter(torch.zeros(()))
        self.popularity_weight = 1.0
        self.alignment_objectives: WeightedObjectives | None = None
        if config.modality_alignment.get("multi-task") and not shape.tasks:
            raise ConfigError(
                "the alignment objective 'multi-task' predicts labels; name columns in the option 'labels'"
            )
        if config.modality_alignment and len(self.items.modalities) < 2:
            logger.warning(
                "modality_alignment brings modalities of items together, and there are %d; nothing is aligned",
                len(self.items.modalities),
            )
        elif config.modality_alignment:
            self.alignment_objectives = WeightedObjectives(
                config.modality_alignment, len(self.items.modalities), self.items.identity.embedding_dim, shape.tasks
            )
        self.items_have_media = bool(shape.item_modalities)
        self.sequence = self.sequence_weight = None
        if config.sequence_encoder in SEQUENCE_ENCODERS:
            encoder_of_events = SEQUENCE_ENCODERS[config.sequence_encoder]
            self.sequence = encoder_of_events(config.embedding_dim - config.item_bias, config.sequence_length)
            self.sequence_weight = nn.Parameter(torch.tensor(_INITIAL_SEQUENCE_WEIGHT))

    def forward(self, graph: MessageGraph, *, hidden_items: Tensor | None = None) -> Embeddings:
        """Embeds every node. Cost: ``O((hops × num_edges + num_rows × width) × dim)``."""
        user_rows, item_rows = self._aligned(self.users, graph, "user"), self._aligned(self.items, graph, "item")
        user_zero, _ = self.users(user_rows, graph.user_degree)
        item_zero, content = self.items(item_rows, graph.item_degree)
        layer_zero = torch.cat([user_zero, item_zero])
        propagated, messages = propagate(graph.interactions, layer_zero, self.config.hops)
        user, item = propagated.tensor_split([graph.num_users])

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
            user_mixed=user_mixed,
            decode=self.decode,
            item=self._decode_items(item_mixed, new),
            layer_zero=layer_zero,
            messages=messages,
            propagated=propagated,
            item_sent=item,
            item_content=content,
            item_rows=item_rows,
        )

    @torch.no_grad()
    def initialise(self, graph: MessageGraph) -> None:
        """Sets the identities to the spectral embeddings of the graph, as long as drawn ones are."""
        if self.config.initialisation == "random":
            return
        degree = torch.cat([graph.user_degree, graph.item_degree])
        dim = self.users.identity.embedding_dim
        vectors = IDENTITY_LENGTH * spectral_embeddings(graph.interactions, degree, graph.num_users, dim)
        for encoder, rows in zip((self.users, self.items), vectors.tensor_split([graph.num_users]), strict=True):
            encoder.identity.weight.copy_(rows)

    def alignment_loss(
        self, embeddings: Embeddings, graph: MessageGraph, user_index: Tensor, item_index: Tensor
    ) -> Tensor | None:
        """Returns the weighted sum of the objectives of ``modality_alignment``, on at most 2,048 items of the batch."""
        if self.alignment_objectives is None or embeddings.item_rows is None:
            return None
        items = torch.unique(item_index)
        if len(items) > _MOST_ALIGNED:
            items = items[torch.randperm(len(items), device=items.device)[:_MOST_ALIGNED]]
        blocks = Blocks.of(embeddings.item_rows.of(items), len(self.items.modalities))
        loss: Tensor = self.alignment_objectives(
            AlignedRows(
                blocks.x,
                blocks.filled,
                scores_by=embeddings.user_mixed[torch.unique(user_index)].detach(),
                labels={name: label[items] for name, label in graph.labels.items()},
            )
        )
        return loss

    @property
    def reads_order(self) -> bool:
        """With a ``sequence_encoder``."""
        return self.sequence is not None

    def after_events(self, user: Tensor, item: Tensor, events: LastEvents) -> Tensor:
        """Adds what the encoder makes of the events, at a learned weight and decoded as the user is, and decodes."""
        if self.sequence is None or self.sequence_weight is None or not events.count.any():
            return user
        directions, own = (rows[:, :-1] if self.has_item_bias else rows for rows in (item, user))
        heard = self.sequence(directions[events.item_index.clamp(min=0)])
        told = super().decode(heard[events.row, (events.count - 1).clamp(min=0)])
        return self.decode(own + self.sequence_weight * told * (events.count > 0)[:, None])

    def decode(self, mixed: Tensor) -> Tensor:
        """Turns ``user_mixed`` rows into vectors whose last entry meets the bias of the items, if there is one."""
        vectors = super().decode(mixed)
        return torch.cat([vectors, torch.ones_like(vectors[:, :1])], dim=1) if self.has_item_bias else vectors

    def weigh_popularity(self, weight: float) -> None:
        """Multiplies all biases from now on; they stay what training made of them."""
        self.popularity_weight = weight

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
        return torch.cat([vectors, _UNIT_OF_BIAS * (self.popularity_weight * bias)[:, None]], dim=1)

    def _aligned(self, encoder: NodeEncoder, graph: MessageGraph, kind: str) -> ModalityRows | None:
        """Projects the media of one node type, with feature dropout while training."""
        x_dict = {name: x for name, x in graph.x_dict.items() if name in encoder.modalities and len(x)}
        if not x_dict:
            return None
        if self.training and self.config.feature_dropout:
            x_dict = {name: F.dropout(x, self.config.feature_dropout) for name, x in x_dict.items()}
        num_nodes = graph.num_users if kind == "user" else graph.num_items
        return encoder.align(x_dict, graph.owner_dict, num_nodes)
