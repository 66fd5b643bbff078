"""The sampler draws fairly, without repeats, hop by hop, and serves PyG's own loaders."""

from collections import Counter
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gnnrec.errors import ConfigError, UnsupportedError
from gnnrec.geometric import EdgeSamplerInput, HeteroData, LinkLoader, NodeLoader, NodeSamplerInput
from gnnrec.graph.sampling import NeighbourSampler, SharedNegatives

# Item 0 is liked by users 0 to 4, item 1 by user 4, item 2 by nobody.
TO_ITEM = [[0, 1, 2, 3, 4, 4], [0, 0, 0, 0, 0, 1]]


def small_graph() -> HeteroData:
    graph = HeteroData()
    graph["user"].num_nodes, graph["item"].num_nodes = 5, 3
    graph["photo"].x = torch.arange(4.0)[:, None]
    to_item = torch.tensor(TO_ITEM)
    graph["user", "interacts", "item"].edge_index = to_item
    graph["user", "interacts", "item"].edge_weight = torch.arange(6.0)
    graph["item", "rev_interacts", "user"].edge_index = to_item.flip(0)
    graph["item", "like", "item"].edge_index = torch.tensor([[2, 0, 1], [0, 1, 0]])  # not sorted by target
    graph["item", "like", "item"].edge_weight = torch.tensor([20.0, 1.0, 10.0])
    graph["photo", "describes", "item"].edge_index = torch.tensor([[0, 1, 2, 3], [2, 1, 1, 0]])
    return graph


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def around(sampler: NeighbourSampler, kind: str, *seeds: int):
    return sampler.sample_from_nodes(NodeSamplerInput(None, torch.tensor(seeds), input_type=kind))


def edges(output, edge_type: tuple[str, str, str]) -> list[tuple[int, int]]:
    """Returns (source, target) by their ids in the graph."""
    source = output.node[edge_type[0]][output.row[edge_type]]
    target = output.node[edge_type[2]][output.col[edge_type]]
    return list(zip(source.tolist(), target.tolist(), strict=True))


def test_a_neighbourhood_is_drawn_from_the_outside_in() -> None:
    output = around(NeighbourSampler(small_graph(), [-1, -1], -1), "item", 0)
    # The seed, what is like it, and what is reached from both in the second hop.
    assert output.node["item"].tolist() == [0, 1, 2, 0, 1]
    assert output.node["user"].tolist() == [0, 1, 2, 3, 4]
    assert sorted(edges(output, ("item", "like", "item"))) == [(1, 0), (2, 0)]
    assert sorted(edges(output, ("user", "interacts", "item"))) == sorted(zip(*TO_ITEM, strict=True))
    assert sorted(edges(output, ("item", "rev_interacts", "user"))) == sorted(zip(*reversed(TO_ITEM), strict=True))
    # Media of all: twice for items that are there twice.
    assert output.node["photo"].tolist() == [0, 1, 2, 3]
    described = Counter(edges(output, ("photo", "describes", "item")))
    assert described == {(0, 2): 1, (1, 1): 2, (2, 1): 2, (3, 0): 2}


def test_edges_lead_from_the_nodes_of_a_hop_to_those_of_the_hop_before() -> None:
    output = around(NeighbourSampler(small_graph(), [-1, -1, -1]), "user", 4)
    hop = {"user": torch.tensor([0, 2, 2, 2, 2, 2]), "item": torch.tensor([1, 1, 3, 3])}
    assert [len(output.node[kind]) for kind in ("user", "item")] == [6, 4]
    for edge_type in (("user", "interacts", "item"), ("item", "rev_interacts", "user")):
        source, target = hop[edge_type[0]][output.row[edge_type]], hop[edge_type[2]][output.col[edge_type]]
        assert (source == target + 1).all()


def test_edges_tell_where_they_lie_in_the_graph() -> None:
    graph = small_graph()
    output = around(NeighbourSampler(graph, [2], 1, generator=generator()), "item", 0, 1, 2)
    for edge_type in output.row:
        given_edges = graph[edge_type].edge_index[:, output.edge[edge_type]].T.tolist()
        assert edges(output, edge_type) == [tuple(edge) for edge in given_edges]


@given(degrees=st.lists(st.integers(0, 12), min_size=1, max_size=8), count=st.integers(-1, 14), seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_neighbours_are_different_and_no_more_than_asked(degrees: list[int], count: int, seed: int) -> None:
    output = around(NeighbourSampler(star(degrees), [count], generator=generator(seed)), "item", *range(len(degrees)))
    drawn = Counter(target for _, target in set(edges(output, ("user", "interacts", "item"))))
    wanted = [degree if count < 0 else min(degree, count) for degree in degrees]
    assert [drawn[item] for item in range(len(degrees))] == wanted
    assert len(output.row["user", "interacts", "item"]) == sum(wanted)


def star(degrees: list[int]) -> HeteroData:
    """Items with users of their own."""
    graph = HeteroData()
    graph["item"].num_nodes, graph["user"].num_nodes = len(degrees), max(sum(degrees), 1)
    item = torch.arange(len(degrees)).repeat_interleave(torch.tensor(degrees))
    graph["user", "interacts", "item"].edge_index = torch.stack([torch.arange(len(item)), item])
    return graph


def test_every_set_of_neighbours_is_equally_likely() -> None:
    draws = 6000
    sampler = NeighbourSampler(star([2, 5]), [3], generator=generator())
    output = around(sampler, "item", *[1] * draws)
    user, copy = output.node["user"][output.row["user", "interacts", "item"]], output.col["user", "interacts", "item"]
    sets = user[copy.argsort(stable=True)].view(draws, 3).sort(dim=1).values
    times = Counter(map(tuple, sets.tolist()))
    expected = draws / 10
    assert set(times) == set(combinations(range(2, 7), 3))
    # Chi-squared of 9 degrees of freedom: above 27.9 once in a thousand.
    assert sum((count - expected) ** 2 / expected for count in times.values()) < 27.9


def test_a_node_draws_anew_in_every_hop() -> None:
    sampler = NeighbourSampler(small_graph(), [1, 1, 1], generator=generator())
    drawn = []
    for _ in range(200):
        output = around(sampler, "item", 0)
        by_hop = output.node["user"][output.row["user", "interacts", "item"]]
        if output.node["item"].tolist() == [0, 0]:
            drawn.append(tuple(by_hop.tolist()))
    first, second = torch.tensor(drawn).T
    # User 4 leads away from item 0 half of the time, so it is seldom the first; who is the second is left to chance.
    share = (torch.bincount(second, minlength=5) / len(second)).tolist()
    assert share == pytest.approx([0.2] * 5, abs=0.1)
    assert 0.1 < (first == second).float().mean() < 0.3


def test_a_generator_fixes_the_sample() -> None:
    def sample(seed: int) -> dict[str, Tensor]:
        return around(NeighbourSampler(small_graph(), [2, 1], 1, generator=generator(seed)), "item", 0, 1).node

    first, again, other = (sample(seed) for seed in (0, 0, 3))
    assert {kind: node.tolist() for kind, node in first.items()} == {k: node.tolist() for k, node in again.items()}
    assert {kind: node.tolist() for kind, node in first.items()} != {k: node.tolist() for k, node in other.items()}


def test_the_node_loader_of_pyg_loads_features_and_weights() -> None:
    graph = small_graph()
    loader = NodeLoader(
        graph, NeighbourSampler(graph, [-1], -1), input_nodes=("item", torch.tensor([1, 2, 0])), batch_size=2
    )
    first, second = loader
    assert first["item"].n_id[: first["item"].batch_size].tolist() == [1, 2]
    assert second["item"].n_id.tolist() == [0, 1, 2]
    assert second["user", "interacts", "item"].edge_weight.tolist() == [0, 1, 2, 3, 4, 5]
    assert second["item", "like", "item"].edge_weight.tolist() == [20, 10]
    assert first["photo"].x.flatten().tolist() == [0, 1, 2, 3]
    assert second["photo"].n_id.tolist() == [0, 1, 2, 3]


def test_all_edges_may_share_their_negatives() -> None:
    graph = small_graph()
    draws = iter([torch.tensor([2, 2, 0]), torch.tensor([], dtype=torch.int64)])
    pairs = (("user", "interacts", "item"), graph["user", "interacts", "item"].edge_index)
    negatives = SharedNegatives(lambda: next(draws))
    loader = LinkLoader(graph, NeighbourSampler(graph, [1]), pairs, neg_sampling=negatives, batch_size=4)
    given_pairs, shared = [], []
    for batch in loader:
        users, items = batch["user"], batch["item"]
        given_pairs += zip(users.n_id[users.src_index].tolist(), items.n_id[items.dst_pos_index].tolist(), strict=True)
        shared.append(items.n_id[items.dst_neg_index].tolist())
    assert given_pairs == list(zip(*TO_ITEM, strict=True))
    assert shared == [[2, 2, 0], []]


def test_other_negatives_are_refused() -> None:
    pairs = (("user", "interacts", "item"), small_graph()["user", "interacts", "item"].edge_index)
    loader = LinkLoader(small_graph(), NeighbourSampler(small_graph(), [1]), pairs, neg_sampling="binary")
    with pytest.raises(UnsupportedError, match="not NegativeSampling"):
        next(iter(loader))


def test_batches_say_which_edges_they_are_of() -> None:
    graph = small_graph()
    pairs = (("user", "interacts", "item"), graph["user", "interacts", "item"].edge_index)
    for negatives in (None, SharedNegatives(lambda: pairs[1][1])):
        loader = LinkLoader(graph, NeighbourSampler(graph, [1]), pairs, neg_sampling=negatives, batch_size=4)
        assert [batch["user", "interacts", "item"].input_id.tolist() for batch in loader] == [[0, 1, 2, 3], [4, 5]]


def test_seed_edges_within_one_node_type_share_their_nodes() -> None:
    index = EdgeSamplerInput(None, torch.tensor([2, 1]), torch.tensor([0, 2]), input_type=("item", "like", "item"))
    output = NeighbourSampler(small_graph(), []).sample_from_edges(index)
    assert output.node["item"].tolist() == [0, 1, 2]
    assert output.metadata[1].tolist() == [[2, 1], [0, 2]]


def test_numbers_of_neighbours_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"-1 \(all\) or more, got \[3, -2, 0\]"):
        NeighbourSampler(small_graph(), [3, -2])


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_samples_are_drawn_where_the_graph_is() -> None:
    graph = small_graph().to("cuda")
    sampler = NeighbourSampler(graph, [2, 2], 1, generator=torch.Generator("cuda").manual_seed(0))
    output = around(sampler, "item", 0, 1)
    assert all(node.is_cuda for node in output.node.values())
    assert set(edges(output, ("user", "interacts", "item"))) <= set(zip(*TO_ITEM, strict=True))
