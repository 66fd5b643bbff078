"""A planted shop as the graph that models multiply with."""

from collections.abc import Callable

import numpy as np
import pytest

from gnnrec.graph.build import GraphConfig, build_graph
from gnnrec.graph.neighbours import ItemGraph
from gnnrec.modalities.features import Features
from gnnrec.nn.message_graph import MessageGraph
from gnnrec.testing import planted_graph


@pytest.fixture(scope="session")
def message_graph() -> Callable[..., MessageGraph]:
    """Returns the graph of a small planted shop with the given relations and no others."""

    def make(**relations: int) -> MessageGraph:
        config = GraphConfig(**{"similar_items": 0, "co_occurring_items": 0} | relations)
        planted = planted_graph(40, 24, 3, events_per_user=6, num_new=4, dim=5, config=config)
        return MessageGraph.from_hetero_data(planted.graph)

    return make


@pytest.fixture(scope="session")
def media_graph() -> Callable[..., MessageGraph]:
    """Returns a small graph whose items have two modalities: some lack a picture, and one has two."""

    def make(item_graph: ItemGraph = "freedom", similar_items: int = 4) -> MessageGraph:
        planted = planted_graph(40, 24, 3, events_per_user=6, num_new=4, dim=5)
        rng = np.random.default_rng(1)
        owner_index = np.array([0, 0, *range(1, 21)])
        picture = Features("image", "item", rng.normal(size=(22, 7)).astype(np.float32), owner_index)
        config = GraphConfig(similar_items=similar_items, item_graph=item_graph, co_occurring_items=0)
        graph = build_graph(planted.train, {**planted.features, "image": picture}, config=config)
        return MessageGraph.from_hetero_data(graph)

    return make
