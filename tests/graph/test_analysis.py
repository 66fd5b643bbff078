import doctest

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp

from gnnrec.errors import ConfigError, DataError
from gnnrec.graph import analysis
from gnnrec.graph.analysis import (
    connected_components,
    degree_report,
    gini,
    reachability_report,
    to_networkx,
    why_cold,
)

# Users 0–2 and items 0–2 form a path, user 3 and item 3 a pair, item 4 and user 4 stand alone.
PATH = sp.csr_matrix(
    np.array([[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0]], dtype=np.float32)
)


def random_interactions(seed: int, density: float = 0.03) -> sp.csr_matrix:
    return sp.csr_matrix((np.random.default_rng(seed).random((40, 50)) < density).astype(np.float32))


@pytest.mark.parametrize("seed", range(5))
def test_components_equal_networkx(seed: int) -> None:
    interactions = random_interactions(seed)
    found = connected_components(interactions)
    wanted = {frozenset(part) for part in nx.connected_components(to_networkx(interactions))}
    nodes = [("user", i) for i in range(40)] + [("item", j) for j in range(50)]
    label = np.concatenate([found.of_user, found.of_item])
    assert {frozenset(nodes[i] for i in np.flatnonzero(label == c)) for c in range(label.max() + 1)} == wanted
    total = found.sizes["num_users"] + found.sizes["num_items"]
    assert total.tolist() == sorted(map(len, wanted), reverse=True)
    assert found.sizes["num_edges"].sum() == interactions.nnz


def test_components_of_a_known_graph() -> None:
    found = connected_components(PATH)
    assert found.of_user.tolist()[:4] == [0, 0, 0, 1]
    assert found.of_item.tolist()[:4] == [0, 0, 0, 1]
    assert found.sizes.iloc[:2].to_numpy().tolist() == [[0, 3, 3, 5], [1, 1, 1, 1]]
    assert len(found.sizes) == 4


@pytest.mark.parametrize("seed", range(3))
def test_reach_equals_shortest_paths(seed: int) -> None:
    interactions = random_interactions(seed)
    graph = to_networkx(interactions)
    report = reachability_report(interactions, hops=(1, 2, 3, 5)).set_index("hops")
    for hops in (1, 2, 3, 5):
        reached = np.zeros((40, 50), dtype=bool)
        for user in range(40):
            near = nx.single_source_shortest_path_length(graph, ("user", user), cutoff=hops)
            reached[user, [index for kind, index in near if kind == "item"]] = True
        share = reached.mean(axis=1)
        wanted = [share.mean(), share.min(), share.max(), reached.any(axis=0).mean()]
        np.testing.assert_allclose(report.loc[hops].to_numpy(), wanted, rtol=1e-6)


def test_an_even_distance_alone_reaches_what_the_odd_one_below_does() -> None:
    interactions = random_interactions(0)
    even, odd = (reachability_report(interactions, hops=hops).drop(columns="hops") for hops in ((2, 4), (1, 3)))
    assert even.equals(odd)


def test_reach_of_a_sample_is_the_same_for_the_same_seed() -> None:
    interactions = random_interactions(0)
    first, again = (reachability_report(interactions, sample=7, seed=3) for _ in range(2))
    assert first.equals(again)
    assert first["mean"].tolist() == sorted(first["mean"])


def test_degrees() -> None:
    report = degree_report(PATH).set_index("node")
    assert report.loc["user", ["num_nodes", "num_isolated", "mean", "median", "max"]].tolist() == [5, 1, 1.2, 1.0, 2.0]
    assert report.loc["item", "gini"] == pytest.approx(gini([2, 2, 1, 1, 0]))
    degrees = [d for node, d in to_networkx(PATH).degree() if node[0] == "item"]
    assert report.loc["item", "q90"] == np.quantile(degrees, 0.9)


def test_gini_equals_its_definition() -> None:
    counts = np.random.default_rng(0).integers(0, 20, 30)
    by_pairs = np.abs(counts[:, None] - counts).sum() / (2 * len(counts) ** 2 * counts.mean())
    assert gini(counts) == pytest.approx(by_pairs)
    assert np.isnan(gini([0, 0]))
    assert np.isnan(gini([]))
    assert doctest.testmod(analysis).failed == 0


def test_why_cold() -> None:
    neighbours = sp.csr_matrix(np.array([[0] * 5, [0] * 5, [0] * 5, [1, 0, 0, 0, 0], [1, 1, 0, 0, 0]]))
    modalities = {"text": np.array([1, 1, 1, 0, 1], bool), "image": np.array([0, 0, 0, 0, 1], bool)}
    frame = why_cold(PATH, modalities, neighbours)
    assert frame["item_index"].tolist() == [3, 4]
    assert frame["num_events"].tolist() == [1, 0]
    assert frame["component_items"].tolist() == [1, 1]
    assert frame["reason"].tolist() == [
        "cut off from the largest component (items in its own: 1); no modalities; neighbours: 1",
        "no events; modalities: 2; neighbours: 2",
    ]
    warm = why_cold(PATH, items=[1])
    assert "neighbours" not in warm
    assert not warm["is_cold"].item()
    assert warm["reason"].item() == "warm (events: 2)"
    few = why_cold(PATH, modalities, min_events=2).set_index("item_index")
    assert few.loc[2, "reason"] == "fewer than 2 events (1); modalities: 1"


def test_networkx_graph_is_bipartite_and_weighted() -> None:
    graph = to_networkx(PATH * 2)
    assert nx.bipartite.is_bipartite_node_set(graph, [n for n, side in graph.nodes(data="bipartite") if side == 0])
    assert graph.edges[("user", 2), ("item", 1)]["weight"] == 2.0
    assert (graph.number_of_nodes(), graph.number_of_edges()) == (10, 6)


def test_repeated_and_weighted_entries_are_one_edge() -> None:
    twice = sp.csr_matrix((np.array([2.0, 3.0, 1.0]), np.array([1, 1, 0]), np.array([0, 2, 3])), shape=(2, 2))
    assert degree_report(twice)["mean"].tolist() == [1.0, 1.0]
    assert connected_components(twice).sizes["num_edges"].sum() == 2


def test_what_does_not_fit() -> None:
    with pytest.raises(DataError, match="items: give indices"):
        why_cold(PATH, items=[True, False, True])
    with pytest.raises(ConfigError, match="must be at least 1"):
        reachability_report(PATH, hops=(0,))
    with pytest.raises(DataError, match="reaches nothing"):
        reachability_report(sp.csr_matrix((0, 3)))
    with pytest.raises(DataError, match="modality 'text'"):
        why_cold(PATH, {"text": np.ones(4, bool)})
    with pytest.raises(DataError, match="neighbours has the shape"):
        why_cold(PATH, neighbours=PATH[:4])
    with pytest.raises(DataError, match="indices run from 0 to 4"):
        why_cold(PATH, items=[5])
    with pytest.raises(DataError, match="too many for networkx"):
        to_networkx(sp.csr_matrix(np.ones((1001, 1000), dtype=np.float32)))
