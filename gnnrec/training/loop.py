"""Trains a model on a graph: epochs, early stopping, checkpoints, exact resume."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from gnnrec.errors import ConfigError, GnnrecError
from gnnrec.nn.message_graph import MessageGraph
from gnnrec.nn.model import GraphModel
from gnnrec.training.checkpoint import Checkpoint, fingerprint
from gnnrec.training.config import TrainingConfig
from gnnrec.training.lazy_adam import LazyAdam
from gnnrec.training.minibatch import sampled_steps
from gnnrec.training.objective import Objective
from gnnrec.training.steps import edge_batches, whole_graph_steps

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
        chosen: Option → value, of those that are settled after training.
    """

    history: tuple[EpochRecord, ...]
    best_epoch: int
    chosen: Mapping[str, float] = field(default_factory=dict)


def train(
    model: GraphModel,
    graph: MessageGraph,
    config: TrainingConfig,
    *,
    seed: int,
    validation: Validation | None = None,
    run_dir: Path | None = None,
    resume: bool = False,
    on_epoch: Callable[[EpochRecord], None] | None = None,
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
        on_epoch: Called with each epoch's record.

    Raises:
        ConfigError: ``resume`` without ``run_dir``, a checkpoint of another run, an unknown ``select_by``, a graph
            without the order that the model reads, or ``sampled_neighbours`` that do not fit the model.
        GnnrecError: The loss is no longer finite.
    """
    if model.reads_order and graph.histories is None:
        raise ConfigError("the model reads histories in order (option 'sequence_encoder'), but the graph has no order")
    if resume and run_dir is None:
        raise ConfigError("resume=True needs run_dir=, the folder of the run to go on with")
    optimizer = LazyAdam(model.parameters(), lr=config.learning_rate)
    checkpoint = Checkpoint(run_dir, fingerprint(config, seed, model, graph)) if run_dir else None
    progress = _Progress(history=[], best_epoch=0, best_weights=_weights(model))
    if checkpoint is not None and resume and checkpoint.exists():
        progress = _Progress(*checkpoint.restore(model, optimizer))
        logger.info("resuming %s after epoch %d", run_dir, len(progress.history))
    objective = Objective(graph, config)

    while len(progress.history) < config.epochs and not progress.exhausted(config.patience):
        epoch = len(progress.history) + 1
        started = time.perf_counter()
        record: EpochRecord = {"epoch": epoch, **_run_epoch(model, graph, config, objective, optimizer, seed, epoch)}
        if validation is not None:
            record |= _validate(model, graph, validation, config.select_by)
        record["seconds"] = time.perf_counter() - started
        progress.add(record, config.select_by if validation is not None else None, model)
        if checkpoint is not None:
            checkpoint.save(model, optimizer, progress.history, progress.best_epoch, progress.best_weights)
        logger.info("epoch %d: %s", epoch, ", ".join(f"{name} {value:.4f}" for name, value in record.items()))
        if on_epoch is not None:
            on_epoch(record)
    model.load_state_dict(progress.best_weights)
    model.eval()
    return TrainingResult(tuple(progress.history), progress.best_epoch)


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


def _run_epoch(
    model: GraphModel,
    graph: MessageGraph,
    config: TrainingConfig,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    seed: int,
    epoch: int,
) -> EpochRecord:
    """Passes once over all interactions in random order; returns the mean of each loss term."""
    model.train()
    generator = torch.Generator().manual_seed(_stream(seed, epoch))
    torch.manual_seed(_stream(seed, epoch) + 1)  # dropout layers draw from the global stream
    device, num_edges = _device(model), graph.edge_index.shape[1]
    interactions = graph.sampled_interactions(1 - config.edge_dropout, generator) if config.edge_dropout else None
    hidden_share = model.config.identity_dropout if model.hides_items else 0.0
    totals: dict[str, float] = {}
    # Where all pairs of a user share one row of scores, they go together.
    batches = edge_batches(
        graph, config.pairs_per_step(num_edges), by_user=objective.shares_scores, generator=generator
    )
    if config.sampled_neighbours:
        steps = sampled_steps(
            model,
            graph,
            batches,
            config.sampled_neighbours,
            draw_candidates=partial(objective.draw_candidates, generator),
            generator=generator,
            interactions=interactions,
        )
    else:
        steps = whole_graph_steps(graph, batches, interactions)
    for step in steps:
        hidden = None
        if hidden_share:
            hidden = (torch.rand(step.graph.num_items, generator=generator) < hidden_share).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            embeddings = step.embed(model, hidden)
            users = None
            if model.reads_order and graph.histories is not None:
                events = graph.histories.before(step.user_index, step.edge, model.config.sequence_length)
                users = model.after_events(embeddings.user[step.user_index], embeddings.item, events)
            candidates = objective.candidates_of(step)
            terms = objective(embeddings, step.user_index, step.item_index, generator, users, candidates)
            aligned = model.alignment_loss(embeddings, step.graph, step.user_index, step.item_index)
            if aligned is not None:
                terms["modalities"] = aligned
        loss = torch.stack([term.float() for term in terms.values()]).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        for name, term in {"loss": loss, **terms}.items():
            totals[name] = totals.get(name, 0.0) + term.item() * len(step.edge) / num_edges
    if not np.isfinite(totals["loss"]):
        raise GnnrecError(f"the loss became {totals['loss']} in epoch {epoch}; lower the option 'learning_rate'")
    return totals


def _validate(model: GraphModel, graph: MessageGraph, validation: Validation, select_by: str) -> dict[str, float]:
    """Scores the present weights on the validation pairs, with one pass over the whole graph, where that is."""
    device = _device(model)
    model.eval().to(graph.edge_index.device)
    with torch.no_grad():
        embeddings = model(graph)
        user = model.users_today(embeddings.user, embeddings.item, graph.histories)
    model.to(device)
    metrics = dict(validation(user, embeddings.item))
    if select_by not in metrics:
        raise ConfigError(f"option 'select_by' is {select_by!r}, but validation computes {', '.join(metrics)}")
    return metrics


def _device(model: GraphModel) -> torch.device:
    return next(model.parameters()).device


def _weights(model: GraphModel) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _stream(seed: int, epoch: int) -> int:
    """Derives the seed of an epoch's random streams."""
    state: Any = np.random.SeedSequence([seed, epoch]).generate_state(1)
    return int(state[0])
