"""Small graphs whose right answers are known, and contract checks for your own rankers and encoders."""

from gnnrec.testing.contract import check_encoder, check_ranker
from gnnrec.testing.planted import PlantedGraph, planted_graph

__all__ = ["PlantedGraph", "check_encoder", "check_ranker", "planted_graph"]
