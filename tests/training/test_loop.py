import multiprocessing
import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gnnrec.errors import ConfigError, GnnrecError, StorageError
from gnnrec.nn.message_graph import MessageGraph
from gnnrec.nn.model_config import ModelConfig
from gnnrec.nn.multimodal import MultimodalGraphModel
from gnnrec.testing import PlantedGraph
from gnnrec.training import loop
from gnnrec.training.config import TrainingConfig
from gnnrec.training.loop import train

# Everything random at once: order, hidden items, dropout of features and of edges, negatives.
RANDOM = TrainingConfig(loss="bpr", edge_dropout=0.2, epochs=4, learning_rate=0.01)
MODEL = ModelConfig(embedding_dim=8, hops=1, feature_dropout=0.1, identity_dropout=0.2)


def run(graph: MessageGraph, config: TrainingConfig = RANDOM, *, seed: int = 0, **options):
    """Trains a model that starts from the same weights every time."""
    torch.manual_seed(0)
    model = MultimodalGraphModel(graph.shape, MODEL)
    result = train(model, graph, config, seed=seed, **options)
    return model, result


def losses(result) -> list[float]:
    return [record["loss"] for record in result.history]


def same_weights(left: torch.nn.Module, right: torch.nn.Module) -> bool:
    values = right.state_dict()
    return all(torch.equal(value, values[name]) for name, value in left.state_dict().items())


class Scripted:
    """Gives the validation scores of a script, one per epoch."""

    def __init__(self, *scores: float) -> None:
        self.scores = list(scores)

    def __call__(self, user: Tensor, item: Tensor) -> Mapping[str, float]:
        return {"recall@20": self.scores.pop(0), "loss@20": 1.0}


class Killed(Exception):
    """Stands for whatever ends a process."""


@pytest.fixture(scope="module")
def uninterrupted(graph: MessageGraph):
    return run(graph)


def test_a_seed_fixes_every_bit(graph: MessageGraph, uninterrupted) -> None:
    torch.randn(7)  # what others drew before is of no importance
    model, result = run(graph)
    assert same_weights(model, uninterrupted[0])
    assert losses(result) == losses(uninterrupted[1])


def test_another_seed_gives_other_weights(graph: MessageGraph, uninterrupted) -> None:
    assert not same_weights(run(graph, seed=1)[0], uninterrupted[0])


def test_training_finds_the_planted_tastes(planted: PlantedGraph, graph: MessageGraph) -> None:
    model, result = run(graph, TrainingConfig(epochs=10, learning_rate=0.02))
    assert losses(result)[-1] < losses(result)[0]
    with torch.no_grad():
        embeddings = model(graph)
    purity = planted.purity((embeddings.user @ embeddings.item.T).numpy(), torch.arange(40).numpy(), k=3)
    assert purity > 0.8  # chance is a third


def test_the_loss_is_the_mean_over_pairs_of_all_terms(graph: MessageGraph) -> None:
    config = TrainingConfig(epochs=1, learning_rate=1e-12, auxiliary={"regularisation": 0.5, "alignment": 0.1})
    record = run(graph, config)[1].history[0]
    assert record["loss"] == pytest.approx(record["ranking"] + record["regularisation"] + record["alignment"])
    # Half the squared lengths of the two ends of each pair, for weights that hardly move.
    torch.manual_seed(0)
    with torch.no_grad():
        zero = MultimodalGraphModel(graph.shape, replace(MODEL, feature_dropout=0.0))(graph).layer_zero
    degree = torch.cat([graph.user_degree, graph.item_degree])
    length = (degree * zero.square().sum(dim=1)).sum() / (2 * graph.edge_index.shape[1])
    assert record["regularisation"] == pytest.approx(0.5 * length.item(), rel=0.02)


@pytest.mark.parametrize(("loss", "together"), [("softmax", True), ("sampled-softmax", True), ("bpr", False)])
def test_every_pair_is_passed_once_and_those_of_a_user_together_where_they_share_scores(
    loss: str, together: bool, graph: MessageGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = []
    compute = loop.Objective.__call__

    def spy(self, embeddings, step, users):
        passed.append(torch.stack([step.user_index, step.item_index]))
        return compute(self, embeddings, step, users)

    monkeypatch.setattr(loop.Objective, "__call__", spy)
    run(graph, TrainingConfig(loss=loss, epochs=1))
    pairs = torch.cat(passed, dim=1)
    assert sorted(map(tuple, pairs.T.tolist())) == sorted(map(tuple, graph.edge_index.T.tolist()))
    assert pairs.tolist() != graph.edge_index.tolist()
    stretches = torch.unique_consecutive(pairs[0])
    assert (len(stretches) == len(stretches.unique())) == together


def test_the_best_epoch_is_kept_and_patience_ends_the_run(graph: MessageGraph) -> None:
    config = replace(RANDOM, epochs=20, patience=3)
    model, result = run(graph, config, validation=Scripted(0.1, 0.3, 0.2, 0.3, 0.1, 0.9))
    assert result.best_epoch == 2
    assert len(result.history) == 5
    assert [record["recall@20"] for record in result.history] == [0.1, 0.3, 0.2, 0.3, 0.1]
    assert same_weights(model, run(graph, replace(RANDOM, epochs=2))[0])
    assert not model.training


def test_without_validation_the_last_epoch_is_kept(uninterrupted) -> None:
    assert uninterrupted[1].best_epoch == 4
    assert not uninterrupted[0].training  # nothing is dropped out of what it says from here on


def test_validation_sees_the_present_embeddings(graph: MessageGraph) -> None:
    seen = []

    def validation(user: Tensor, item: Tensor) -> Mapping[str, float]:
        seen.append((user, item))
        return {"recall@20": len(seen)}

    model, _ = run(graph, validation=validation)
    with torch.no_grad():
        embeddings = model(graph)
    assert torch.equal(seen[-1][0], embeddings.user)
    assert torch.equal(seen[-1][1], embeddings.item)
    assert not torch.equal(seen[0][0], seen[-1][0])


def test_every_epoch_is_told(graph: MessageGraph) -> None:
    told = []
    _, result = run(graph, on_epoch=told.append)
    assert tuple(told) == result.history
    assert [record["epoch"] for record in told] == [1, 2, 3, 4]


@pytest.mark.parametrize("done", [1, 3])
def test_a_resumed_run_equals_an_uninterrupted_one(
    done: int, graph: MessageGraph, uninterrupted, tmp_path: Path
) -> None:
    run(graph, replace(RANDOM, epochs=done), run_dir=tmp_path)
    told = []
    model, result = run(graph, run_dir=tmp_path, resume=True, on_epoch=told.append)
    assert len(told) == 4 - done
    assert same_weights(model, uninterrupted[0])
    assert losses(result) == losses(uninterrupted[1])


def test_a_run_that_broke_in_the_middle_of_an_epoch_goes_on_as_if_nothing_had_happened(
    graph: MessageGraph, uninterrupted, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = MultimodalGraphModel(graph.shape, MODEL)
    steps = -(-graph.edge_index.shape[1] // RANDOM.pairs_per_step(graph.edge_index.shape[1]))
    assert steps > 2
    calls = []

    def break_in_epoch_3(*_: object) -> None:
        calls.append(1)
        if len(calls) == 2 * steps + 2:
            raise Killed

    model.register_forward_pre_hook(break_in_epoch_3)
    with pytest.raises(Killed):
        train(model, graph, RANDOM, seed=0, run_dir=tmp_path)
    told = []
    resumed, result = run(graph, run_dir=tmp_path, resume=True, on_epoch=told.append)
    assert [record["epoch"] for record in told] == [3, 4]
    assert same_weights(resumed, uninterrupted[0])
    assert losses(result) == losses(uninterrupted[1])


def test_early_stopping_is_resumed_too(graph: MessageGraph, tmp_path: Path) -> None:
    config = replace(RANDOM, epochs=20, patience=3)
    expected, _ = run(graph, config, validation=Scripted(0.5, 0.1, 0.2, 0.3))
    with pytest.raises(IndexError):  # the script ends in epoch 3
        run(graph, config, validation=Scripted(0.5, 0.1), run_dir=tmp_path)
    model, result = run(graph, config, validation=Scripted(0.2, 0.3), run_dir=tmp_path, resume=True)
    assert result.best_epoch == 1
    assert len(result.history) == 4
    assert same_weights(model, expected)
    again, result = run(graph, config, validation=Scripted(), run_dir=tmp_path, resume=True)
    assert len(result.history) == 4  # there is nothing left to do
    assert same_weights(again, expected)


def train_until_killed(graph: MessageGraph, run_dir: Path, told: Connection) -> None:
    run(graph, replace(RANDOM, epochs=100_000), run_dir=run_dir, on_epoch=lambda record: told.send(record["epoch"]))


@pytest.mark.skipif(not hasattr(os, "fork") or torch.cuda.is_initialized(), reason="needs a process that can be forked")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_killed_process_goes_on_as_if_nothing_had_happened(graph: MessageGraph, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a forked process has lost the others
    try:
        processes = multiprocessing.get_context("fork")
        heard, told = processes.Pipe(duplex=False)
        child = processes.Process(target=train_until_killed, args=(graph, tmp_path, told))
        child.start()
        told.close()
        assert [heard.recv() for _ in range(2)] == [1, 2]
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        config = replace(RANDOM, epochs=60)
        model, result = run(graph, config, run_dir=tmp_path, resume=True)
        expected, expected_result = run(graph, config)
    finally:
        torch.set_num_threads(threads)
    assert losses(result) == losses(expected_result)
    assert same_weights(model, expected)


def test_another_run_is_not_continued(graph: MessageGraph, tmp_path: Path) -> None:
    run(graph, replace(RANDOM, epochs=1), run_dir=tmp_path)
    for other in ({"config": replace(RANDOM, learning_rate=0.02)}, {"seed": 1}):
        with pytest.raises(ConfigError, match="other options or data"):
            run(graph, **other, run_dir=tmp_path, resume=True)


def test_a_run_of_more_epochs_is_not_cut_short(graph: MessageGraph, tmp_path: Path) -> None:
    run(graph, replace(RANDOM, epochs=3), run_dir=tmp_path)
    with pytest.raises(ConfigError, match="holds 3 epochs, and option 'epochs' is 2"):
        run(graph, replace(RANDOM, epochs=2), run_dir=tmp_path, resume=True)
    assert len(run(graph, replace(RANDOM, epochs=3), run_dir=tmp_path, resume=True)[1].history) == 3


def test_without_resume_a_run_starts_anew(graph: MessageGraph, uninterrupted, tmp_path: Path) -> None:
    run(graph, replace(RANDOM, learning_rate=0.02), run_dir=tmp_path)
    model, result = run(graph, run_dir=tmp_path)
    assert len(result.history) == 4
    assert same_weights(model, uninterrupted[0])


def test_resuming_needs_a_folder_but_no_checkpoint(graph: MessageGraph, uninterrupted, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run_dir"):
        run(graph, resume=True)
    assert same_weights(run(graph, run_dir=tmp_path / "new", resume=True)[0], uninterrupted[0])


def test_a_damaged_checkpoint_is_not_continued(graph: MessageGraph, tmp_path: Path) -> None:
    run(graph, replace(RANDOM, epochs=1), run_dir=tmp_path)
    file = next(tmp_path.rglob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(StorageError, match=r"tensors\.safetensors.*damaged"):
        run(graph, run_dir=tmp_path, resume=True)


def test_a_loss_that_is_not_finite_ends_the_run(graph: MessageGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (float("inf"), float("nan")):
        monkeypatch.setattr(loop.Objective, "__call__", lambda self, out, *_, v=value: {"ranking": v * out.item.sum()})
        with pytest.raises(GnnrecError, match=r"epoch 1.*'learning_rate'"):
            run(graph)


def test_the_metric_that_selects_must_be_computed(graph: MessageGraph) -> None:
    with pytest.raises(ConfigError, match=r"'mrr@5'.*recall@20, loss@20"):
        run(graph, replace(RANDOM, select_by="mrr@5"), validation=Scripted(0.1))


@pytest.mark.parametrize("loss", ["softmax", "sampled-softmax", "bpr", "bce"])
def test_half_precision_is_close_to_single(graph: MessageGraph, loss: str) -> None:
    config = TrainingConfig(loss=loss, epochs=3)
    single, half = (run(graph, replace(config, precision=precision))[1] for precision in ("float32", "bfloat16"))
    assert losses(half) == pytest.approx(losses(single), rel=0.01)
    assert losses(half) != losses(single)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("loss", ["softmax", "sampled-softmax", "bpr", "bce"])
def test_a_gpu_trains_like_a_cpu(planted: PlantedGraph, graph: MessageGraph, loss: str) -> None:
    config = TrainingConfig(loss=loss, epochs=2, edge_dropout=0.2, auxiliary={"alignment": 0.1, "regularisation": 0.01})
    on_gpu = MessageGraph.from_hetero_data(planted.graph, "cuda")
    models = []
    for device, place in (("cpu", graph), ("cuda", on_gpu)):
        torch.manual_seed(0)
        model = MultimodalGraphModel(graph.shape, replace(MODEL, feature_dropout=0.0)).to(device)
        models.append((model, train(model, place, config, seed=0)))
    (on_cpu, expected), (model, result) = models
    assert losses(result) == pytest.approx(losses(expected), rel=1e-3)
    with torch.no_grad():
        torch.testing.assert_close(model(on_gpu).item.cpu(), on_cpu(graph).item, atol=1e-2, rtol=1e-2)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_run_is_resumed_on_a_gpu(planted: PlantedGraph, tmp_path: Path) -> None:
    graph = MessageGraph.from_hetero_data(planted.graph, "cuda")
    results = []
    for epochs in (1, 3):
        torch.manual_seed(0)
        model = MultimodalGraphModel(graph.shape, MODEL).to("cuda")
        results.append(train(model, graph, replace(RANDOM, epochs=epochs), seed=0, run_dir=tmp_path, resume=True))
    torch.manual_seed(0)
    expected = train(MultimodalGraphModel(graph.shape, MODEL).to("cuda"), graph, replace(RANDOM, epochs=3), seed=0)
    assert losses(results[1]) == pytest.approx(losses(expected), rel=1e-3)
