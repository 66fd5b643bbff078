from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from gnnrec.errors import ConfigError
from gnnrec.nn.fusion import FUSIONS
from gnnrec.nn.message_graph import MessageGraph
from gnnrec.nn.model_config import ModelConfig
from gnnrec.nn.multimodal import MultimodalGraphModel
from gnnrec.nn.propagate import bipartite_operator, propagate

MakeGraph = Callable[..., MessageGraph]
DIM = 8


def model_of(graph: MessageGraph, **options) -> MultimodalGraphModel:
    torch.manual_seed(0)
    return MultimodalGraphModel(graph.shape, ModelConfig(embedding_dim=DIM, **options)).eval()


def with_user_media(graph: MessageGraph, width: int = 3) -> MessageGraph:
    return replace(
        graph,
        x_dict={**graph.x_dict, "profile": torch.randn(graph.num_users, width)},
        owner_dict={**graph.owner_dict, "profile": torch.arange(graph.num_users)},
        described={**graph.described, "profile": "user"},
    )


def some_items(graph: MessageGraph) -> torch.Tensor:
    """Two items with interactions."""
    mask = torch.zeros(graph.num_items, dtype=torch.bool)
    mask[graph.item_degree.topk(2).indices] = True
    return mask


def test_layers_relations_and_decoder_are_put_together(message_graph: MakeGraph) -> None:
    graph = message_graph(similar_items=3, co_occurring_items=3, co_occurring_users=2)
    model = model_of(graph, hops=2, decoder="cosine")
    out = model(graph)
    layer_zero = torch.cat([model.users.identity.weight, out.layer_zero[graph.num_users :]])
    assert torch.equal(out.layer_zero, layer_zero)  # people without media are their identity
    propagated, messages = propagate(graph.interactions, layer_zero, 2)
    assert torch.equal(out.propagated, propagated)
    assert torch.equal(out.messages, messages)
    user, item = propagated[: graph.num_users], propagated[graph.num_users :]
    for name, operator in graph.relations["item"].items():
        assert name in ("similar_by_content", "co_occurs")
        item = item + model.config.relation_weight * (operator @ propagated[graph.num_users :])
    user = user + model.config.relation_weight * (graph.relations["user"]["co_occurs"] @ user)
    torch.testing.assert_close(out.user_mixed, user)
    torch.testing.assert_close(out.user[:, :-1], user / user.norm(dim=1, keepdim=True))
    torch.testing.assert_close(out.item[:, :-1], item / item.norm(dim=1, keepdim=True))


def test_the_dot_product_leaves_embeddings_as_they_are(message_graph: MakeGraph) -> None:
    graph = message_graph()
    out = model_of(graph, decoder="dot")(graph)
    assert torch.equal(torch.cat([out.user, out.item])[:, :-1], out.propagated)


def test_scores_are_inner_products_plus_the_bias_of_the_item(message_graph: MakeGraph) -> None:
    graph = message_graph()
    model = model_of(graph)
    with torch.no_grad():
        model.item_bias.copy_(torch.arange(graph.num_items) / 10)
        model.new_item_bias.fill_(-7)
    hidden = some_items(graph)
    out = model(graph, hidden_items=hidden)
    new = hidden | (graph.item_degree == 0)
    bias = 0.2 * torch.where(new, -7.0, model.item_bias)
    torch.testing.assert_close(out.user @ out.item.T, out.user[:, :-1] @ out.item[:, :-1].T + bias)
    bias.sum().backward()
    torch.testing.assert_close(model.item_bias.grad, 0.2 * (~new).float())


def test_without_a_bias_all_entries_are_directions(message_graph: MakeGraph) -> None:
    graph = message_graph()
    out = model_of(graph, item_bias=False)(graph)
    assert out.user.shape[1] == out.item.shape[1] == out.propagated.shape[1] == DIM
    norms = torch.cat([out.user, out.item]).norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms))


def test_items_of_which_nothing_is_known_rank_last(message_graph: MakeGraph) -> None:
    graph = message_graph()
    model = model_of(graph, content="none")
    with torch.no_grad():
        model.item_bias.normal_()
    out = model(graph)
    cold = graph.item_degree == 0
    assert (out.item[cold, -1] == 0.2 * model.item_bias.min()).all()
    assert torch.equal(out.item[~cold, -1], 0.2 * model.item_bias[~cold])


@pytest.mark.parametrize("relations", [{}, {"co_occurring_items": 4}])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_hidden_item_is_only_what_its_media_say(message_graph: MakeGraph, relations: dict, fusion: str) -> None:
    graph = message_graph(**relations)
    model, hidden = model_of(graph, fusion=fusion), some_items(graph)
    for weight in model.items.fusion.parameters():
        torch.nn.init.normal_(weight)
    before = model(graph, hidden_items=hidden)

    # Its own identity plays no part,
    (slope,) = torch.autograd.grad(before.item[hidden].square().sum(), model.items.identity.weight, retain_graph=True)
    assert not slope.any()
    with torch.no_grad():
        model.items.identity.weight[hidden] += 3
    # nor do its edges,
    other = hidden[graph.edge_index[1]].logical_not()
    fewer = bipartite_operator(graph.edge_index[:, other], graph.num_users, graph.num_items)
    after = model(replace(graph, interactions=fewer), hidden_items=hidden)
    torch.testing.assert_close(after.item[hidden], before.item[hidden])
    # while its media do.
    changed = replace(graph, x_dict={"content": graph.x_dict["content"].flip(0)})
    assert not torch.isclose(model(changed, hidden_items=hidden).item[hidden], before.item[hidden]).all(dim=1).any()


def test_hiding_changes_no_other_item(message_graph: MakeGraph) -> None:
    graph = message_graph(similar_items=3, co_occurring_items=3)
    model, hidden = model_of(graph), some_items(graph)
    shown, masked = model(graph), model(graph, hidden_items=hidden)
    assert torch.equal(shown.item[~hidden], masked.item[~hidden])
    assert torch.equal(shown.user, masked.user)
    assert not torch.isclose(shown.item[hidden], masked.item[hidden]).all(dim=1).any()


def test_a_hidden_item_hears_from_its_neighbours_by_content(message_graph: MakeGraph) -> None:
    graph = message_graph(similar_items=3)
    model, hidden = model_of(graph, decoder="dot"), some_items(graph)
    out = model(graph, hidden_items=hidden)
    heard = graph.relations["item"]["similar_by_content"] @ out.propagated[graph.num_users :]
    rows = model.items.align(graph.x_dict, graph.owner_dict, graph.num_items)
    expected = model.without_edges(rows, graph.num_items) + model.config.relation_weight * heard
    torch.testing.assert_close(out.item[hidden, :-1], expected[hidden])


def test_an_item_without_interactions_is_embedded_as_a_hidden_one(message_graph: MakeGraph) -> None:
    graph = message_graph(similar_items=3, co_occurring_items=3)
    model = model_of(graph)
    cold = graph.item_degree == 0
    assert cold.sum() == 4
    torch.testing.assert_close(model(graph).item[cold], model(graph, hidden_items=cold).item[cold])


def test_without_content_media_are_ignored(message_graph: MakeGraph) -> None:
    graph = message_graph()
    model = model_of(graph, content="none")
    out = model(graph)
    assert out.item_content is None
    changed = replace(graph, x_dict={"content": torch.randn_like(graph.x_dict["content"])})
    assert torch.equal(model(changed).item, out.item)
    assert not out.layer_zero[graph.num_users :][graph.item_degree == 0].any()


def test_people_may_have_media_too(message_graph: MakeGraph) -> None:
    graph = with_user_media(message_graph())
    graph = replace(graph, user_degree=graph.user_degree.clone().index_fill_(0, torch.tensor([7]), 0))
    model = model_of(graph, hops=0, decoder="dot")
    rows = model.users.align({"profile": graph.x_dict["profile"]}, graph.owner_dict, graph.num_users)
    torch.testing.assert_close(model(graph).user[7, :-1], rows.z[7] * (DIM - 1) ** -0.5)


def test_features_are_dropped_in_training_only(message_graph: MakeGraph) -> None:
    graph = message_graph()
    model = model_of(graph, feature_dropout=0.5)
    assert torch.equal(model(graph).item, model(graph).item)
    torch.testing.assert_close(model(graph).item, model_of(graph, feature_dropout=0.0)(graph).item)
    model.train()
    assert not torch.equal(model(graph).item, model(graph).item)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"embedding_dim": 0}, "embedding_dim"),
        ({"hops": -1}, "hops"),
        ({"fusion": "sum"}, "fusion.*attention, concatenation, .*weighted"),
        ({"relation_weight": 1e30}, "positive and at most 100, got 1e.30"),
        ({"modality_shares": {"plot": 0.5}}, "modality_shares.*weighted.*attention"),
        ({"identity_dropout": 1.0}, "identity_dropout"),
        ({"feature_dropout": -0.1}, "feature_dropout"),
        ({"relation_weight": 0.0}, "relation_weight"),
    ],
)
def test_impossible_options_are_named(options: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        ModelConfig(**options)
