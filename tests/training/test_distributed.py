"""Several processes on gloo train what one trains: the same gradients, the same decisions, each with its own rows."""

import itertools
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gnnrec.errors import ConfigError
from gnnrec.nn.architectures import build_model
from gnnrec.nn.message_graph import MessageGraph
from gnnrec.nn.model import GraphModel
from gnnrec.nn.model_config import ModelConfig
from gnnrec.testing import PlantedGraph
from gnnrec.training.config import TrainingConfig
from gnnrec.training.distributed import ALONE, Processes, joined
from gnnrec.training.epoch import epoch_steps
from gnnrec.training.lazy_adam import LazyAdam
from gnnrec.training.loop import train
from gnnrec.training.objective import Objective
from gnnrec.training.sharded_tables import ShardedTables
from gnnrec.training.step_loss import StepLoss

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork") or torch.cuda.is_initialized(), reason="needs processes to be forked"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]

MODEL = ModelConfig(embedding_dim=8, hops=2, feature_dropout=0.1, identity_dropout=0.2)
CONFIG = TrainingConfig(edge_dropout=0.2, epochs=4, learning_rate=0.02)
SAMPLED = replace(CONFIG, sampled_neighbours=(4, 2), epochs=8)
Arrays = dict[str, NDArray[np.float32]]


class Started:
    """Forked processes that run ``work(processes)``, and what they answer."""

    def __init__(self, work: Callable[[Processes], Any], size: int) -> None:
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            port = probe.getsockname()[1]
        fork = multiprocessing.get_context("fork")
        self.processes, self.answers = [], []
        for rank in range(size):
            answer, told = fork.Pipe(duplex=False)
            process = fork.Process(target=_run, args=(work, rank, size, port, told))
            process.start()
            told.close()
            self.processes.append(process)
            self.answers.append(answer)

    def results(self) -> list[Any]:
        """Waits for all; what one raised is raised here, where it was not killed."""
        results = [answer.recv() if answer.poll(100) else TimeoutError() for answer in self.answers]
        for process in self.processes:
            process.join(10)
            process.kill()
        for result in results:
            if isinstance(result, Exception):
                raise result
        return results


def _run(work: Callable[[Processes], Any], rank: int, size: int, port: int, told: Connection) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size))
    os.environ.update(MASTER_ADDR="localhost", MASTER_PORT=str(port))
    torch.manual_seed(1000 + rank)  # processes need not have drawn alike before
    try:
        with joined() as processes:
            told.send(work(processes))
    except Exception as error:  # noqa: BLE001  # whatever it is, the test is to see it
        told.send(error)


def in_processes(work: Callable[[Processes], Any], size: int = 2) -> list[Any]:
    return Started(work, size).results()


def model_of(graph: MessageGraph, config: ModelConfig = MODEL) -> GraphModel:
    torch.manual_seed(0)
    return build_model(graph.shape, config)


def arrays(model: GraphModel) -> Arrays:
    return {name: value.numpy().copy() for name, value in model.state_dict().items()}


def assert_close(left: Arrays, right: Arrays, tolerance: float) -> None:
    assert left.keys() == right.keys()
    for name, value in left.items():
        np.testing.assert_allclose(value, right[name], atol=tolerance, rtol=tolerance, err_msg=name)


def gradients(
    processes: Processes, graph: MessageGraph, model: ModelConfig, config: TrainingConfig, number: int
) -> Arrays:
    """Returns the gradient of one step of an epoch, as all processes together see it."""
    network = model_of(graph, model)
    tables = processes.tables_of(network, graph.shape)
    objective = Objective(graph, config)
    step_loss = processes.averaged(StepLoss(network, graph, config, objective), tables)
    steps = epoch_steps(network, graph, config, objective, tables, processes, seed=3)
    step = next(itertools.islice(steps, number, None))
    torch.stack(list(step_loss(step).values())).sum().mul(step.weight).backward()
    tables.return_gradients()
    found = {name: weight.grad for name, weight in network.named_parameters() if weight.grad is not None}
    return {name: tables.gather(name, gradient.to_dense()).numpy() for name, gradient in found.items()}


@given(num_pairs=st.integers(1, 50), size=st.integers(1, 7))
def test_shares_are_all_pairs_and_their_weighted_means_the_mean(num_pairs: int, size: int) -> None:
    values = np.random.default_rng(0).normal(size=num_pairs)
    shares = [Processes(rank, size).share(num_pairs) for rank in range(size)]
    counted = np.concatenate([values[pairs] for pairs, weight in shares if weight])
    np.testing.assert_array_equal(counted, values)
    means = [weight * values[pairs].mean() for pairs, weight in shares]
    assert np.mean(means) == pytest.approx(values.mean())


@pytest.mark.parametrize(
    ("model", "config", "size"),
    [
        (MODEL, replace(CONFIG, loss="bpr", negatives=2, auxiliary={"regularisation": 0.1}), 2),
        (MODEL, replace(CONFIG, loss="softmax"), 2),
        (MODEL, replace(CONFIG, loss="sampled-softmax"), 2),
        # Two pairs for three processes: one of them has none.
        (MODEL, replace(CONFIG, loss="softmax", batch_size=2), 3),
        # Nothing but tables, so there is nothing to average beside them.
        (replace(MODEL, architecture="lightgcn"), replace(CONFIG, loss="bpr", batch_size=63), 2),
        # All neighbours, so that all samples are alike.
        (replace(MODEL, identity_dropout=0.0, feature_dropout=0.0), replace(SAMPLED, sampled_neighbours=(-1, -1)), 2),
    ],
    ids=["bpr", "softmax", "sampled-softmax", "fewer pairs than processes", "tables only", "neighbourhoods"],
)
def test_the_gradient_is_that_of_one_process(
    model: ModelConfig, config: TrainingConfig, size: int, graph: MessageGraph
) -> None:
    number = 0 if config.sampled_neighbours or config.batch_size else 2  # the last batch is an odd one
    expected = gradients(ALONE, graph, model, config, number)
    assert all(np.abs(gradient).max() > 1e-4 for name, gradient in expected.items() if "identity.weight" in name)
    for found in in_processes(lambda processes: gradients(processes, graph, model, config, number), size):
        assert_close({name: found[name] for name in expected}, expected, 1e-5)
        assert all(not found[name].any() for name in found.keys() - expected.keys())


def recall(planted: PlantedGraph) -> Callable[..., Mapping[str, float]]:
    """Share of the held-out pairs among the five best unseen items."""
    user, item = planted.test.nonzero()
    seen = torch.from_numpy(planted.train.toarray() > 0)

    def validation(users: torch.Tensor, items: torch.Tensor) -> Mapping[str, float]:
        best = (users @ items.T).masked_fill(seen, -torch.inf).topk(5).indices
        return {"recall@20": float((best[user] == torch.from_numpy(item)[:, None]).any(dim=1).float().mean())}

    return validation


def never(*_: object) -> Mapping[str, float]:
    raise AssertionError("only the first process validates")


def trained(
    processes: Processes, planted: PlantedGraph, graph: MessageGraph, config: TrainingConfig, **options: Any
) -> tuple[Arrays, list[float], int]:
    """Trains the same model anew; returns its weights, validation scores and best epoch."""
    model = model_of(graph)
    validation = recall(planted) if processes.leads else never
    result = train(model, graph, config, seed=0, validation=validation, processes=processes, **options)
    return arrays(model), [record["recall@20"] for record in result.history], result.best_epoch


def test_two_processes_train_what_one_trains(planted: PlantedGraph, graph: MessageGraph) -> None:
    config = replace(CONFIG, epochs=8, patience=2)
    expected, scores, best = trained(ALONE, planted, graph, config)
    first, second = in_processes(lambda processes: trained(processes, planted, graph, config))
    assert_close(first[0], expected, 1e-3)
    for weights, found, epoch in (first, second):
        assert found == pytest.approx(scores, abs=0.02)
        assert epoch == best
        assert all((weights[name] == first[0][name]).all() for name in weights)
    assert max(scores) > 0.4  # chance is a quarter


def test_two_processes_on_samples_are_as_good_as_one(planted: PlantedGraph, graph: MessageGraph) -> None:
    _, scores, _ = trained(ALONE, planted, graph, SAMPLED)
    (weights, found, _), (others, _, _) = in_processes(lambda processes: trained(processes, planted, graph, SAMPLED))
    assert max(found) > max(scores) - 0.08
    assert max(found) > 0.4
    assert all((weights[name] == others[name]).all() for name in weights)


def test_every_process_holds_its_rows_and_their_moments_only(graph: MessageGraph) -> None:
    def held(processes: Processes) -> dict[str, tuple[int, int]]:
        model = model_of(graph)
        tables = processes.tables_of(model, graph.shape)
        optimizer = LazyAdam(model.parameters(), lr=0.01)
        for weight in model.parameters():
            weight.grad = torch.ones_like(weight)
        optimizer.step()
        return {
            name: (weight.numel(), sum(optimizer.state[weight][moment].numel() for moment in ("exp_avg", "exp_avg_sq")))
            for name, weight in model.named_parameters()
            if tables.names == () or name in tables.names
        }

    one = held(ALONE)
    first, second = in_processes(held)
    assert set(first) == {"users.identity.weight", "items.identity.weight", "item_bias"}
    # 40 users, 24 items; 7 numbers each, and a bias.
    assert (
        first
        == second
        == {
            "users.identity.weight": (20 * 7, 2 * 20 * 7),
            "items.identity.weight": (12 * 7, 2 * 12 * 7),
            "item_bias": (12, 24),
        }
    )
    for name, (weight, moments) in first.items():
        assert one[name] == (2 * weight, 2 * moments)


def test_rows_that_do_not_divide_are_held_once_and_fetched_as_often_as_asked(graph: MessageGraph) -> None:
    index = torch.tensor([39, 0, 0, 14, 13, 27, 39])

    def fetched(processes: Processes) -> tuple[int, Any, Any]:
        model = model_of(graph)
        tables = ShardedTables(model, graph.shape)
        own = model.get_parameter("users.identity.weight")
        rows = tables.rows("users.identity.weight", index[processes.rank :])
        rows.sum().backward()
        tables.return_gradients()
        return len(own), rows.detach().numpy(), tables.gather("users.identity.weight", own.grad.to_dense()).numpy()

    table = model_of(graph).get_parameter("users.identity.weight").detach().numpy()
    answers = in_processes(fetched, 3)
    assert [count for count, _, _ in answers] == [14, 14, 12]
    expected = np.zeros_like(table)
    for rank, (_, rows, _) in enumerate(answers):
        np.testing.assert_array_equal(rows, table[index[rank:]])
        np.add.at(expected, index[rank:], 1 / 3)
    for _, _, gradient in answers:
        np.testing.assert_allclose(gradient, expected, rtol=1e-6)


def test_a_killed_process_ends_the_others_and_the_run_goes_on(
    planted: PlantedGraph, graph: MessageGraph, tmp_path: Path
) -> None:
    config = replace(CONFIG, epochs=12, patience=100)
    killed = Started(
        lambda processes: trained(processes, planted, graph, replace(config, epochs=10_000), run_dir=tmp_path), 2
    )
    manifest = tmp_path / "checkpoint" / "manifest.json"
    deadline = time.monotonic() + 60
    while not manifest.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(killed.processes[1].pid or 0, signal.SIGKILL)
    with pytest.raises(RuntimeError):  # the first process does not wait for the dead
        killed.answers[0].poll(60) and _raise(killed.answers[0].recv())
    for process in killed.processes:
        process.join(10)
    assert killed.processes[1].exitcode == -signal.SIGKILL
    resumed = in_processes(lambda processes: trained(processes, planted, graph, config, run_dir=tmp_path, resume=True))
    whole = in_processes(lambda processes: trained(processes, planted, graph, config))
    for (weights, scores, best), (expected, expected_scores, expected_best) in zip(resumed, whole, strict=True):
        assert all((weights[name] == expected[name]).all() for name in expected)
        assert (scores, best) == (expected_scores, expected_best)
    # A checkpoint holds whole tables: one process may go on with what two began.
    _, scores, _ = trained(ALONE, planted, graph, replace(config, epochs=13), run_dir=tmp_path, resume=True)
    assert scores[:12] == whole[0][1]


def _raise(answer: Any) -> None:
    raise answer


def test_processes_that_were_not_given_the_same_are_refused(
    planted: PlantedGraph, graph: MessageGraph, tmp_path: Path
) -> None:
    def other_options(processes: Processes) -> str:
        config = replace(CONFIG, learning_rate=0.01 * (1 + processes.rank))
        with pytest.raises(ConfigError) as error:
            trained(processes, planted, graph, config)
        return str(error.value)

    def other_folder(processes: Processes) -> str:
        own = {"run_dir": tmp_path / str(processes.rank), "resume": True}
        with pytest.raises(ConfigError) as error:
            trained(processes, planted, graph, CONFIG, **own)
        return str(error.value)

    trained(ALONE, planted, graph, replace(CONFIG, epochs=1), run_dir=tmp_path / "1")
    assert in_processes(other_options) == ["process 1 of 2 was given other options or data than process 0"] * 2
    for message in in_processes(other_folder):
        assert message == (
            "process 1 of 2 found another checkpoint than process 0; run_dir= must be a folder that all of them see"
        )


def test_the_first_process_of_a_machine_goes_ahead(tmp_path: Path) -> None:
    def encode(processes: Processes) -> bool:
        with processes.first_on_each_machine():
            found = (tmp_path / "cache").exists()
            time.sleep(0.2)
            (tmp_path / "cache").touch()
        return found

    assert in_processes(encode) == [False, True]


def test_a_process_that_was_started_alone_is_told_what_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with (
        pytest.raises(ConfigError, match=r"torchrun --nproc-per-node 2 SCRIPT.*gnnrec fit … --distributed 2"),
        joined(),
    ):
        pass
