"""Named configurations: published models and baselines as settings of the same parts."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from gnnrec.config import from_dict, suggest, to_dict
from gnnrec.errors import ConfigError
from gnnrec.graph.build import GraphConfig
from gnnrec.modalities.preparation import FeatureConfig
from gnnrec.nn.model import ModelConfig
from gnnrec.rankers.item_knn import ItemKnnConfig
from gnnrec.training.config import TrainingConfig

__all__ = ["PRESETS", "RecommenderConfig", "preset"]


@dataclass(frozen=True)
class RecommenderConfig:
    """Every option of a recommender. Each group is documented beside the part that it configures.

    Attributes:
        ranker: ``neural`` (the graph model), ``item-knn`` or ``popularity``.
        seed: Fixes everything random.
        device: Where to encode and train: ``auto``, ``cpu``, ``cuda`` or ``cuda:<n>``.
        features: How modality vectors are scaled, and what stands for missing ones.
        graph: Which relations the graph holds.
        model: The graph model.
        training: How it is trained.
        item_knn: The item-based nearest neighbours.
    """

    ranker: Literal["neural", "item-knn", "popularity"] = "neural"
    seed: int = 0
    device: str = "auto"
    features: FeatureConfig = field(default_factory=FeatureConfig)
    graph: GraphConfig = field(default_factory=GraphConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    item_knn: ItemKnnConfig = field(default_factory=ItemKnnConfig)

    def with_options(self, options: Mapping[str, Any]) -> "RecommenderConfig":
        """Returns a configuration in which single options are changed, whatever group they belong to.

        Args:
            options: Option name → value; the name of a group takes a mapping or a dataclass.

        Raises:
            ConfigError: No group has such an option, or the value is impossible.
        """
        groups = {group.name: getattr(self, group.name) for group in fields(self)}
        owner = {
            name: group
            for group, value in groups.items()
            if hasattr(value, "__dataclass_fields__")
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
        return config


# Published models are trained as published: BPR with one negative and Adam at 1e-3, and L2 on the embeddings.
_PAIRWISE = TrainingConfig(
    loss="bpr",
    temperature=1.0,
    auxiliary={"regularisation": 1e-4},
    learning_rate=1e-3,
    epochs=1000,
    patience=20,
)
_NO_DERIVED_RELATIONS = GraphConfig(similar_items=0, co_occurring_items=0)

PRESETS: Mapping[str, RecommenderConfig] = {
    # The default: attention over modalities, propagation, co-occurrence and content neighbours, softmax on cosines.
    "gnnrec": RecommenderConfig(),
    # He et al. 2020, LightGCN: eq. 3 (propagation), 4 (mean of layers), 15 (BPR with L2).
    "lightgcn": RecommenderConfig(
        graph=_NO_DERIVED_RELATIONS,
        model=ModelConfig(hops=3, content="none", decoder="dot"),
        training=_PAIRWISE,
    ),
    # Rendle et al. 2009, BPR: matrix factorisation under section 4.1's criterion.
    "mf-bpr": RecommenderConfig(
        graph=_NO_DERIVED_RELATIONS,
        model=ModelConfig(hops=0, content="none", decoder="dot"),
        training=_PAIRWISE,
    ),
    # He & McAuley 2016, VBPR: eq. 4, identity and content factors side by side; without the item biases.
    "vbpr": RecommenderConfig(
        graph=_NO_DERIVED_RELATIONS,
        model=ModelConfig(hops=0, fusion="mean", content="concatenate", decoder="dot", identity_dropout=0.0),
        training=_PAIRWISE,
    ),
    # Sarwar et al. 2001: cosine between the users of two items.
    "item-knn": RecommenderConfig(ranker="item-knn", graph=_NO_DERIVED_RELATIONS),
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
