"""Declares the options of every model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from gnnrec.config import Choices, Range, searched, suggest
from gnnrec.errors import ConfigError
from gnnrec.nn.align import PROJECTIONS
from gnnrec.nn.alignment.registry import check_weights
from gnnrec.nn.fusion import FUSIONS

__all__ = ["SETTLED_AFTER_TRAINING", "LinearPartName", "ModelConfig", "SequenceEncoderName"]

LinearPartName: TypeAlias = Literal["auto", "none", "random-walk", "graph-filter", "low-pass", "ease"]
SequenceEncoderName: TypeAlias = Literal["auto", "none", "gru", "transformer"]

# What changes no weight of the network: validation settles it after training, where the options leave it open.
SETTLED_AFTER_TRAINING = (
    "popularity_weight",
    "content_taste",
    "known_content_taste",
    "new_item_offset",
    "new_user_prior",
    "linear_part",
    "linear_weight",
    "linear_decay",
)
_MOST_RELATION_WEIGHT = 100
_OF_ANY_SIGN = ("new_item_offset", "linear_part")


@dataclass(frozen=True)
class ModelConfig:
    """The shape of the model.

    Attributes:
        architecture: A name in ``gnnrec.nn.architectures.ARCHITECTURES``: ``multimodal``, or that of a published model.
            Published models use ``embedding_dim``, ``hops``, ``decoder``, ``projections`` and the options after them.
        embedding_dim: Width of the vectors of users and items.
        hops: Layers of propagation over user–item edges; 0 is matrix factorisation.
        fusion: How a node's modality rows become one content vector: a name in ``gnnrec.nn.fusion.FUSIONS``.
        modality_alignment: Objective by which the modalities of an item are held together in training → weight beside
            the ranking loss; names in ``gnnrec.nn.alignment.OBJECTIVES``. Empty: ranking alone brings them together.
        content: ``add`` content to the identity, or ``none``: ignore the media.
        content_scale: Length of a content vector before training; identities start shorter, at .1.
        relation_weight: Weight of each item–item and user–user relation before training.
        identity_dropout: Share of the items that a training step treats as new: no identity, no interactions, only
            what their media say; in ``dropoutnet`` and ``clcrec`` likewise.
        feature_dropout: Share of the entries of modality vectors set to zero in training.
        initialisation: Identities before training: ``random``, or ``spectral``: the leading singular vectors of the
            interactions (``gnnrec.nn.spectral``), which rank well after one epoch.
        decoder: ``cosine`` or ``dot`` product.
        item_bias: Add a learned bias to the scores of each item; it is the last of the ``embedding_dim`` entries.
        popularity_weight: How many times the biases count after training, beside the directions; ``None``: what ranks
            the validation pairs best.
        content_taste: How much the likeness of a new item's content to that of a history counts in its score, beside
            what its vector says; at 1 it spreads items as wide. ``None``: what ranks known items best on validation
            when they play new ones.
        known_content_taste: The same for items that training knew. ``None``: what ranks the validation pairs best.
        new_item_offset: Added to the scores of items without interactions; ``None``: as much as known items can afford,
            measured on validation pairs. Where the catalogue has few new items, a quarter of the known ones play them.
        new_item_price: Share of the recall of known items that places for new ones may cost.
        new_user_prior: As how many events the average person counts in the vector of a new one; ``None``: what ranks
            best for known people on validation when only 1, 3 or 10 of their events are told.
        linear_part: What a linear model in closed form says of a history is added to the scores: ``random-walk``,
            ``graph-filter``, ``low-pass`` or ``ease`` (``gnnrec.rankers.linear_part``), ``auto``: what ranks the
            validation pairs best, or ``none``. Scores are then more than the product of the vectors.
        linear_weight: How much it counts; at 1 it spreads the items of a person as wide as the model does. ``None``:
            what ranks the validation pairs best.
        linear_decay: How much less an event counts in the linear part than the next one of the same person:
            ``exp(-linear_decay)``; 0: all count alike. ``None``: what ranks the validation pairs best, and 0 in a log
            without time.
        projections: Modality → how its vectors enter the common space, a name in ``gnnrec.nn.align.PROJECTIONS``:
            ``linear`` unless named here; ``log-mel-cnn`` and ``log-mel-lstm`` train a sound network on the vectors of
            the encoder ``log-mel``.
        item_hops: Layers of propagation over the item–item graph (FREEDOM, MGCN, PGL).
        modality_shares: Modality → its share in what all modalities give together; what is left goes to the modalities
            that are not named, in equal parts. With ``fusion="weighted"``: fixed weights in the content vector of
            users, or of items, if one of theirs is named; else learned. In FREEDOM and PGL: in the item–item graph.
        sequence_encoder: Read the last events of each user in order, beside propagation, which knows no order: ``gru``,
            ``transformer`` or ``none``. It needs a log with time, and ``architecture="multimodal"``. ``auto``: where
            validation pairs come after the training pairs of their users, train without and with ``gru``, and keep it
            if it ranks them better by twice the standard error; ``none`` elsewhere. A warm start goes on with what the
            earlier fit had.
        sequence_length: Events that are read; in training between half as many and all of them.
        fine_tune_features: Train an offset to the vectors of each known item and modality (published models).
    """

    architecture: str = "multimodal"
    embedding_dim: int = 64
    hops: int = searched(2, Range(1, 4))
    fusion: str = "attention"
    modality_alignment: Mapping[str, float] = field(default_factory=dict)
    content: Literal["add", "none"] = "add"
    content_scale: float = searched(1.0, Range(0.1, 10, log=True))
    relation_weight: float = searched(0.1, Range(0.01, 1, log=True))
    identity_dropout: float = 0.1
    feature_dropout: float = searched(0.0, Range(0, 0.5))
    initialisation: Literal["random", "spectral"] = searched("random", Choices(("random", "spectral")))
    decoder: Literal["cosine", "dot"] = "cosine"
    item_bias: bool = searched(True, Choices((True, False)))
    popularity_weight: float | None = None
    content_taste: float | None = None
    known_content_taste: float | None = None
    new_item_offset: float | None = None
    new_item_price: float = 0.02
    new_user_prior: float | None = None
    linear_part: LinearPartName = "auto"
    linear_weight: float | None = None
    linear_decay: float | None = None
    projections: Mapping[str, str] = field(default_factory=dict)
    item_hops: int = 1
    modality_shares: Mapping[str, float] = field(default_factory=dict)
    sequence_encoder: SequenceEncoderName = "auto"
    sequence_length: int = 50
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
        if self.modality_shares and self.architecture == "multimodal" and self.fusion != "weighted":
            raise ConfigError(f"option 'modality_shares' needs fusion='weighted', got fusion={self.fusion!r}")
        if self.modality_alignment:
            check_weights(self.modality_alignment)
        if self.modality_alignment and self.content == "none":
            raise ConfigError("option 'modality_alignment' needs content='add'")
        if self.sequence_length < 1:
            raise ConfigError(f"option 'sequence_length' must be at least 1, got {self.sequence_length}")
        for modality, name in self.projections.items():
            if name not in PROJECTIONS:
                raise ConfigError(f"the projection of {modality!r} cannot be {name!r}{suggest(name, PROJECTIONS)}")
        for name in ("identity_dropout", "feature_dropout", "new_item_price"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"option {name!r} must lie in [0, 1), got {getattr(self, name)}")
        if self.new_item_offset and not self.item_bias:
            raise ConfigError("option 'new_item_offset' moves the bias of new items; it needs item_bias=True")
        for name in SETTLED_AFTER_TRAINING:
            weight = getattr(self, name)
            if name not in _OF_ANY_SIGN and weight is not None and weight < 0:
                raise ConfigError(f"option {name!r} must not be negative, got {weight}")
        if self.linear_weight is not None and self.linear_part == "none":
            raise ConfigError("option 'linear_weight' weighs a linear part, and linear_part='none' leaves it out")
        if self.linear_decay and self.linear_part == "none":
            raise ConfigError("option 'linear_decay' is one of the linear part, and linear_part='none' leaves it out")
        if not 0 < self.relation_weight <= _MOST_RELATION_WEIGHT:
            raise ConfigError(
                f"option 'relation_weight' must be positive and at most {_MOST_RELATION_WEIGHT}, "
                f"got {self.relation_weight}"
            )
