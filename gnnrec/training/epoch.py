"""Turns the training pairs into the steps of one epoch, with all that is drawn for them."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch

from gnnrec.nn.message_graph import MessageGraph
from gnnrec.nn.model import GraphModel
from gnnrec.training.config import TrainingConfig
from gnnrec.training.distributed import Processes
from gnnrec.training.minibatch import sampled_steps
from gnnrec.training.objective import Objective
from gnnrec.training.steps import Step, edge_batches, whole_graph_steps
from gnnrec.training.tables import Tables

__all__ = ["epoch_steps"]


def epoch_steps(
    model: GraphModel,
    graph: MessageGraph,
    config: TrainingConfig,
    objective: Objective,
    tables: Tables,
    processes: Processes,
    seed: int,
) -> Iterator[Step]:
    """Passes once over all interactions in random order; of every batch this process gets its share.

    All processes draw the same order, candidates and negatives, and on the whole graph also the same hidden items and
    dropout of features. So what they compute together there is what one process would, up to rounding, but for losses
    that compare the pairs of a batch with each other. Neighbours each process samples for itself.

    Args:
        model: The model.
        graph: The whole graph.
        config: Options.
        objective: What the pairs are drawn for.
        tables: Of the model.
        processes: Which others take the same steps.
        seed: Of this epoch.
    """
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed + 1)  # dropout layers draw from the global stream
    if config.edge_dropout:
        graph = replace(graph, interactions=graph.sampled_interactions(1 - config.edge_dropout, generator))
    hidden_share = model.config.identity_dropout if model.hides_items else 0.0
    # Where all pairs of a user share one row of scores, they go together.
    batches = edge_batches(
        graph,
        config.pairs_per_step(graph.edge_index.shape[1]),
        by_user=objective.shares_scores,
        generator=generator,
    )
    shares = [processes.share(len(batch)) for batch in batches]
    if not config.sampled_neighbours:
        whole_steps = whole_graph_steps(graph, batches, tables)
        for step, (pairs, weight) in zip(whole_steps, shares, strict=True):
            yield objective.drawn(step.hiding(hidden_share, generator), generator).of(pairs, weight)
        return
    own = processes.own_stream(generator)
    steps = sampled_steps(
        model,
        graph,
        [batch[pairs] for batch, (pairs, _) in zip(batches, shares, strict=True)],
        config.sampled_neighbours,
        draw_candidates=partial(objective.draw_candidates, generator),
        generator=own,
        tables=tables,
    )
    for step, (_, weight) in zip(steps, shares, strict=True):
        yield replace(step.hiding(hidden_share, own), weight=weight)
