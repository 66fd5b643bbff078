"""Turns the training pairs into steps, each a batch of pairs and the graph on which they are embedded."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor
from torch.func import functional_call

from gnnrec.nn.message_graph import MessageGraph
from gnnrec.nn.model import Embeddings, GraphModel
from gnnrec.training.tables import Tables

__all__ = ["Step", "edge_batches", "whole_graph_steps"]


@dataclass(frozen=True, eq=False)
class Step:
    """Some positive pairs, and what they are embedded on: the whole graph, or a sample of it.

    Attributes:
        graph: The graph, with nodes of its own where it is a sample.
        edge: ``[batch]`` which of the training pairs these are.
        user_index: ``[batch]`` their users, as nodes of ``graph``.
        item_index: ``[batch]`` their items.
        rows: Name of a weight with a row for each node → the rows of the nodes of a sample.
        candidate_index: ``[num_candidates]`` items that all pairs are compared with, ascending; ``None`` where the loss
            has no use for them.
        candidate_id: ``[num_candidates]`` the same items as nodes of the whole graph, and on its device.
        negative_index: ``[batch, num_negatives]`` items that each pair is compared with, likewise.
        hidden_items: ``[num_items]`` bool: items of ``graph`` to embed as if they were new.
        weight: How much the mean over these pairs counts in the mean over the processes that share a batch.
    """

    graph: MessageGraph
    edge: Tensor
    user_index: Tensor
    item_index: Tensor
    rows: Mapping[str, Tensor] = field(default_factory=dict)
    candidate_index: Tensor | None = None
    candidate_id: Tensor | None = None
    negative_index: Tensor | None = None
    hidden_items: Tensor | None = None
    weight: float = 1.0

    def embed(self, model: GraphModel) -> Embeddings:
        """Embeds the nodes of the graph; of a sample only those in pairs and candidates mean something."""
        given = {"hidden_items": self.hidden_items}
        embeddings: Embeddings = functional_call(model, dict(self.rows), (self.graph,), given)
        return embeddings

    def hiding(self, share: float, generator: torch.Generator) -> Self:
        """Draws the share of the items that are embedded as if they were new."""
        if not share:
            return self
        hidden = torch.rand(self.graph.num_items, generator=generator) < share
        return replace(self, hidden_items=hidden.to(self.item_index.device))

    def of(self, pairs: slice, weight: float) -> Self:
        """Keeps some of the pairs, which count so much."""
        return replace(
            self,
            edge=self.edge[pairs],
            user_index=self.user_index[pairs],
            item_index=self.item_index[pairs],
            negative_index=None if self.negative_index is None else self.negative_index[pairs],
            weight=weight,
        )


def edge_batches(
    graph: MessageGraph, batch_size: int, *, by_user: bool, generator: torch.Generator
) -> tuple[Tensor, ...]:
    """Puts the training pairs in random order and cuts it; returns which pairs each batch has, ``[batch_size]``.

    Args:
        graph: The whole graph.
        batch_size: Pairs of a batch.
        by_user: Keep all pairs of a user together; then users come in random order.
        generator: Source of randomness, on CPU.
    """
    order = torch.randperm(graph.edge_index.shape[1], generator=generator)
    if by_user:
        rank = torch.randperm(graph.num_users, generator=generator)[graph.edge_index[0].cpu()]
        order = rank.argsort(stable=True)
    return torch.split(order, batch_size)


def whole_graph_steps(graph: MessageGraph, batches: Iterable[Tensor], tables: Tables) -> Iterator[Step]:
    """Embeds every batch on the whole graph.

    Args:
        graph: The whole graph.
        batches: Which pairs each has.
        tables: Of the model.
    """
    for batch in batches:
        edge = batch.to(graph.edge_index.device)
        user_index, item_index = graph.edge_index[:, edge]
        yield Step(graph, edge, user_index, item_index, tables.whole())
