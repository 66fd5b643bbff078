"""Steps on samples see every pair, move only what they touch, and learn what the whole graph teaches."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gnnrec.errors import ConfigError
from gnnrec.graph.build import GraphConfig
from gnnrec.nn.architectures import build_model
from gnnrec.nn.message_graph import MessageGraph
from gnnrec.nn.model import GraphModel
from gnnrec.nn.model_config import ModelConfig
from gnnrec.testing import PlantedGraph, planted_graph
from gnnrec.training import objective as objective_module
from gnnrec.training.config import TrainingConfig
from gnnrec.training.loop import train
from gnnrec.training.minibatch import sampled_steps
from gnnrec.training.objective import Objective
from gnnrec.training.steps import Step, edge_batches
from gnnrec.training.tables import Tables

ALL = (-1, -1)
MODEL = ModelConfig(embedding_dim=8, hops=2)
SAMPLED = TrainingConfig(sampled_neighbours=(4, 2), epochs=10, learning_rate=0.02, edge_dropout=0.2)


@pytest.fixture(scope="module")
def planted() -> PlantedGraph:
    config = GraphConfig(similar_items=4, co_occurring_items=4)
    return planted_graph(60, 60, 3, events_per_user=8, num_new=6, dim=5, config=config)


@pytest.fixture(scope="module")
def graph(planted: PlantedGraph) -> MessageGraph:
    return MessageGraph.from_hetero_data(planted.graph)


def model_of(graph: MessageGraph, config: ModelConfig = MODEL) -> GraphModel:
    torch.manual_seed(0)
    return build_model(graph.shape, config)


def steps(model: GraphModel, graph: MessageGraph, neighbours: tuple[int, ...], batch_size: int = 64) -> list[Step]:
    generator = torch.Generator().manual_seed(0)
    batches = edge_batches(graph, batch_size, by_user=True, generator=generator)
    candidates = torch.arange(1, graph.num_items, 3)
    tables = Tables(model)
    return list(
        sampled_steps(
            model,
            graph,
            batches,
            neighbours,
            draw_candidates=lambda: candidates,
            generator=generator,
            tables=tables,
        )
    )


def test_every_pair_is_passed_once_with_the_candidates(graph: MessageGraph) -> None:
    model = model_of(graph).eval()
    whole = model(graph)
    passed = steps(model, graph, ALL)
    assert len(passed) == -(-graph.edge_index.shape[1] // 64)
    assert sorted(torch.cat([step.edge for step in passed]).tolist()) == list(range(graph.edge_index.shape[1]))
    for step in passed:
        embeddings = step.embed(model)
        user_index, item_index = graph.edge_index[:, step.edge]
        torch.testing.assert_close(embeddings.user[step.user_index], whole.user[user_index])
        torch.testing.assert_close(embeddings.item[step.item_index], whole.item[item_index])
        assert step.candidate_id.tolist() == list(range(1, graph.num_items, 3))
        assert step.candidate_index.tolist() == step.candidate_index.sort().values.tolist()
        torch.testing.assert_close(embeddings.item[step.candidate_index], whole.item[step.candidate_id])


def test_a_step_on_all_neighbours_is_a_step_on_the_whole_graph(
    graph: MessageGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loss and gradient, with every auxiliary loss that needs no views of its own."""
    config = TrainingConfig(
        loss="sampled-softmax", auxiliary={"alignment": 0.1, "regularisation": 0.1, "output-regularisation": 0.1}
    )
    monkeypatch.setattr(objective_module, "_DRAWS", 8)  # few, so that the chance of an item depends on its degree
    objective = Objective(graph, config)
    step = steps(model_of(graph), graph, ALL, batch_size=4)[1]
    assert step.candidate_index.tolist() != step.candidate_id.tolist()  # a sample numbers its nodes anew

    def terms_and_gradient(on_sample: bool) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        model = model_of(graph)
        if on_sample:
            on = steps(model, graph, ALL, batch_size=4)[1]
        else:
            user_index, item_index = graph.edge_index[:, step.edge]
            on = Step(graph, step.edge, user_index, item_index, {}, step.candidate_id, step.candidate_id)
        terms = objective(on.embed(model), on)
        torch.stack(list(terms.values())).sum().backward()
        weights = model.named_parameters()
        return terms, {name: weight.grad.to_dense() for name, weight in weights if weight.grad is not None}

    terms, gradient = terms_and_gradient(on_sample=True)
    expected_terms, expected = terms_and_gradient(on_sample=False)
    torch.testing.assert_close(terms, expected_terms)
    assert set(gradient) == set(expected)
    for name, value in gradient.items():
        torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=1e-4)


def test_the_gradient_of_a_table_holds_the_rows_of_the_sample_only(graph: MessageGraph) -> None:
    model = model_of(graph)
    step = steps(model, graph, (1, 1), batch_size=2)[0]
    embeddings = step.embed(model)
    (embeddings.user[step.user_index].sum() + embeddings.item[step.item_index].sum()).backward()
    for table, nodes in ((model.users.identity.weight, graph.num_users), (model.item_bias, graph.num_items)):
        assert table.grad.is_sparse
        assert 0 < len(table.grad.coalesce().indices()[0]) < nodes
    assert all(not weight.grad.is_sparse for weight in model.items.alignment.parameters())


def test_what_a_step_costs_is_bounded_by_the_numbers_of_neighbours() -> None:
    config = GraphConfig(similar_items=6)
    large = MessageGraph.from_hetero_data(planted_graph(600, 300, 3, events_per_user=40, config=config).graph)
    for step in steps(model_of(large), large, (3, 2), batch_size=300)[:2]:
        seeds = 2 * 300 + len(step.candidate_index)
        assert step.graph.num_users + step.graph.num_items <= seeds * (1 + 3) * (1 + 3 + 6)
        assert step.graph.interactions.num_entries <= seeds * (1 + 3) * (3 + 6)


def purity(model: GraphModel, graph: MessageGraph, planted: PlantedGraph) -> float:
    with torch.no_grad():
        embeddings = model(graph)
    return planted.purity((embeddings.user @ embeddings.item.T).numpy(), torch.arange(graph.num_users).numpy(), k=5)


@pytest.mark.parametrize("architecture", ["multimodal", "lightgcn"])
def test_samples_teach_the_planted_tastes(architecture: str, planted: PlantedGraph, graph: MessageGraph) -> None:
    config = replace(MODEL, architecture=architecture)
    untrained = model_of(graph, config)
    model = model_of(graph, config)
    result = train(model, graph, SAMPLED, seed=0)
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    whole = model_of(graph, config)
    train(whole, graph, replace(SAMPLED, sampled_neighbours=(), loss="sampled-softmax"), seed=0)
    assert purity(untrained, graph, planted) < 0.7
    assert purity(model, graph, planted) > 0.8  # chance is a third
    assert purity(model, graph, planted) > purity(whole, graph, planted) - 0.05


def test_a_resumed_run_equals_an_uninterrupted_one(graph: MessageGraph, tmp_path) -> None:
    def run(epochs: int, **options) -> dict[str, Tensor]:
        model = model_of(graph)
        train(model, graph, replace(SAMPLED, epochs=epochs), seed=0, **options)
        return model.state_dict()

    uninterrupted = run(3)
    run(2, run_dir=tmp_path)
    resumed = run(3, run_dir=tmp_path, resume=True)
    assert all(torch.equal(value, resumed[name]) for name, value in uninterrupted.items())


@pytest.mark.parametrize(
    ("model", "neighbours", "message"),
    [
        (MODEL, (5,), r"needs a number for each of the 2 hops, got \(5,\)"),
        (replace(MODEL, architecture="mgcn"), (5, 5), "'mgcn'.*looks further"),
        (replace(MODEL, architecture="freedom", item_hops=2), (5, 5), "'freedom'.*looks further"),
    ],
)
def test_what_cannot_be_sampled_is_said(
    model: ModelConfig, neighbours: tuple[int, ...], message: str, graph: MessageGraph
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(model_of(graph, model), graph, replace(SAMPLED, sampled_neighbours=neighbours), seed=0)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_graph_may_lie_elsewhere_than_the_model(planted: PlantedGraph, graph: MessageGraph) -> None:
    model = model_of(graph).to("cuda")
    train(model, graph, SAMPLED, seed=0, validation=lambda user, item: {"recall@20": float(user.is_cpu)})
    assert next(model.parameters()).is_cuda
    assert purity(model.cpu(), graph, planted) > 0.8
