"""What a model computes on samples of a graph is, on average, what it computes on the whole graph."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import Tensor
from torch.func import functional_call

from gnnrec.geometric import HeteroData, LinkLoader
from gnnrec.graph.build import GraphConfig, build_graph
from gnnrec.graph.sampling import NeighbourSampler, SharedNegatives
from gnnrec.modalities.features import Features
from gnnrec.nn.architectures import ARCHITECTURES, build_model
from gnnrec.nn.message_graph import MessageGraph
from gnnrec.nn.model import Embeddings, GraphModel
from gnnrec.nn.model_config import ModelConfig
from gnnrec.nn.sampled_graph import graph_to_sample, sampled_message_graph
from gnnrec.nn.warm_start import tables_of_nodes

USERS, ITEMS = 12, 10
SAMPLES = 400
SEEDS = torch.tensor([[0, 1, 2, 3], [4, 3, 2, 9]])  # users and items; item 9 is new
# Nothing but the decoder is not linear in the layers.
LINEAR = ModelConfig(embedding_dim=4, hops=3, decoder="dot", item_bias=False, relation_weight=0.5)


@pytest.fixture(scope="module")
def graph() -> MessageGraph:
    """Weighted pairs, two pictures of some items and none of others, and relations of items and of users."""
    rng = np.random.default_rng(0)
    pairs = sp.csr_matrix(np.pad(rng.random((USERS, ITEMS - 1)) < 0.4, [(0, 0), (0, 1)]).astype(np.float32))
    weights = pairs.multiply(rng.uniform(0.5, 2, pairs.shape)).tocsr()
    owner = np.array([0, 0, 1, 2, 3, 4, 5, 6, 9, 9])
    features = {
        "photo": Features("photo", "item", rng.normal(size=(10, 3)).astype(np.float32), owner),
        "bio": Features("bio", "user", rng.normal(size=(USERS, 2)).astype(np.float32), np.arange(USERS)),
    }
    config = GraphConfig(similar_items=4, co_occurring_items=4, co_occurring_users=4, minimum_shared=1)
    return MessageGraph.from_hetero_data(build_graph(pairs, features, config=config, weights=weights))


def model_of(graph: MessageGraph, config: ModelConfig) -> GraphModel:
    torch.manual_seed(0)
    model = build_model(graph.shape, config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))  # nothing is zero, where models like to start
    return model


def loader(graph: MessageGraph, neighbours: tuple[int, ...], related: int) -> LinkLoader:
    data = graph_to_sample(graph)
    sampler = NeighbourSampler(data, neighbours, related, generator=torch.Generator().manual_seed(0))
    return LinkLoader(data, sampler, edge_label_index=(("user", "interacts", "item"), SEEDS))


def embed(model: GraphModel, sample: HeteroData, tables: Mapping[str, str]) -> Embeddings:
    weights = model.state_dict(keep_vars=True)
    rows = {name: weights[name][sample[kind].n_id] for name, kind in tables.items()}
    embeddings: Embeddings = functional_call(model, rows, (sampled_message_graph(sample),))
    return embeddings


def embed_seeds(model: GraphModel, load: LinkLoader, tables: Mapping[str, str]) -> tuple[Tensor, Tensor]:
    """Embeds users and items of the seeds on a sample."""
    sample = load(torch.arange(SEEDS.shape[1]))
    embeddings = embed(model, sample, tables)
    user, item = sample["user", "interacts", "item"].edge_label_index
    return embeddings.user[user], embeddings.item[item]


def flat_gradient(loss: Tensor, model: GraphModel) -> Tensor:
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    gradients = torch.autograd.grad(loss, weights, allow_unused=True)
    return torch.cat(
        [torch.zeros_like(w).flatten() if g is None else g.flatten() for w, g in zip(weights, gradients, strict=True)]
    )


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_all_neighbours_give_every_model_what_the_whole_graph_gives(name: str, graph: MessageGraph) -> None:
    model = model_of(graph, ModelConfig(architecture=name, embedding_dim=6, hops=2))
    assert model.can_be_sampled == (name != "mgcn")
    if not model.can_be_sampled:
        pytest.skip(f"{name} looks further than its hops")
    whole = model(graph)
    user, item = embed_seeds(model, loader(graph, (-1, 99), 99), tables_of_nodes(graph.shape, model.config))
    torch.testing.assert_close(user, whole.user[SEEDS[0]])
    torch.testing.assert_close(item, whole.item[SEEDS[1]])
    toward = torch.randn_like(user)
    expected = flat_gradient((whole.user[SEEDS[0]] * toward).sum() + whole.item[SEEDS[1]].square().sum(), model)
    gradient = flat_gradient((user * toward).sum() + item.square().sum(), model)
    torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-4)


def test_samples_have_the_whole_graph_as_their_expectation(graph: MessageGraph) -> None:
    model = model_of(graph, LINEAR)
    load, tables = loader(graph, (2, 1, 2), 2), tables_of_nodes(graph.shape, LINEAR)
    identities = [weight for name, weight in model.named_parameters() if name.endswith("identity.weight")]
    toward = torch.randn(2, 4, 4)

    def values(user: Tensor, item: Tensor) -> Tensor:
        """Embeddings of the seeds, and the gradient of a linear function of them."""
        gradient = torch.autograd.grad((torch.stack([user, item]) * toward).sum(), identities)
        return torch.cat([part.detach().flatten() for part in (user, item, *gradient)])

    whole = model(graph)
    expected = values(whole.user[SEEDS[0]], whole.item[SEEDS[1]])
    samples = torch.stack([values(*embed_seeds(model, load, tables)) for _ in range(SAMPLES)])
    deviation = samples.std(dim=0)
    varies = deviation > 1e-6
    assert varies[: toward.numel()].all()
    torch.testing.assert_close(samples.mean(dim=0)[~varies], expected[~varies])
    z = ((samples.mean(dim=0) - expected) / deviation * SAMPLES**0.5)[varies]
    assert z.abs().max() < 4.5  # once in a thousand among 120 independent numbers


def test_degrees_and_labels_are_those_of_the_whole_graph(graph: MessageGraph) -> None:
    labelled = MessageGraph(**{**vars(graph), "labels": {"price": torch.arange(10.0)}})
    load = loader(labelled, (1,), 1)
    sample = load(torch.arange(4))
    small = sampled_message_graph(sample)
    assert small.user_degree.tolist() == graph.user_degree[sample["user"].n_id].tolist()
    assert small.item_degree.tolist() == graph.item_degree[sample["item"].n_id].tolist()
    assert small.labels["price"].tolist() == sample["item"].n_id.tolist()


def test_media_are_those_of_the_nodes(graph: MessageGraph) -> None:
    sample = loader(graph, (2,), 1)(torch.arange(4))
    small = sampled_message_graph(sample)
    for name, kind in (("photo", "item"), ("bio", "user")):
        of_node = {node: [] for node in range(12)}
        for x, owner in zip(graph.x_dict[name].tolist(), graph.owner_dict[name].tolist(), strict=True):
            of_node[owner].append(x)
        got = [[] for _ in sample[kind].n_id]
        for x, owner in zip(small.x_dict[name].tolist(), small.owner_dict[name].tolist(), strict=True):
            got[owner].append(x)
        assert got == [of_node[node] for node in sample[kind].n_id.tolist()]


def test_an_epoch_may_have_edges_of_its_own(graph: MessageGraph) -> None:
    model = model_of(graph, LINEAR)
    kept = replace(graph, interactions=graph.sampled_interactions(0.5, torch.Generator().manual_seed(0)))
    data = graph_to_sample(kept)
    assert data["user", "interacts", "item"].num_edges == round(0.5 * graph.edge_index.shape[1])
    pairs = (("user", "interacts", "item"), SEEDS)
    load = LinkLoader(data, NeighbourSampler(data, (-1, -1, -1), -1), edge_label_index=pairs)
    user, item = embed_seeds(model, load, tables_of_nodes(graph.shape, LINEAR))
    whole = model(kept)
    torch.testing.assert_close(user, whole.user[SEEDS[0]])
    torch.testing.assert_close(item, whole.item[SEEDS[1]])


def test_negatives_are_embedded_too(graph: MessageGraph) -> None:
    model = model_of(graph, LINEAR)
    data = graph_to_sample(graph)
    pairs = (("user", "interacts", "item"), SEEDS)
    shared = SharedNegatives(lambda: torch.tensor([8, 1, 4]))
    load = LinkLoader(data, NeighbourSampler(data, (-1, -1, -1), -1), edge_label_index=pairs, neg_sampling=shared)
    sample = load(torch.arange(4))
    item = embed(model, sample, tables_of_nodes(graph.shape, LINEAR)).item
    negative = sample["item"].dst_neg_index
    torch.testing.assert_close(item[negative], model(graph).item[sample["item"].n_id[negative]])
