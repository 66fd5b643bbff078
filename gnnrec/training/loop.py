"""Trains a model on a graph: epochs, early stopping, checkpoints, exact resume."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from gnnrec.errors import ConfigError, GnnrecError
from gnnrec.evaluation.validation import ValidationPairs
from gnnrec.nn.message_graph import MessageGraph
from gnnrec.nn.model import GraphModel
from gnnrec.training.checkpoint import Checkpoint, fingerprint
from gnnrec.training.config import TrainingConfig
from gnnrec.training.distributed import ALONE, Processes
from gnnrec.training.epoch import epoch_steps
from gnnrec.training.kept_memory import keep_freed_memory
from gnnrec.training.lazy_adam import LazyAdam
from gnnrec.training.objective import Objective
from gnnrec.training.step_loss import StepLoss
from gnnrec.training.steps import Step
from gnnrec.training.tables import Tables

__all__ = ["EpochRecord", "TrainingResult", "train"]

logger = logging.getLogger(__name__)

# epoch, loss, one entry per loss term, seconds, and the validation metrics of one epoch.
EpochRecord: TypeAlias = dict[str, float]
# Scores decoded embeddings of users [num_users, dim] and items [num_items, dim] on validation pairs.
Validation: TypeAlias = Callable[[Tensor, Tensor], Mapping[str, float]]


@dataclass(frozen=True)
class TrainingResult:
    """What happened in training; the model itself holds the weights of the best epoch.

    Attributes:
        history: One record per epoch.
        best_epoch: Epoch (from 1) whose weights were kept.
        trained: How many of these epochs were trained now, and not read from a checkpoint.
        chosen: Option → value, of those that are settled after training.
    """

    history: tuple[EpochRecord, ...]
    best_epoch: int
    trained: int = 0
    chosen: Mapping[str, float | str] = field(default_factory=dict)


@keep_freed_memory()
def train(
    model: GraphModel,
    graph: MessageGraph,
    config: TrainingConfig,
    *,
    seed: int,
    validation: Validation | None = None,
    run_dir: Path | None = None,
    resume: bool = False,
    goes_on: Mapping[str, Tensor] | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    processes: Processes = ALONE,
) -> TrainingResult:
    """Trains ``model`` in place and leaves it with the weights of its best epoch.

    Every random stream derives from (seed, epoch), and a checkpoint holds model, optimiser and best weights, so a run
    that was killed and resumed ends exactly like one that was not.

    Cost of a step: one forward and backward pass over the graph, ``O(hops × num_edges × dim)``, plus the loss. With
    ``sampled_neighbours`` it is that of :func:`~gnnrec.training.minibatch.sampled_steps`, and each validation is one
    forward pass over the graph.

    Args:
        model: The model, on the device of ``graph``; with ``sampled_neighbours`` on any device.
        graph: The training graph.
        config: Options.
        seed: Fixes order, negatives and dropout.
        validation: Called after every epoch; without it all epochs run and the last is kept.
        run_dir: Folder for checkpoints; none are written without it.
        resume: Go on from the checkpoint in ``run_dir``, if there is one.
        goes_on: The weights of an earlier fit that the model started from, so that another run than from those is told
            from it.
        on_epoch: Called with each epoch's record.
        processes: Which others train the same model, each with its share of every batch. All of them call with the same
            arguments and end with the same weights; the first one validates, writes checkpoints and calls ``on_epoch``.

    Raises:
        ConfigError: ``resume`` without ``run_dir``, a checkpoint of another run, an unknown ``select_by``, a graph
            without the order that the model reads, ``sampled_neighbours`` that do not fit the model, or processes that
            were not given the same.
        GnnrecError: The loss is no longer finite.
    """
    if model.reads_order and graph.histories is None:
        raise ConfigError("the model reads histories in order (option 'sequence_encoder'), but the graph has no order")
    if resume and run_dir is None:
        raise ConfigError("resume=True needs run_dir=, the folder of the run to go on with")
    pairs = validation if isinstance(validation, ValidationPairs) else None
    run = fingerprint(config, seed, model, graph, pairs, goes_on) if run_dir or processes.size > 1 else ""
    processes.require_alike(run, "was given other options or data than process 0")
    checkpoint = Checkpoint(run_dir, run) if run_dir else None
    tables = processes.tables_of(model, graph.shape)
    optimizer = LazyAdam(model.parameters(), lr=config.learning_rate)
    progress = _Progress(history=[], best_epoch=0, best_weights=_weights(model))
    if checkpoint is not None and resume and checkpoint.exists():
        progress = _Progress(*checkpoint.restore(model, optimizer, tables))
        if len(progress.history) > config.epochs:
            raise ConfigError(
                f"{str(run_dir)!r} holds {len(progress.history)} epochs, and option 'epochs' is {config.epochs}; "
                "raise it, or begin in another folder"
            )
        logger.info("resuming %s after epoch %d", run_dir, len(progress.history))
    processes.require_alike(
        str(len(progress.history)),
        "found another checkpoint than process 0; run_dir= must be a folder that all of them see",
    )
    resumed = len(progress.history)
    objective = Objective(graph, config, reads_order=model.reads_order)
    step_loss = processes.averaged(StepLoss(model, graph, config, objective), tables)

    while len(progress.history) < config.epochs and not progress.exhausted(config.patience):
        epoch = len(progress.history) + 1
        started = time.perf_counter()
        model.train()
        record: EpochRecord = {"epoch": epoch}
        steps = epoch_steps(model, graph, config, objective, tables, processes, _stream(seed, epoch))
        record |= _pass(steps, step_loss, optimizer, tables, processes, graph.edge_index.shape[1])
        if not np.isfinite(record["loss"]):
            raise GnnrecError(f"the loss became {record['loss']} in epoch {epoch}; lower the option 'learning_rate'")
        if validation is not None:
            record |= _validate(model, graph, validation, config.select_by, tables, processes)
        record["seconds"] = time.perf_counter() - started
        progress.add(record, config.select_by if validation is not None else None, model)
        if checkpoint is not None:
            checkpoint.save(
                model,
                optimizer,
                progress.history,
                progress.best_epoch,
                progress.best_weights,
                tables,
                write=processes.leads,
            )
        if processes.leads:
            values = [f"{name} {value:.4f}" for name, value in record.items() if name != "epoch"]
            logger.info("epoch %d: %s", epoch, ", ".join(values))
            if on_epoch is not None:
                on_epoch(record)
    model.load_state_dict(progress.best_weights)
    tables.assemble()
    model.eval()
    return TrainingResult(tuple(progress.history), progress.best_epoch, len(progress.history) - resumed)


@dataclass
class _Progress:
    """How far a run has come."""

    history: list[EpochRecord]
    best_epoch: int
    best_weights: dict[str, Tensor]

    def add(self, record: EpochRecord, select_by: str | None, model: GraphModel) -> None:
        """Notes an epoch, and its weights if it is the best so far."""
        self.history.append(record)
        best = self.history[self.best_epoch - 1] if self.best_epoch else None
        if select_by is None or best is None or record[select_by] > best[select_by]:
            self.best_epoch = len(self.history)
            self.best_weights = _weights(model)

    def exhausted(self, patience: int) -> bool:
        """Whether the best epoch lies too far back."""
        return len(self.history) - self.best_epoch >= patience


def _pass(
    steps: Iterable[Step],
    step_loss: Callable[[Step], dict[str, Tensor]],
    optimizer: torch.optim.Optimizer,
    tables: Tables,
    processes: Processes,
    num_edges: int,
) -> EpochRecord:
    """Takes the steps of an epoch; returns the mean of the loss and of each of its terms over all pairs."""
    totals: dict[str, float] = {}
    for step in steps:
        terms = step_loss(step)
        loss = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad()
        (loss * step.weight).backward()  # type: ignore[no-untyped-call]
        tables.return_gradients()
        optimizer.step()
        num_pairs = len(step.edge) if step.weight else 0
        for name, term in {"loss": loss, **terms}.items():
            totals[name] = totals.get(name, 0.0) + term.item() * num_pairs / num_edges
    return processes.total(totals)


def _validate(
    model: GraphModel,
    graph: MessageGraph,
    validation: Validation,
    select_by: str,
    tables: Tables,
    processes: Processes,
) -> dict[str, float]:
    """Scores the present weights on the validation pairs, with one pass over the whole graph, where that is."""
    metrics: Mapping[str, float] = {}
    with tables.assembled():
        if processes.leads:
            device = model.device
            model.eval().to(graph.edge_index.device)
            with torch.no_grad():
                embeddings = model(graph)
                user = model.users_today(embeddings.user, embeddings.item, graph.histories)
            model.to(device)
            metrics = validation(user, embeddings.item)
    metrics = processes.told(metrics)
    if select_by not in metrics:
        raise ConfigError(f"option 'select_by' is {select_by!r}, but validation computes {', '.join(metrics)}")
    return metrics


def _weights(model: GraphModel) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _stream(seed: int, epoch: int) -> int:
    """Derives the seed of an epoch's random streams."""
    state: Any = np.random.SeedSequence([seed, epoch]).generate_state(1)
    return int(state[0])
