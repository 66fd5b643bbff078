import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.nn import LGConv, LightGCN

from gnnrec.nn.propagate import RelationMixing, bipartite_operator, propagate, row_normalised_operator

NUM_USERS, NUM_ITEMS, DIM = 7, 5, 4


def random_pairs(seed: int, num_users: int = NUM_USERS, num_items: int = NUM_ITEMS) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    pairs = np.stack(np.nonzero(rng.random((num_users, num_items)) < 0.5))
    return torch.from_numpy(pairs)


def stacked(edge_index: torch.Tensor, num_users: int) -> torch.Tensor:
    """Both directions in one index space, as PyG's LightGCN takes them."""
    shifted = torch.stack([edge_index[0], edge_index[1] + num_users])
    return torch.cat([shifted, shifted.flip(0)], dim=1)


@pytest.mark.parametrize("hops", [0, 1, 2, 3])
def test_equals_the_light_gcn_of_pyg(hops: int) -> None:
    edge_index = random_pairs(0)
    reference = LightGCN(NUM_USERS + NUM_ITEMS, DIM, num_layers=hops)
    x = reference.embedding.weight
    propagated, _ = propagate(bipartite_operator(edge_index, NUM_USERS, NUM_ITEMS), x, hops)
    expected = reference.get_embedding(stacked(edge_index, NUM_USERS))
    torch.testing.assert_close(propagated, expected)

    # ... and so do the gradients with respect to the same weights
    target = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    (ours,) = torch.autograd.grad((propagated * target).sum(), x)
    (theirs,) = torch.autograd.grad((expected * target).sum(), x)
    torch.testing.assert_close(ours, theirs)


def test_one_application_is_one_layer_of_pyg() -> None:
    edge_index = random_pairs(1)
    x = torch.randn(NUM_USERS + NUM_ITEMS, DIM, generator=torch.Generator().manual_seed(0))
    layer = bipartite_operator(edge_index, NUM_USERS, NUM_ITEMS) @ x
    torch.testing.assert_close(layer, LGConv()(x, stacked(edge_index, NUM_USERS)))


def test_weights_multiply_and_degrees_are_their_sums() -> None:
    edge_index = random_pairs(1)
    weight = torch.rand(edge_index.shape[1], generator=torch.Generator().manual_seed(0)) + 0.1
    dense = torch.zeros(NUM_USERS, NUM_ITEMS).index_put_(tuple(edge_index), weight)
    rows, columns = (total.clamp(min=1e-12).rsqrt() for total in (dense.sum(dim=1), dense.sum(dim=0)))
    x = torch.randn(NUM_USERS + NUM_ITEMS, DIM, generator=torch.Generator().manual_seed(0))
    expected = rows[:, None] * dense * columns @ x[NUM_USERS:]
    layer = bipartite_operator(edge_index, NUM_USERS, NUM_ITEMS, weight) @ x
    torch.testing.assert_close(layer[:NUM_USERS], expected)
    scaled = bipartite_operator(edge_index, NUM_USERS, NUM_ITEMS, 3 * weight) @ x
    torch.testing.assert_close(scaled, layer)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), hops=st.integers(1, 4))
def test_a_node_to_which_nobody_listens_is_its_row_times_the_messages(seed: int, hops: int) -> None:
    rng = np.random.default_rng(seed)
    edge_index = random_pairs(seed)
    num_nodes = NUM_USERS + NUM_ITEMS
    x = torch.from_numpy(rng.normal(size=(num_nodes, DIM)).astype(np.float32))
    own = torch.from_numpy(rng.normal(size=DIM).astype(np.float32))
    row = torch.from_numpy((rng.random(num_nodes) * (rng.random(num_nodes) < 0.4)).astype(np.float32))
    known, messages = propagate(bipartite_operator(edge_index, NUM_USERS, NUM_ITEMS), x, hops)

    # The enlarged graph: one more row that hears the others, one more column that nobody hears.
    adjacency = torch.zeros(num_nodes + 1, num_nodes + 1)
    user, item = edge_index
    degree = torch.bincount(stacked(edge_index, NUM_USERS)[0], minlength=num_nodes)
    weight = (degree[user] * degree[item + NUM_USERS]).float().rsqrt()
    adjacency[user, item + NUM_USERS] = weight
    adjacency[item + NUM_USERS, user] = weight
    adjacency[-1, :-1] = row
    layers = [torch.cat([x, own[None]])]
    for _ in range(hops):
        layers.append(adjacency @ layers[-1])
    enlarged = torch.stack(layers).mean(dim=0)

    torch.testing.assert_close(known, enlarged[:-1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(own / (hops + 1) + row @ messages, enlarged[-1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("hops", [0, 1, 2, 3])
def test_neither_pass_writes_into_what_it_is_given(hops: int) -> None:
    operator = bipartite_operator(random_pairs(2), NUM_USERS, NUM_ITEMS)
    x = torch.randn(NUM_USERS + NUM_ITEMS, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    gradient = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    before, gradient_before = x.detach().clone(), gradient.clone()
    propagated, messages = propagate(operator, x, hops)
    propagated.backward(gradient)
    assert not messages.requires_grad
    assert torch.equal(x.detach(), before)
    assert torch.equal(gradient, gradient_before)


def test_without_hops_nothing_is_sent() -> None:
    x = torch.randn(NUM_USERS + NUM_ITEMS, DIM)
    propagated, messages = propagate(bipartite_operator(random_pairs(0), NUM_USERS, NUM_ITEMS), x, 0)
    assert torch.equal(propagated, x)
    assert not messages.any()


def test_each_target_hears_the_weighted_mean_of_its_sources() -> None:
    edge_index = torch.tensor([[0, 1, 3, 2], [2, 2, 2, 0]])
    operator = row_normalised_operator(edge_index, torch.tensor([1.0, 2.0, 1.0, 0.5]), 4)
    x = torch.tensor([[4.0], [8.0], [3.0], [0.0]])
    assert (operator @ x).flatten().tolist() == [3.0, 0.0, 5.0, 0.0]


def test_a_target_whose_weights_are_all_zero_hears_nothing() -> None:
    operator = row_normalised_operator(torch.tensor([[0], [1]]), torch.zeros(1), 2)
    assert (operator @ torch.ones(2, 1)).flatten().tolist() == [0.0, 0.0]


def test_relations_are_mixed_in_with_their_weights() -> None:
    operators = {
        "follows": row_normalised_operator(torch.tensor([[1], [0]]), torch.ones(1), 3),
        "co_occurs": row_normalised_operator(torch.tensor([[0, 2, 0], [1, 1, 2]]), torch.ones(3), 3),
    }
    mixing = RelationMixing(["follows", "co_occurs"], 0.3)
    assert mixing.weights() == pytest.approx({"follows": 0.3, "co_occurs": 0.3})
    with torch.no_grad():
        mixing.logit[1] = 1.0
    strong = float(np.log1p(np.e))
    assert mixing.weights() == pytest.approx({"follows": 0.3, "co_occurs": strong})

    own = torch.tensor([[100.0], [200.0], [300.0]])
    source = torch.tensor([[1.0], [10.0], [5.0]])
    mixed = mixing(own, source, operators, {})
    expected = [100 + 0.3 * 10, 200 + strong * 3, 300 + strong * 1]
    torch.testing.assert_close(mixed.detach().flatten(), torch.tensor(expected))
    hidden = mixing(own, source, operators, {"co_occurs": torch.tensor([False, True, False])})
    torch.testing.assert_close(hidden.detach().flatten(), torch.tensor([expected[0], 200.0, expected[2]]))

    mixed.sum().backward()
    slope = torch.sigmoid(mixing.logit.detach())  # of softplus
    torch.testing.assert_close(mixing.logit.grad, slope * torch.tensor([10.0, 4.0]))
    mixing.reset_parameters()
    assert mixing.weights() == pytest.approx({"follows": 0.3, "co_occurs": 0.3})


def test_without_relations_nodes_keep_what_they_have() -> None:
    own = torch.randn(3, 2)
    assert torch.equal(RelationMixing([], 0.3)(own, own, {}, {}), own)
