import logging

import numpy as np
import pytest
import scipy.sparse as sp

from gnnrec.data.dataset import RelationEdges
from gnnrec.errors import ConfigError
from gnnrec.graph.build import GraphConfig, build_graph
from gnnrec.modalities.features import Features

# Four users, five items; items 0 and 1 share three users, items 2 and 3 two; item 4 is new.
MATRIX = sp.csr_matrix(np.array([[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 0], [0, 0, 1, 1, 0]], dtype=np.float32))
# Item 4 looks like item 0; item 2 has two pictures, item 1 none.
PICTURE = Features(
    "picture",
    "item",
    np.array([[1, 0], [0, 1], [0, 3], [-1, 0], [2, 0.2]], dtype=np.float32),
    np.array([0, 2, 2, 3, 4]),
)
PROFILE = Features("profile", "user", np.array([[0.5, 1, 2]], dtype=np.float32), np.array([3]))
FOLLOWS = RelationEdges("user", np.array([0, 2]), np.array([1, 1]), np.array([1.0, 0.5], dtype=np.float32))
SEQUEL = RelationEdges("item", np.array([3]), np.array([4]), np.array([2.0], dtype=np.float32))


def edges(store) -> dict[tuple[int, int], float]:
    return dict(zip(map(tuple, store.edge_index.T.tolist()), store.edge_weight.tolist(), strict=True))


def test_every_part_of_the_graph() -> None:
    graph = build_graph(
        MATRIX,
        {"picture": PICTURE, "profile": PROFILE},
        {"follows": FOLLOWS, "sequel_of": SEQUEL},
        GraphConfig(similar_items=1, co_occurring_items=1, co_occurring_users=2, minimum_shared=2),
    )
    graph.validate()
    assert set(graph.node_types) == {"user", "item", "picture", "profile"}
    assert set(graph.edge_types) == {
        ("user", "interacts", "item"),
        ("picture", "describes", "item"),
        ("profile", "describes", "user"),
        ("item", "similar_by_picture", "item"),
        ("item", "co_occurs", "item"),
        ("user", "co_occurs", "user"),
        ("user", "follows", "user"),
        ("item", "sequel_of", "item"),
    }
    assert (graph["user"].num_nodes, graph["item"].num_nodes) == (4, 5)
    pairs = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (2, 3), (3, 2), (3, 3)]
    assert list(map(tuple, graph["user", "interacts", "item"].edge_index.T.tolist())) == pairs
    assert np.array_equal(graph["picture"].x.numpy(), PICTURE.values)
    assert graph["picture", "describes", "item"].edge_index.tolist() == [[0, 1, 2, 3, 4], [0, 2, 2, 3, 4]]
    assert np.array_equal(graph["profile"].x.numpy(), PROFILE.values)
    assert graph["profile", "describes", "user"].edge_index.tolist() == [[0], [3]]
    cosine = 2 / np.hypot(2, 0.2)
    similar = edges(graph["item", "similar_by_picture", "item"])
    assert similar == pytest.approx({(4, 0): cosine, (0, 4): cosine, (4, 2): 0.2 / np.hypot(2, 0.2)})
    assert edges(graph["item", "co_occurs", "item"]) == {(1, 0): 3, (0, 1): 3, (3, 2): 2, (2, 3): 2}
    assert edges(graph["user", "co_occurs", "user"]) == {
        (1, 0): 2,
        (2, 0): 2,
        (0, 1): 2,
        (2, 1): 2,
        (0, 2): 2,
        (1, 2): 2,
        (2, 3): 2,
    }
    assert edges(graph["user", "follows", "user"]) == {(0, 1): 1, (2, 1): 0.5}
    assert edges(graph["item", "sequel_of", "item"]) == {(3, 4): 2}


def test_relations_are_left_out_when_not_asked_for() -> None:
    graph = build_graph(MATRIX, {"picture": PICTURE}, config=GraphConfig(similar_items=0, co_occurring_items=0))
    assert graph.edge_types == [("user", "interacts", "item"), ("picture", "describes", "item")]


def test_fewer_shared_users_than_the_minimum_are_chance() -> None:
    config = GraphConfig(co_occurring_items=5, minimum_shared=3)
    graph = build_graph(MATRIX, config=config)
    assert edges(graph["item", "co_occurs", "item"]) == {(1, 0): 3, (0, 1): 3}


def test_a_modality_that_nobody_has_makes_no_neighbours() -> None:
    nothing = Features("picture", "item", np.zeros((0, 2), dtype=np.float32), np.zeros(0, dtype=np.int64))
    graph = build_graph(MATRIX, {"picture": nothing})
    assert graph["picture"].x.shape == (0, 2)
    assert ("item", "similar_by_picture", "item") not in graph.edge_types


@pytest.mark.parametrize("name", ["user", "item"])
def test_a_modality_cannot_be_named_like_a_node_type(name: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}'.*choose another name"):
        build_graph(MATRIX, {name: PICTURE})


@pytest.mark.parametrize("name", ["co_occurs", "similar_by_picture"])
def test_a_relation_cannot_be_named_like_one_of_ours(name: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}'.*choose another name"):
        build_graph(MATRIX, {"picture": PICTURE}, {name: SEQUEL})


def test_users_and_items_may_have_relations_of_the_same_name() -> None:
    graph = build_graph(MATRIX, relations={"follows": FOLLOWS, "co_occurs": FOLLOWS})
    assert edges(graph["user", "co_occurs", "user"]) == {(0, 1): 1, (2, 1): 0.5}
    assert edges(graph["item", "co_occurs", "item"]).keys() == {(1, 0), (0, 1), (3, 2), (2, 3)}


@pytest.mark.parametrize("name", ["similar_items", "co_occurring_items", "co_occurring_users"])
def test_a_negative_number_of_neighbours_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}'.*-1"):
        GraphConfig(**{name: -1})


def test_the_log_says_what_was_built(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "gnnrec.graph.build"):
        build_graph(MATRIX, {"picture": PICTURE}, config=GraphConfig(similar_items=1, co_occurring_items=0))
    assert "4 user, 5 item, 5 picture" in caplog.text
    assert "10 interacts (user → item)" in caplog.text


def test_published_item_graphs_say_that_they_are_normalised() -> None:
    for item_graph, normalised in [("cosine", False), ("lattice", True), ("freedom", True)]:
        config = GraphConfig(similar_items=2, item_graph=item_graph)
        store = build_graph(MATRIX, {"picture": PICTURE}, config=config)["item", "similar_by_picture", "item"]
        assert store.normalised is normalised
        assert ((0, 0) in edges(store)) is normalised
