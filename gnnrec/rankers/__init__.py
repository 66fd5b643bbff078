"""Everything that ranks items, neural or classical, behind one protocol."""

from collections.abc import Mapping

from gnnrec.rankers.base import Ranker, RankerState, RankingTask
from gnnrec.rankers.content_knn import ContentKnnRanker
from gnnrec.rankers.ease import EaseRanker
from gnnrec.rankers.graph_filter import GraphFilterRanker
from gnnrec.rankers.item_knn import ItemKnnRanker
from gnnrec.rankers.neural import NeuralRanker
from gnnrec.rankers.popularity import PopularityRanker

__all__ = [
    "RANKERS",
    "ContentKnnRanker",
    "EaseRanker",
    "GraphFilterRanker",
    "ItemKnnRanker",
    "NeuralRanker",
    "PopularityRanker",
    "Ranker",
    "RankerState",
    "RankingTask",
]

RANKERS: Mapping[str, type[Ranker]] = {
    ranker.name: ranker
    for ranker in (
        NeuralRanker,
        EaseRanker,
        GraphFilterRanker,
        ItemKnnRanker,
        ContentKnnRanker,
        PopularityRanker,
    )
}
