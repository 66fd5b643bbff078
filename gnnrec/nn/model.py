"""Says what training and answering ask of every model, and what a model gives them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor, nn

from gnnrec.errors import UnsupportedError
from gnnrec.nn.decode import DECODERS
from gnnrec.nn.fusion import Fused, ModalityRows
from gnnrec.nn.message_graph import MessageGraph
from gnnrec.nn.model_config import ModelConfig
from gnnrec.nn.sequence import Histories, LastEvents

__all__ = ["Embeddings", "GraphModel", "NewItems"]

_USERS_AT_ONCE = 4096  # whose events are read in order
_READ_BY_ALL = frozenset(
    {"architecture", "embedding_dim", "content", "decoder", "linear_part", "linear_weight", "linear_decay"}
)


@dataclass(frozen=True, eq=False)
class Embeddings:
    """What one forward pass gives. Users come first wherever both are stacked.

    Attributes:
        user_mixed: ``[num_users, width]`` before decoding, linear in what the items of a user send.
        decode: Makes rows of ``user_mixed`` ready for the inner product.
        item: ``[num_items, dim]``, ready for the inner product.
        layer_zero: ``[num_users + num_items, dim]`` identity and content.
        messages: ``[num_users + num_items, width]`` what each node sends to its neighbours over all layers.
        propagated: ``[num_users + num_items, dim]`` before the item–item and user–user relations.
        item_sent: ``[num_items, any]`` what each item sends to its neighbours by content.
        item_content: Fused media of the items; ``None`` without media.
        item_rows: Aligned media of the items; ``None`` without media.
        views: Further tensors by name, which the losses of published models compare.
    """

    user_mixed: Tensor
    decode: Callable[[Tensor], Tensor]
    item: Tensor
    layer_zero: Tensor
    messages: Tensor
    propagated: Tensor
    item_sent: Tensor
    item_content: Fused | None = None
    item_rows: ModalityRows | None = None
    views: Mapping[str, Tensor] = field(default_factory=dict)

    @cached_property
    def user(self) -> Tensor:
        """``[num_users, dim]``, ready for the inner product."""
        return self.decode(self.user_mixed)

    def of_users(self, user_index: Tensor) -> Tensor:
        """Returns the rows ``[batch, dim]`` of :attr:`user` at ``user_index [batch]``.

        Only these are decoded: a step has no use for users outside its batch.
        """
        return self.decode(self.user_mixed.index_select(0, user_index))


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
    """What training and answering ask of every architecture. A subclass is built as ``Model(shape, config)``.

    Attributes:
        config: Options.
        reads: Names of the options that this architecture has beside those of all models; others have no effect.
        hears_without_hops: Whether users hear of their items with ``hops=0`` too.
    """

    config: ModelConfig
    reads: ClassVar[frozenset[str]] = frozenset()
    hears_without_hops: ClassVar[bool] = False

    @classmethod
    def idle_options(cls) -> frozenset[str]:
        """Returns the names of the options that change nothing in this architecture."""
        return frozenset(field.name for field in fields(ModelConfig)) - _READ_BY_ALL - cls.reads

    @abstractmethod
    def forward(self, graph: MessageGraph, *, hidden_items: Tensor | None = None) -> Embeddings:
        """Embeds every node.

        Args:
            graph: The graph the model was built for; in training, with a sample of its interactions.
            hidden_items: ``[num_items]`` bool: items to embed as if they were new, where ``hides_items``.
        """

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def initialise(self, graph: MessageGraph) -> None:
        """Replaces what was drawn by what the graph tells before training, where ``initialisation`` asks for that."""

    def alignment_loss(
        self, embeddings: Embeddings, graph: MessageGraph, user_index: Tensor, item_index: Tensor
    ) -> Tensor | None:
        """Returns how far apart the modalities of a batch's items are, a scalar; ``None`` if nothing is asked of them.

        Args:
            embeddings: Of the whole graph.
            graph: The graph, for the labels of its items.
            user_index: ``[batch]`` users of the positives.
            item_index: ``[batch]`` items of the positives.
        """
        return None

    @property
    def can_be_sampled(self) -> bool:
        """Whether a node is embedded from its relations and ``hops`` of interactions behind them, and nothing further.

        Then a sample of that neighbourhood will do (:mod:`gnnrec.nn.sampled_graph`).
        """
        return self.config.item_hops <= 1 and not self.reads_order

    @property
    def reads_order(self) -> bool:
        """Whether the order of a user's events counts, as :meth:`after_events` says."""
        return False

    def after_events(self, user: Tensor, item: Tensor, events: LastEvents) -> Tensor:
        """Returns user vectors ``[num_moments, dim]`` moved by what their last events, in order, tell.

        Args:
            user: ``[num_moments, dim]`` as propagation gives them.
            item: ``[num_items, dim]``.
            events: Of these users before these moments.
        """
        return user

    def users_today(self, user: Tensor, item: Tensor, histories: Histories | None) -> Tensor:
        """Returns the vectors ``[num_users, dim]`` of all users after all of their events, a block at a time."""
        if not self.reads_order or histories is None:
            return user
        everybody = torch.arange(len(user), device=user.device)
        length = self.config.sequence_length
        blocks = torch.split(everybody, _USERS_AT_ONCE)
        return torch.cat([self.after_events(user[block], item, histories.last(block, length)) for block in blocks])

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
        return self.config.hops > 0 or self.hears_without_hops

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
