"""Named configurations: published models and baselines as settings of the same parts."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from gnnrec.config import from_dict, suggest, to_dict
from gnnrec.errors import ConfigError
from gnnrec.graph.build import GraphConfig
from gnnrec.modalities.preparation import FeatureConfig
from gnnrec.nn.architectures import architecture
from gnnrec.nn.model_config import ModelConfig
from gnnrec.rankers.content_knn import ContentKnnConfig
from gnnrec.rankers.ease import EaseConfig
from gnnrec.rankers.graph_filter import GraphFilterConfig
from gnnrec.rankers.item_knn import ItemKnnConfig
from gnnrec.retrieval.aligned_space import AlignmentConfig
from gnnrec.training.config import TrainingConfig

__all__ = ["PRESETS", "RecommenderConfig", "preset"]


@dataclass(frozen=True)
class RecommenderConfig:
    """Every option of a recommender. Each group is documented beside the part that it configures.

    Attributes:
        ranker: ``neural`` (the graph model), ``ease``, ``graph-filter``, ``item-knn``, ``content-knn`` or
            ``popularity``.
        seed: Fixes everything random; from 0 to 2⁶³ - 1.
        device: Where to encode and train: ``auto``, ``cpu``, ``cuda`` or ``cuda:<n>``.
        features: How modality vectors are scaled, and what stands for missing ones.
        alignment: The common space in which media are searched; given as a whole, ``alignment={"dim": 32}``.
        graph: Which relations the graph holds.
        model: The graph model.
        training: How it is trained.
        ease: The linear autoencoder in closed form.
        graph_filter: The fixed filter of the graph.
        item_knn: The item-based nearest neighbours.
        content_knn: The nearest neighbours by content.
    """

    ranker: Literal["neural", "ease", "graph-filter", "item-knn", "content-knn", "popularity"] = "neural"
    seed: int = 0
    device: str = "auto"
    features: FeatureConfig = field(default_factory=FeatureConfig)
    alignment: AlignmentConfig = field(default_factory=AlignmentConfig)
    graph: GraphConfig = field(default_factory=GraphConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    ease: EaseConfig = field(default_factory=EaseConfig)
    graph_filter: GraphFilterConfig = field(default_factory=GraphFilterConfig)
    item_knn: ItemKnnConfig = field(default_factory=ItemKnnConfig)
    content_knn: ContentKnnConfig = field(default_factory=ContentKnnConfig)

    def __post_init__(self) -> None:
        architecture(self.model.architecture)  # a misspelt one is named before any media are encoded
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"option 'seed' lies between 0 and 2**63 - 1, got {self.seed}")

    def with_options(self, options: Mapping[str, Any]) -> "RecommenderConfig":
        """Returns a configuration in which single options are changed, whatever group they belong to.

        Args:
            options: Option name → value; the name of a group takes a mapping or a dataclass.

        Raises:
            ConfigError: No group has such an option, the value is impossible, or the model does not read the option.
        """
        groups = {group.name: getattr(self, group.name) for group in fields(self)}
        owner = {
            name: group
            for group, value in groups.items()
            if hasattr(value, "__dataclass_fields__") and group != "alignment"  # shares names with model and training
            for name in to_dict(value)
        }
        changes: dict[str, dict[str, Any]] = {}
        config = self
        for name, value in options.items():
            if name in groups:
                plain = to_dict(value)
                merged = {**to_dict(groups[name]), **plain} if isinstance(plain, dict) else plain
                config = from_dict(RecommenderConfig, {**to_dict(config), name: merged})
            elif name in owner:
                changes.setdefault(owner[name], {})[name] = to_dict(value)
            else:
                raise ConfigError(f"unknown option {name!r}{suggest(name, [*groups, *owner])}")
        for group, values in changes.items():
            present = getattr(config, group)
            config = replace(config, **{group: from_dict(type(present), {**to_dict(present), **values}, group)})
        for name, why in config.idle_options().items():
            before, after = (getattr(getattr(one, owner[name]), name) for one in (self, config))
            if before != after:
                raise ConfigError(f"option {name!r} changes nothing with {why}; leave it out")
        return config

    def ranker_options(self) -> list[Any]:
        """Returns the groups of options that its ranker reads and no other."""
        return [getattr(self, group) for group in _GROUPS_OF[self.ranker]]

    def idle_options(self) -> Mapping[str, str]:
        """Returns option → which other option makes that it changes nothing: what only another model reads."""
        idle = {
            option: f"ranker={self.ranker!r}"
            for ranker in set(_GROUPS_OF) - {self.ranker}
            for group in _GROUPS_OF[ranker]
            for option in to_dict(getattr(self, group))
        }
        if self.ranker != "neural":
            return {option: why for option, why in idle.items() if option not in _ASKED_OF_ALL}
        model = architecture(self.model.architecture)
        idle |= dict.fromkeys(model.idle_options(), f"architecture={self.model.architecture!r}")
        if self.model.content == "none":
            idle |= dict.fromkeys(("content_scale", "feature_dropout"), "content='none'")
        if not self.model.item_bias:
            idle |= dict.fromkeys(("popularity_weight", "new_item_price"), "item_bias=False")
        if self.model.sequence_encoder == "none":
            idle["sequence_length"] = "sequence_encoder='none'"
        if self.model.hops == 0 and not model.hears_without_hops:
            idle |= dict.fromkeys(("edge_dropout", "new_user_prior"), "hops=0")
        if self.training.loss == "bootstrap":
            idle["temperature"] = "loss='bootstrap'"
        if self.training.loss not in ("bpr", "bce"):
            idle["negatives"] = f"loss={self.training.loss!r}"
        comparing = {"content-bootstrap", "dropout-contrast"} & set(self.training.auxiliary)
        if self.training.loss != "bootstrap" and not comparing:
            idle["view_dropout"] = f"loss={self.training.loss!r} and these auxiliary losses"
        return idle


_ASKED_OF_ALL = ("select_by",)  # a search maximises it, whatever it searches
# Which groups of options only one ranker reads.
_GROUPS_OF: Mapping[str, tuple[str, ...]] = {
    "neural": ("model", "training"),
    "ease": ("ease",),
    "graph-filter": ("graph_filter",),
    "item-knn": ("item_knn",),
    "content-knn": ("content_knn",),
    "popularity": (),
}

# Published models stand alone, and rank by inner products.
_PUBLISHED = ModelConfig(linear_part="none", sequence_encoder="none", decoder="dot")
# They are trained as published: BPR with one negative and Adam at 1e-3, and L2 on the embeddings.
_PAIRWISE = TrainingConfig(
    loss="bpr",
    temperature=1.0,
    auxiliary={"regularisation": 1e-4},
    edge_dropout=0.0,
    batch_size=2048,
    learning_rate=1e-3,
    epochs=1000,
    patience=50,  # on dense logs LightGCN stays at what popularity gives for some 20 epochs before it learns more
)
# The references for new items learn as the default model does, so that what differs is what they make of new items.
_REFERENCE = ModelConfig(linear_part="none", sequence_encoder="none", hops=0)
_SOFTMAX = TrainingConfig(edge_dropout=0.0)
_NO_DERIVED_RELATIONS = GraphConfig(similar_items=0, co_occurring_items=0)
# Their media are taken as they are, and the mean stands for a missing one.
_RAW_FEATURES = FeatureConfig(scaling="none", missing="mean")

# What they reach beside published figures stands in docs/benchmarks.md, "Presets beside published figures".
PRESETS: Mapping[str, RecommenderConfig] = {
    # The default: attention over modalities, propagation, co-occurrence and content neighbours, softmax on cosines, and
    # what a linear model says of a history.
    "gnnrec": RecommenderConfig(),
    # He et al. 2020, LightGCN: eq. 3 (propagation), 4 (mean of layers), 15 (BPR with L2). Recall@20 on TikTok: .0912,
    # by other code tuned for it .0916 and .0922.
    "lightgcn": RecommenderConfig(
        graph=_NO_DERIVED_RELATIONS,
        model=replace(_PUBLISHED, architecture="lightgcn", hops=3, content="none"),
        training=_PAIRWISE,
    ),
    # Rendle et al. 2009, BPR: matrix factorisation under section 4.1's criterion.
    "mf-bpr": RecommenderConfig(
        graph=_NO_DERIVED_RELATIONS,
        model=replace(_PUBLISHED, architecture="lightgcn", hops=0, content="none"),
        training=_PAIRWISE,
    ),
    # He & McAuley 2016, VBPR: eq. 4, latent and visual factors, item bias and visual bias.
    # Recall@20 on TikTok: .0444, by others with text as well .0380.
    "vbpr": RecommenderConfig(
        features=_RAW_FEATURES,
        graph=_NO_DERIVED_RELATIONS,
        model=replace(_PUBLISHED, architecture="vbpr", hops=0),
        training=_PAIRWISE,
    ),
    # Zhou & Shen 2023, FREEDOM: image share .1, k = 10; of the published grids, rho = .8 and lambda = 1e-4.
    # Recall@20 on TikTok: .0893, by MMRec's code on the same features .0880.
    "freedom": RecommenderConfig(
        features=_RAW_FEATURES,
        graph=GraphConfig(similar_items=10, item_graph="freedom", co_occurring_items=0),
        model=replace(
            _PUBLISHED, architecture="freedom", hops=2, modality_shares={"image": 0.1}, fine_tune_features=True
        ),
        training=replace(_PAIRWISE, auxiliary={"content-ranking": 1e-4}, edge_dropout=0.8),
    ),
    # Zhou et al. 2023, BM3: one layer, dropout .5 and regularisation .1 (the authors' choice for Amazon Baby).
    # Recall@20 on TikTok: .0768 ± .0132, by others with text as well .0957.
    "bm3": RecommenderConfig(
        features=_RAW_FEATURES,
        graph=_NO_DERIVED_RELATIONS,
        model=replace(_PUBLISHED, architecture="bm3", hops=1, fine_tune_features=True),
        training=replace(
            _PAIRWISE,
            loss="bootstrap",
            auxiliary={"content-bootstrap": 2.0, "norm-regularisation": 0.1},
            view_dropout=0.5,
        ),
    ),
    # Yu et al. 2023, MGCN: k = 10, L2 of 1e-4; of the published grid, contrast of .01. Recall@20 on TikTok: .1024.
    "mgcn": RecommenderConfig(
        features=_RAW_FEATURES,
        graph=GraphConfig(similar_items=10, item_graph="lattice", co_occurring_items=0),
        model=replace(_PUBLISHED, architecture="mgcn", hops=2, fine_tune_features=True),
        training=replace(_PAIRWISE, auxiliary={"view-contrast": 0.01, "output-regularisation": 1e-4}),
    ),
    # Yu et al. 2025, PGL, local-aware: 30 % of the edges; contrast .05 and dropout .2 (the authors' for Amazon Baby).
    # Recall@20 on TikTok: .1042.
    "pgl": RecommenderConfig(
        features=_RAW_FEATURES,
        graph=GraphConfig(similar_items=10, item_graph="freedom", co_occurring_items=0),
        model=replace(_PUBLISHED, architecture="pgl", hops=2, modality_shares={"image": 0.1}, fine_tune_features=True),
        training=replace(_PAIRWISE, auxiliary={"dropout-contrast": 0.05}, edge_dropout=0.7, view_dropout=0.2),
    ),
    # Volkovs et al. 2017, DropoutNet: latent factors of half the items dropped; trained by a softmax on cosines.
    "dropoutnet": RecommenderConfig(
        graph=_NO_DERIVED_RELATIONS,
        model=replace(_REFERENCE, architecture="dropoutnet", identity_dropout=0.5),
        training=_SOFTMAX,
    ),
    # Wei et al. 2021, CLCRec: both contrasts count alike, half of the items are their content in a step.
    "clcrec": RecommenderConfig(
        graph=_NO_DERIVED_RELATIONS,
        model=replace(_REFERENCE, architecture="clcrec", identity_dropout=0.5),
        training=replace(_SOFTMAX, auxiliary={"identity-contrast": 1.0}),
    ),
    # After van den Oord et al. 2013: the identity of a new item is predicted from its content.
    "generative": RecommenderConfig(
        graph=_NO_DERIVED_RELATIONS,
        model=replace(_REFERENCE, architecture="generative"),
        training=replace(_SOFTMAX, auxiliary={"identity-prediction": 1.0}),
    ),
    # Steck 2019, EASE: eq. 8, a linear autoencoder with a diagonal of zeros, in closed form.
    "ease": RecommenderConfig(ranker="ease", graph=_NO_DERIVED_RELATIONS),
    # Shen et al. 2021, GF-CF: algorithm 1, a linear and an ideal low-pass filter of the graph; as published with
    # factors=256, ideal_weight=0.3, linear_exponent=0.
    "graph-filter": RecommenderConfig(ranker="graph-filter", graph=_NO_DERIVED_RELATIONS),
    # Sarwar et al. 2001: cosine between the users of two items.
    "item-knn": RecommenderConfig(ranker="item-knn", graph=_NO_DERIVED_RELATIONS),
    # The mean cosine between the content of an item and that of a history.
    "content-knn": RecommenderConfig(ranker="content-knn", graph=_NO_DERIVED_RELATIONS),
    # The number of users of an item.
    "popularity": RecommenderConfig(ranker="popularity", graph=_NO_DERIVED_RELATIONS),
}


def preset(name: str) -> RecommenderConfig:
    """Returns the configuration of a published model or baseline.

    Raises:
        ConfigError: There is no preset of that name.
    """
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}{suggest(name, PRESETS)}")
    return PRESETS[name]
