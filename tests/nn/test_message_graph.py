import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch_geometric.data import HeteroData

from gnnrec.nn.message_graph import GraphShape, MessageGraph, degree_sensitive_edge_sample
from gnnrec.nn.propagate import bipartite_operator


@pytest.fixture
def hetero() -> HeteroData:
    """Two users, three items; a picture for items 2 and 0, a profile for user 1, and one relation each."""
    graph = HeteroData()
    graph["user"].num_nodes, graph["item"].num_nodes = 2, 3
    graph["user", "interacts", "item"].edge_index = torch.tensor([[0, 0, 1], [0, 1, 1]])
    graph["picture"].x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    graph["picture", "describes", "item"].edge_index = torch.tensor([[0, 1], [2, 0]])
    graph["profile"].x = torch.tensor([[5.0]])
    graph["profile", "describes", "user"].edge_index = torch.tensor([[0], [1]])
    graph["user", "follows", "user"].edge_index = torch.tensor([[0], [1]])
    graph["user", "follows", "user"].edge_weight = torch.tensor([4.0])
    graph["item", "co_occurs", "item"].edge_index = torch.tensor([[0, 1], [2, 2]])
    graph["item", "co_occurs", "item"].edge_weight = torch.tensor([1.0, 3.0])
    return graph


def test_everything_arrives(hetero: HeteroData) -> None:
    graph = MessageGraph.from_hetero_data(hetero)
    assert graph.shape == GraphShape(2, 3, {"profile": 1}, {"picture": 2}, ("follows",), ("co_occurs",))
    assert graph.user_degree.tolist() == [2, 1]
    assert graph.item_degree.tolist() == [1, 2, 0]
    assert graph.owner_dict["picture"].tolist() == [2, 0]
    assert graph.x_dict["picture"].tolist() == [[1, 2], [3, 4]]
    assert graph.described == {"picture": "item", "profile": "user"}
    dense = graph.interactions @ torch.eye(5)
    expected = torch.zeros(5, 5)
    for user, item, weight in [(0, 0, 2**-0.5), (0, 1, 0.5), (1, 1, 2**-0.5)]:
        expected[user, 2 + item] = expected[2 + item, user] = weight
    torch.testing.assert_close(dense, expected)
    assert (graph.relations["user"]["follows"] @ torch.tensor([[7.0], [9.0]])).tolist() == [[0], [7]]
    assert (graph.relations["item"]["co_occurs"] @ torch.tensor([[4.0], [8.0], [0.0]])).tolist() == [[0], [0], [7]]


def test_a_relation_may_be_named_like_the_edges_of_media(hetero: HeteroData) -> None:
    hetero["item", "describes", "item"].edge_index = torch.tensor([[0], [1]])
    hetero["item", "describes", "item"].edge_weight = torch.tensor([1.0])
    graph = MessageGraph.from_hetero_data(hetero)
    assert graph.shape.item_relations == ("co_occurs", "describes")
    assert graph.shape.item_modalities == {"picture": 2}


def test_a_graph_without_interactions_has_no_messages() -> None:
    graph = HeteroData()
    graph["user"].num_nodes, graph["item"].num_nodes = 2, 3
    graph["user", "interacts", "item"].edge_index = torch.zeros(2, 0, dtype=torch.int64)
    assert not (MessageGraph.from_hetero_data(graph).interactions @ torch.ones(5, 2)).any()


def random_edges(num_edges: int, seed: int = 0) -> torch.Tensor:
    """Distinct pairs with skewed degrees."""
    rng = np.random.default_rng(seed)
    user, item = (rng.random((2, 20 * num_edges)) ** 2 * 30).astype(np.int64)
    return torch.from_numpy(rng.permutation(np.unique(np.stack([user, item]), axis=1), axis=1)[:, :num_edges].copy())


@pytest.mark.parametrize("keep", [1e-9, 0.1, 0.33, 0.8, 1.0])
def test_keeps_the_exact_share_of_distinct_edges_in_order(keep: float) -> None:
    edge_index = random_edges(101)
    sample = degree_sensitive_edge_sample(edge_index, keep, torch.Generator().manual_seed(0))
    assert len(sample) == max(1, round(keep * 101))
    assert sample.tolist() == sorted(set(sample.tolist()))
    assert sample.max() < 101


def test_edges_between_popular_nodes_are_kept_less_often() -> None:
    """The first edge of the race is edge (u, i) with probability ∝ 1 / sqrt(degree(u) degree(i)), FREEDOM eq. 8."""
    edge_index = random_edges(15)
    generator = torch.Generator().manual_seed(0)
    num_draws, counts = 3000, np.zeros(15)
    for _ in range(num_draws):
        counts[degree_sensitive_edge_sample(edge_index, 1e-9, generator)] += 1
    degree = [np.bincount(row)[row] for row in edge_index.numpy()]
    probability = 1 / np.sqrt(degree[0] * degree[1])
    probability /= probability.sum()
    assert probability.max() > 2 * probability.min()
    assert chisquare(counts, num_draws * probability).pvalue > 1e-3
    assert chisquare(counts).pvalue < 1e-6  # a uniform draw would be noticed


def test_weights_go_along_with_a_sample(hetero: HeteroData) -> None:
    num_edges = hetero["user", "interacts", "item"].edge_index.shape[1]
    hetero["user", "interacts", "item"].edge_weight = torch.linspace(0.5, 2, num_edges)
    graph = MessageGraph.from_hetero_data(hetero)
    kept = degree_sensitive_edge_sample(graph.edge_index, 0.5, torch.Generator().manual_seed(3))
    expected = bipartite_operator(graph.edge_index[:, kept], graph.num_users, graph.num_items, graph.edge_weight[kept])
    everything = torch.eye(graph.num_users + graph.num_items)
    sample = graph.sampled_interactions(0.5, torch.Generator().manual_seed(3))
    torch.testing.assert_close(sample @ everything, expected @ everything)


def test_a_sample_is_normalised_by_its_own_degrees(hetero: HeteroData) -> None:
    graph = MessageGraph.from_hetero_data(hetero)
    generator = torch.Generator().manual_seed(3)
    dense = graph.sampled_interactions(1 / 3, generator) @ torch.eye(5)
    assert dense.count_nonzero() == 2  # one pair, both ways
    assert dense.sum() == 2  # whose ends have no other edge
    everything = graph.sampled_interactions(1.0, generator) @ torch.eye(5)
    torch.testing.assert_close(everything, graph.interactions @ torch.eye(5))
