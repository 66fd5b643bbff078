"""A planted graph, and its interactions as a task."""

import pytest

from gnnrec.rankers import RankingTask
from gnnrec.testing import PlantedGraph, planted_graph


@pytest.fixture(scope="session")
def planted() -> PlantedGraph:
    """120 people and 80 items of 4 tastes; 8 items are new."""
    return planted_graph()


@pytest.fixture(scope="session")
def task(planted: PlantedGraph) -> RankingTask:
    return RankingTask(planted.graph, planted.train)
