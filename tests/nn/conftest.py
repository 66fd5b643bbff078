"""A planted shop as the graph that models multiply with."""

from collections.abc import Callable

import pytest

from gnnrec.graph.build import GraphConfig
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
