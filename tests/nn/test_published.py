"""Every published model against its paper's equations, written out densely and one node at a time."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gnnrec.errors import ConfigError, UnsupportedError
from gnnrec.nn.architectures import ARCHITECTURES, build_model
from gnnrec.nn.message_graph import GraphShape, MessageGraph
from gnnrec.nn.model import GraphModel
from gnnrec.nn.model_config import ModelConfig
from gnnrec.nn.propagate import bipartite_operator
from gnnrec.presets import RecommenderConfig
from gnnrec.training.config import TrainingConfig
from gnnrec.training.objective import Objective
from gnnrec.training.steps import Step

MakeGraph = Callable[..., MessageGraph]
DIM, HOPS = 8, 2
PUBLISHED = [name for name in ARCHITECTURES if name != "multimodal"]
SHARES = {"image": 0.1, "content": 0.9}


def model_of(graph: MessageGraph, architecture: str, **options) -> GraphModel:
    torch.manual_seed(0)
    options = {"embedding_dim": DIM, "hops": HOPS, "decoder": "dot", "modality_shares": {"image": 0.1}, **options}
    model = build_model(graph.shape, ModelConfig(architecture=architecture, **options)).eval()
    for parameter in model.parameters():  # nothing may hide behind a zero
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def layers_mean(graph: MessageGraph, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
    """LightGCN, eq. 3 and 4, with a dense adjacency."""
    link = torch.zeros(graph.num_users, graph.num_items)
    link[graph.edge_index[0], graph.edge_index[1]] = 1
    link = link / link.sum(1, keepdim=True).clamp(min=1).sqrt() / link.sum(0, keepdim=True).clamp(min=1).sqrt()
    users, items = [user], [item]
    for _ in range(HOPS):
        users, items = [*users, link @ items[-1]], [*items, link.T @ users[-1]]
    return torch.stack(users).mean(0), torch.stack(items).mean(0)


def item_vectors(graph: MessageGraph, name: str, *, unit: bool = False) -> Tensor:
    """The mean of an item's rows; not a number where there are none."""
    x, owner = graph.x_dict[name], graph.owner_dict[name]
    x = F.normalize(x) if unit else x
    return torch.stack([x[owner == item].mean(0) for item in range(graph.num_items)])


def item_graph(graph: MessageGraph, name: str, binary: bool, k: int = 4) -> Tensor:
    """Cosine k-NN with the item itself among its neighbours, normalised by both degrees."""
    x = F.normalize(item_vectors(graph, name, unit=True))
    cosine = (x @ x.T).nan_to_num(-1.0)
    link = torch.zeros_like(cosine)
    for item in range(graph.num_items):
        for other in cosine[item].topk(k).indices:
            if cosine[item, other] > 0:
                link[item, other] = 1.0 if binary else cosine[item, other]
    degree = link.sum(1).clamp(min=1e-9).sqrt()
    return link / degree[:, None] / degree[None, :]


def projected(model: GraphModel, graph: MessageGraph, name: str) -> Tensor:
    layer = model.content.alignment.projections[model.content.names.index(name)][0]
    x = item_vectors(graph, name)
    if len(model.content.offsets):
        x = x + model.content.offsets[model.content.names.index(name)]
    return layer(x).nan_to_num(0.0)


def bipartite(graph: MessageGraph, x: Tensor) -> Tensor:
    """One hop from items to users."""
    result = torch.zeros(graph.num_users, x.shape[1])
    for user, item in graph.edge_index.T.tolist():
        result[user] += x[item] / (graph.user_degree[user] * graph.item_degree[item]).sqrt()
    return result


def known(weight: Tensor, degree: Tensor) -> Tensor:
    return weight * (degree > 0)[:, None]


def test_lightgcn(media_graph: MakeGraph) -> None:
    graph = media_graph()
    model = model_of(graph, "lightgcn")
    user, item = model.identities.user.weight, known(model.identities.item.weight, graph.item_degree)
    expected = layers_mean(graph, user, item)
    out = model(graph)
    torch.testing.assert_close((out.user, out.item), expected)


def test_vbpr(media_graph: MakeGraph) -> None:
    graph = media_graph()
    model = model_of(graph, "vbpr")
    visual = projected(model, graph, "content") + projected(model, graph, "image")
    factors, visual_bias = visual[:, :DIM], visual[:, DIM]
    latent = known(model.latent.item.weight, graph.item_degree)
    bias = known(model.bias.weight, graph.item_degree)[:, 0]
    expected = model.latent.user.weight @ latent.T + model.taste.weight @ factors.T + bias + visual_bias
    out = model(graph)
    torch.testing.assert_close(out.user @ out.item.T, expected)


@pytest.mark.parametrize("item_hops", [1, 2])
def test_freedom(media_graph: MakeGraph, item_hops: int) -> None:
    graph = media_graph("freedom")
    model = model_of(graph, "freedom", item_hops=item_hops)
    identity = model.identities.item.weight
    fused = sum(share * item_graph(graph, name, binary=True) for name, share in SHARES.items())
    user, item = layers_mean(graph, model.identities.user.weight, identity)
    out = model(graph)
    torch.testing.assert_close(out.user, user)
    torch.testing.assert_close(out.item, item + torch.linalg.matrix_power(fused, item_hops) @ identity)
    views = model.train()(graph).views
    assert views.keys() == {"content.content", "content.image"}
    for name in SHARES:
        torch.testing.assert_close(views[f"content.{name}"], projected(model, graph, name))


def test_bm3(media_graph: MakeGraph) -> None:
    graph = media_graph()
    model = model_of(graph, "bm3")
    identity = known(model.identities.item.weight, graph.item_degree)
    user, item = layers_mean(graph, model.identities.user.weight, identity)
    out = model.train()(graph)
    torch.testing.assert_close(out.user, user @ model.predictor.weight.T + model.predictor.bias)
    torch.testing.assert_close(out.item, (item + identity) @ model.predictor.weight.T + model.predictor.bias)
    torch.testing.assert_close(out.user_mixed, user)
    torch.testing.assert_close(out.views["item"], item + identity)
    content = projected(model, graph, "image")
    torch.testing.assert_close(out.views["content.image"], content)
    torch.testing.assert_close(out.views["predicted.image"], model.predictor(content))


@pytest.mark.parametrize("item_hops", [1, 2])
def test_mgcn(media_graph: MakeGraph, item_hops: int) -> None:
    graph = media_graph("lattice")
    model = model_of(graph, "mgcn", item_hops=item_hops)
    identity = model.identities.item.weight
    behaviour = torch.cat(layers_mean(graph, model.identities.user.weight, identity))
    views = []
    for gate, name in zip(model.purifiers, model.names, strict=True):
        purified = identity * torch.sigmoid(gate[0](projected(model, graph, name)))
        of_items = torch.linalg.matrix_power(item_graph(graph, name, binary=False), item_hops) @ purified
        views.append(torch.cat([bipartite(graph, of_items), of_items]))
    side = torch.zeros_like(behaviour)
    for node in range(len(behaviour)):
        logit = torch.cat([model.query[2](torch.tanh(model.query[0](view[node]))) for view in views])
        share = logit.exp() / logit.exp().sum()
        common = sum(a * view[node] for a, view in zip(share, views, strict=True))
        own = sum(
            torch.sigmoid(gate[0](behaviour[node])) * (view[node] - common)
            for gate, view in zip(model.preferences, views, strict=True)
        )
        side[node] = (common + own) / 3
    out = model(graph)
    torch.testing.assert_close(out.views["side"], side)
    torch.testing.assert_close(torch.cat([out.user, out.item]), behaviour + side)


def test_pgl(media_graph: MakeGraph) -> None:
    graph = media_graph("freedom")
    model = model_of(graph, "pgl", fine_tune_features=True)
    identity = torch.cat([F.normalize(projected(model, graph, name)) for name in model.content.names], dim=1)
    assert identity.shape[1] == 2 * DIM
    fused = sum(share * item_graph(graph, name, binary=True) for name, share in SHARES.items())
    user, item = layers_mean(graph, model.user.weight, identity)
    out = model(graph)
    torch.testing.assert_close(out.user, user)
    torch.testing.assert_close(out.item, item + fused @ identity)


def hidden_layer(content: torch.nn.Module, graph: MessageGraph) -> Tensor:
    """All modalities of an item through one linear layer; a missing one gives nothing."""
    total = torch.zeros(graph.num_items, content.dim)
    for name, projection in zip(content.names, content.alignment.projections, strict=True):
        total += projection[0](item_vectors(graph, name)).nan_to_num(0.0)
    return total


@pytest.mark.parametrize("architecture", ["clcrec", "generative"])
def test_an_item_is_its_identity_or_its_content(architecture: str, media_graph: MakeGraph) -> None:
    graph = media_graph()
    model = model_of(graph, architecture)
    encoding = model.encoder.last(F.leaky_relu(hidden_layer(model.encoder.first, graph)))
    hidden = torch.arange(graph.num_items) % 3 == 0
    new = graph.item_degree == 0
    assert new.any()
    for hidden_items, as_content in ((None, new), (hidden, new | hidden)):
        out = model(graph, hidden_items=hidden_items)
        torch.testing.assert_close(out.user, model.identities.user.weight)
        torch.testing.assert_close(out.item[as_content], encoding[as_content])
        torch.testing.assert_close(out.item[~as_content], model.identities.item.weight[~as_content])
        torch.testing.assert_close(out.views["encoding"], encoding)
    assert model.hides_items == (architecture == "clcrec")


def test_dropoutnet(media_graph: MakeGraph) -> None:
    graph = media_graph()
    model = model_of(graph, "dropoutnet")
    first, _, last = model.user_network
    hidden = torch.arange(graph.num_items) % 3 == 0
    for hidden_items in (None, hidden):
        out = model(graph, hidden_items=hidden_items)
        torch.testing.assert_close(out.user, last(torch.tanh(first(model.latent.user.weight))))
        latent = known(model.latent.item.weight, graph.item_degree)
        if hidden_items is not None:
            latent = latent * ~hidden_items[:, None]
        side_by_side = latent @ model.from_latent.weight.T + hidden_layer(model.from_content, graph)
        torch.testing.assert_close(out.item, model.item_network[1](torch.tanh(side_by_side)))


@pytest.mark.parametrize("architecture", ["vbpr", "dropoutnet", "clcrec", "generative"])
def test_a_new_item_is_what_the_forward_pass_makes_of_one_without_interactions(
    architecture: str, media_graph: MakeGraph
) -> None:
    graph = media_graph()
    model = model_of(graph, architecture)
    new = model.new_items(model.sent_by_new_items(graph.x_dict, graph.owner_dict, graph.num_items), {})
    cold = graph.item_degree == 0
    torch.testing.assert_close(new.item[cold], model(graph).item[cold])
    assert not torch.allclose(new.item[~cold], model(graph).item[~cold])


TRAINING = {
    "lightgcn": {"loss": "bpr", "auxiliary": {"regularisation": 0.1}},
    "vbpr": {"loss": "bpr", "auxiliary": {"regularisation": 0.1}},
    "freedom": {"loss": "bpr", "auxiliary": {"content-ranking": 0.1}},
    "bm3": {"loss": "bootstrap", "auxiliary": {"content-bootstrap": 2.0, "norm-regularisation": 0.1}},
    "mgcn": {"loss": "bpr", "auxiliary": {"view-contrast": 0.1, "output-regularisation": 0.1}},
    "pgl": {"loss": "bpr", "auxiliary": {"dropout-contrast": 0.1}, "view_dropout": 0.2},
    "dropoutnet": {},
    "clcrec": {"auxiliary": {"identity-contrast": 1.0}},
    "generative": {"auxiliary": {"identity-prediction": 1.0}},
}


@pytest.mark.parametrize("architecture", PUBLISHED)
def test_every_parameter_learns(architecture: str, media_graph: MakeGraph) -> None:
    graph = media_graph()
    model = model_of(graph, architecture, fine_tune_features=True).train()
    objective = Objective(graph, TrainingConfig(**TRAINING[architecture]))
    pairs = torch.arange(graph.edge_index.shape[1])
    step = objective.drawn(Step(graph, pairs, *graph.edge_index), torch.Generator().manual_seed(0))
    terms = objective(model(graph), step)
    torch.stack(list(terms.values())).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("architecture", PUBLISHED)
def test_a_user_without_interactions_is_nobody_in_particular(architecture: str, media_graph: MakeGraph) -> None:
    """All zeros, by which serving knows to answer with the average taste."""
    graph = media_graph()
    num_users = graph.num_users + 1
    with_nobody = replace(
        graph,
        num_users=num_users,
        interactions=bipartite_operator(graph.edge_index, num_users, graph.num_items),
        user_degree=F.pad(graph.user_degree, (0, 1)),
    )
    with torch.no_grad():
        user = model_of(with_nobody, architecture)(with_nobody).user_mixed
    assert user[:-1].any(dim=1).all()
    assert not user[-1].any()


@pytest.mark.parametrize("architecture", PUBLISHED)
def test_decoding_gives_the_users(architecture: str, media_graph: MakeGraph) -> None:
    graph = media_graph()
    for decoder in ("dot", "cosine"):
        model = model_of(graph, architecture, decoder=decoder)
        out = model(graph)
        torch.testing.assert_close(model.decode(out.user_mixed), out.user)
        torch.testing.assert_close(out.of_users(torch.tensor([3, 0, 3])), out.user[[3, 0, 3]])
        lengths = (out.user[:, :-1] if model.has_item_bias else out.user).norm(dim=1)
        assert torch.allclose(lengths, torch.ones(graph.num_users)) == (decoder == "cosine")


@pytest.mark.parametrize("architecture", ["freedom", "mgcn", "pgl"])
def test_a_sample_of_the_interactions_changes_the_layers(architecture: str, media_graph: MakeGraph) -> None:
    graph = media_graph()
    model = model_of(graph, architecture)
    sampled = replace(graph, interactions=graph.sampled_interactions(0.3, torch.Generator().manual_seed(0)))
    assert not torch.allclose(model(sampled).user, model(graph).user)


@pytest.mark.parametrize("architecture", [name for name in PUBLISHED if name != "lightgcn"])
def test_media_are_needed(architecture: str) -> None:
    with pytest.raises(ConfigError, match=f"{architecture}.*modalities"):
        build_model(GraphShape(num_users=3, num_items=2), ModelConfig(architecture=architecture))


@pytest.mark.parametrize("architecture", ["freedom", "mgcn", "pgl"])
def test_item_graphs_are_needed(architecture: str, message_graph: MakeGraph) -> None:
    with pytest.raises(ConfigError, match=f"{architecture}.*similar_items"):
        build_model(message_graph().shape, ModelConfig(architecture=architecture))


@pytest.mark.parametrize("architecture", ["lightgcn", "bm3"])
def test_new_items_are_refused_where_nothing_is_known_of_them(architecture: str, media_graph: MakeGraph) -> None:
    model = model_of(media_graph(), architecture)
    assert not model.takes_new_items
    with pytest.raises(UnsupportedError, match=architecture):
        model.sent_by_new_items({}, {}, 2)
    with pytest.raises(UnsupportedError, match=architecture):
        model.new_items(torch.zeros(2, DIM), {})


def test_unknown_architectures_are_named() -> None:
    with pytest.raises(ConfigError, match="'fredom'; did you mean 'freedom'"):
        build_model(GraphShape(num_users=3, num_items=2), ModelConfig(architecture="fredom"))
    with pytest.raises(ConfigError, match="'fredom'; did you mean 'freedom'"):
        RecommenderConfig(model=ModelConfig(architecture="fredom"))


def test_new_items_of_pgl_hear_neighbours_only_where_known_ones_do(media_graph: MakeGraph) -> None:
    graph = media_graph("freedom")
    model = model_of(graph, "pgl", item_hops=0)
    sent = model(graph).item_sent
    heard = {name: torch.ones_like(sent) for name in model.shares}
    unheard = graph.item_degree == 0
    assert unheard.any()
    new = model.new_items(sent[unheard], {name: message[unheard] for name, message in heard.items()})
    torch.testing.assert_close(new.item, model(graph).item[unheard])


def test_biases_of_vbpr_have_no_part_in_cosines(media_graph: MakeGraph) -> None:
    graph = media_graph()
    out = model_of(graph, "vbpr", decoder="cosine")(graph)
    as_products = model_of(graph, "vbpr")(graph)
    known = graph.user_degree > 0
    torch.testing.assert_close(out.user[known, :-1], F.normalize(as_products.user[known, :-1]))
    assert (out.user[known, -1] == 1).all()
    torch.testing.assert_close(out.item[:, -1], as_products.item[:, -1])
    torch.testing.assert_close(out.item[:, :-1].norm(dim=1), torch.ones(graph.num_items))
