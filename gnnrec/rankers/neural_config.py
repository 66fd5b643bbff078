"""Declares the options of the neural ranker."""

from dataclasses import dataclass, field

from gnnrec.graph.neighbours import ItemGraph
from gnnrec.nn.model_config import ModelConfig
from gnnrec.training.config import TrainingConfig

__all__ = ["NeuralConfig"]


@dataclass(frozen=True)
class NeuralConfig:
    """Options of the neural ranker.

    Attributes:
        model: Shape of the model.
        training: How it is trained.
        similar_items: Neighbours by content of a new item, as in the training graph.
        item_graph: How they weigh, as in the training graph.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    similar_items: int = 10
    item_graph: ItemGraph = "cosine"
