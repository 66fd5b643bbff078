"""A small planted shop to train on."""

import pytest
import torch

from gnnrec.nn.message_graph import MessageGraph
from gnnrec.nn.model_config import ModelConfig
from gnnrec.nn.multimodal import MultimodalGraphModel
from gnnrec.testing import PlantedGraph, planted_graph


@pytest.fixture(scope="session")
def planted() -> PlantedGraph:
    """40 people of 3 tastes, 24 items of which 4 are new."""
    return planted_graph(40, 24, 3, events_per_user=6, num_new=4, dim=5)


@pytest.fixture(scope="session")
def graph(planted: PlantedGraph) -> MessageGraph:
    return MessageGraph.from_hetero_data(planted.graph)


@pytest.fixture
def model(graph: MessageGraph) -> MultimodalGraphModel:
    """The same weights in every test."""
    torch.manual_seed(0)
    return MultimodalGraphModel(graph.shape, ModelConfig(embedding_dim=8, hops=1))
