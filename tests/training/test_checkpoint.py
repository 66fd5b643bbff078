from dataclasses import replace
from pathlib import Path

import pytest
import scipy.sparse as sp
import torch

from gnnrec.errors import ConfigError, StorageError
from gnnrec.evaluation.validation import ValidationPairs
from gnnrec.graph.build import GraphConfig
from gnnrec.nn.message_graph import MessageGraph
from gnnrec.nn.model_config import ModelConfig
from gnnrec.nn.multimodal import MultimodalGraphModel
from gnnrec.nn.operator import SparseOperator
from gnnrec.nn.propagate import row_normalised_operator
from gnnrec.nn.sequence import Histories
from gnnrec.testing import planted_graph
from gnnrec.training.checkpoint import Checkpoint, fingerprint
from gnnrec.training.config import TrainingConfig

CONFIG = TrainingConfig(epochs=3)


def step(model: MultimodalGraphModel, graph: MessageGraph) -> torch.optim.Adam:
    optimizer = torch.optim.Adam(model.parameters())
    model(graph).item.sum().backward()
    optimizer.step()
    return optimizer


def same(left: dict, right: dict) -> bool:
    return left.keys() == right.keys() and all(torch.equal(value, right[name]) for name, value in left.items())


def test_everything_comes_back_bit_by_bit(model: MultimodalGraphModel, graph: MessageGraph, tmp_path: Path) -> None:
    optimizer = step(model, graph)
    best = {name: value + 1 for name, value in model.state_dict().items()}
    history = [{"epoch": 1, "loss": 0.1 + 0.2}, {"epoch": 2, "loss": 1e-17}]
    checkpoint = Checkpoint(tmp_path, "run")
    assert not checkpoint.exists()
    checkpoint.save(model, optimizer, history, 1, best)
    assert checkpoint.exists()

    other = MultimodalGraphModel(graph.shape, model.config)
    other_optimizer = torch.optim.Adam(other.parameters())
    restored_history, best_epoch, restored_best = Checkpoint(tmp_path, "run").restore(other, other_optimizer)
    assert (restored_history, best_epoch) == (history, 1)
    assert same(other.state_dict(), model.state_dict())
    assert same(restored_best, best)
    restored, saved = other_optimizer.state_dict(), optimizer.state_dict()
    assert restored["param_groups"] == saved["param_groups"]
    assert restored["state"].keys() == saved["state"].keys()
    assert all(same(restored["state"][index], saved["state"][index]) for index in saved["state"])


def test_a_checkpoint_of_another_run_is_refused(
    model: MultimodalGraphModel, graph: MessageGraph, tmp_path: Path
) -> None:
    optimizer = step(model, graph)
    Checkpoint(tmp_path, "run").save(model, optimizer, [], 0, {})
    with pytest.raises(ConfigError, match="other options or data"):
        Checkpoint(tmp_path, "another").restore(model, optimizer)


@pytest.mark.parametrize("damage", ["truncate", "alter", "remove"])
@pytest.mark.parametrize("name", ["tensors.safetensors", "manifest.json"])
def test_a_damaged_checkpoint_is_refused(
    damage: str, name: str, model: MultimodalGraphModel, graph: MessageGraph, tmp_path: Path
) -> None:
    optimizer = step(model, graph)
    checkpoint = Checkpoint(tmp_path, "run")
    checkpoint.save(model, optimizer, [{"epoch": 1.0}], 1, {})
    file = checkpoint.folder / name
    content = bytearray(file.read_bytes())
    if damage == "remove":
        file.unlink()
    elif damage == "truncate":
        file.write_bytes(content[: len(content) // 2])
    else:
        place = content.index(b'"run"') + 8 if name == "manifest.json" else len(content) - 5
        content[place] ^= 1
        file.write_bytes(content)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(StorageError, match=name):
        checkpoint.restore(model, optimizer)
    assert same(model.state_dict(), before)


def with_relation(graph: MessageGraph, weight: list[float]) -> dict[str, dict[str, SparseOperator]]:
    edges = torch.tensor([[0, 1], [2, 2]])
    follows = row_normalised_operator(edges, torch.tensor(weight), graph.num_users)
    return {**graph.relations, "user": {"follows": follows}}


def test_whatever_determines_a_run_is_in_its_fingerprint(model: MultimodalGraphModel, graph: MessageGraph) -> None:
    def run(config=CONFIG, seed=0, model=model, graph=graph, validation=None, goes_on=None) -> str:
        return fingerprint(config, seed, model, graph, validation, goes_on)

    pairs = sp.random(graph.num_users, graph.num_items, 0.1, format="csr", random_state=0)
    empty = sp.csr_matrix(pairs.shape)
    place = torch.arange(graph.edge_index.shape[1])
    before = {name: weight + 1 for name, weight in model.state_dict().items()}

    wider = MultimodalGraphModel(graph.shape, ModelConfig(embedding_dim=9, hops=1))
    deeper = MultimodalGraphModel(graph.shape, replace(model.config, hops=2))
    fewer = MessageGraph.from_hetero_data(planted_graph(40, 24, 3, config=GraphConfig(similar_items=0)).graph)
    others = [
        run(config=replace(CONFIG, learning_rate=0.02)),
        run(config=replace(CONFIG, auxiliary={"alignment": 0.1})),
        run(seed=1),
        run(model=wider),
        run(model=deeper),
        run(graph=replace(graph, edge_index=graph.edge_index[:, 1:])),
        run(graph=replace(graph, relations=fewer.relations)),
        run(graph=replace(graph, owner_dict={"content": graph.owner_dict["content"].flip(0)})),
        run(graph=replace(graph, edge_weight=torch.ones(graph.edge_index.shape[1]))),
        run(graph=replace(graph, histories=Histories.from_edges(graph.edge_index, place, graph.num_users))),
        run(graph=replace(graph, histories=Histories.from_edges(graph.edge_index, -place, graph.num_users))),
        run(graph=replace(graph, labels={"genre": torch.arange(graph.num_items)})),
        run(graph=replace(graph, labels={"genre": torch.arange(graph.num_items).flip(0)})),
        run(graph=replace(graph, relations=with_relation(graph, [1.0, 1.0]))),
        run(graph=replace(graph, relations=with_relation(graph, [1.0, 2.0]))),
        run(validation=ValidationPairs(pairs, empty, ("recall@20",))),
        run(validation=ValidationPairs(pairs[:, ::-1].tocsr(), empty, ("recall@20",))),
        run(validation=ValidationPairs(pairs, pairs, ("recall@20",))),
        run(goes_on=model.state_dict()),
        run(goes_on=before),
    ]
    assert len({run(), *others}) == 1 + len(others)
    assert run() == run()
    assert run(config=replace(CONFIG, epochs=9)) == run()  # a run may go on for longer
