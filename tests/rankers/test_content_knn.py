"""Neighbours by content, against the cosines written out."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

import gnnrec as gr
from gnnrec.errors import ConfigError
from gnnrec.graph.build import build_graph
from gnnrec.modalities.features import Features
from gnnrec.rankers.base import RankingTask
from gnnrec.rankers.content_knn import ContentKnnConfig, ContentKnnRanker
from gnnrec.testing import PlantedGraph, planted_graph

RNG = np.random.default_rng(0)
# Item 0 has two pictures, item 1 none, item 4 nothing at all.
PICTURE = Features("image", "item", RNG.normal(size=(4, 3)).astype(np.float32), np.array([0, 0, 2, 3]))
PLOT = Features("plot", "item", RNG.normal(size=(4, 2)).astype(np.float32), np.arange(4))
HISTORIES = sp.csr_matrix(np.array([[1, 1, 0, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0]], dtype=np.float32))
POPULARITY = HISTORIES.toarray().sum(axis=0)  # what the third user gets, who has no history


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def content() -> np.ndarray:
    """One row per item, written out."""
    image, plot = PICTURE.values, [unit(row) for row in PLOT.values]
    picture_of = {0: unit(unit(image[0]) + unit(image[1])), 2: unit(image[2]), 3: unit(image[3])}
    rows = [np.append(picture_of.get(item, np.zeros(3)), plot[item]) for item in range(4)]
    return np.stack([*map(unit, rows), np.zeros(5)])


def fitted(neighbours: int = 0) -> ContentKnnRanker:
    graph = build_graph(HISTORIES, {"image": PICTURE, "plot": PLOT})
    return ContentKnnRanker.fit(RankingTask(graph, HISTORIES), ContentKnnConfig(neighbours))[0]


def test_the_score_is_the_mean_cosine_to_the_history() -> None:
    cosine = content() @ content().T
    expected = np.stack([(cosine[0] + cosine[1]) / 2, cosine[3], POPULARITY])
    np.testing.assert_allclose(fitted().score(np.arange(3)), expected, atol=1e-6)
    np.testing.assert_allclose(fitted().similar(np.array([2, 0])), cosine[[2, 0]], atol=1e-6)


def test_only_the_nearest_count() -> None:
    cosine = content() @ content().T
    for item in range(5):
        cosine[np.argsort(-cosine[:, item])[2:], item] = 0  # a column: what the item is compared with
    cosine = cosine.clip(min=0)
    expected = np.stack([(cosine[0] + cosine[1]) / 2, cosine[3], POPULARITY])
    np.testing.assert_allclose(fitted(2).score(np.arange(3)), expected, atol=1e-6)


@pytest.mark.parametrize("neighbours", [0, 2])
def test_added_items_are_compared_like_the_others(neighbours: int) -> None:
    """Twins of items 0 and 3, the second without its picture."""
    picture = Features("image", "item", PICTURE.values[:2], np.array([0, 0]))
    plot = Features("plot", "item", PLOT.values[[0, 3]], np.arange(2))
    ranker = fitted(neighbours)
    grown = ranker.attach({"image": picture, "plot": plot}, {"image": PICTURE, "plot": PLOT}, 2)
    scores = grown.score(np.arange(3))
    torch.testing.assert_close(scores[:, :5], ranker.score(np.arange(3)))
    cosine = content()[[0, 1]] @ content()[0]
    assert scores[0, 5].item() == pytest.approx(cosine.mean() if neighbours == 0 else cosine[0] / 2, abs=1e-6)
    assert 0 < scores[1, 6] < scores[1, 3]  # a plot alone is less alike than all
    chosen = sp.csr_matrix((np.ones(1, np.float32), ([0], [5])), (1, 7))
    assert grown.update(sp.vstack([chosen, chosen], "csr"), np.array([1])).score(np.array([1]))[0, 5] > 0.99


@pytest.mark.parametrize("neighbours", [0, 12])
def test_new_items_reach_the_right_users(neighbours: int, planted: PlantedGraph, task: RankingTask) -> None:
    ranker = ContentKnnRanker.fit(task, ContentKnnConfig(neighbours))[0]
    best = ranker.score(np.arange(120))[:, torch.from_numpy(planted.new_items)].argsort(dim=1, descending=True)[:, :2]
    assert (planted.item_taste[planted.new_items][best] == planted.user_taste[:, None]).mean() > 0.85


def test_a_relation_between_items_may_be_called_as_that_to_their_media() -> None:
    shop = gr.synthetic.shop(num_users=40, num_items=20, seed=0)
    edges = pd.DataFrame({"source_id": ["i01"], "target_id": ["i02"]})
    modalities = {"look": shop.vectors()}
    plain, related = (
        gr.Recommender.preset("content-knn").fit(
            gr.Dataset.from_frames(shop.interactions, modalities=modalities, relations=relations), progress=False
        )
        for relations in ({}, {"describes": gr.Relation(edges, between="item")})
    )
    pd.testing.assert_frame_equal(related.recommend(["u01"]), plain.recommend(["u01"]))


def test_media_are_needed() -> None:
    planted = planted_graph()
    with pytest.raises(ConfigError, match="'content-knn' compares media"):
        ContentKnnRanker.fit(RankingTask(build_graph(planted.train), planted.train), ContentKnnConfig())
    with pytest.raises(ConfigError, match="content_neighbours"):
        ContentKnnConfig(-1)
