"""Turns the training pairs into steps over sampled neighbourhoods, for graphs that do not fit where the model is."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from gnnrec.errors import ConfigError
from gnnrec.geometric import LinkLoader
from gnnrec.graph.sampling import NeighbourSampler, SharedNegatives
from gnnrec.nn.message_graph import MessageGraph
from gnnrec.nn.model import GraphModel
from gnnrec.nn.sampled_graph import graph_to_sample, sampled_message_graph
from gnnrec.nn.warm_start import tables_of_nodes
from gnnrec.training.steps import Step
from gnnrec.training.tables import Tables

__all__ = ["sampled_steps"]


def sampled_steps(
    model: GraphModel,
    graph: MessageGraph,
    batches: Iterable[Tensor],
    neighbours: Sequence[int],
    *,
    draw_candidates: Callable[[], Tensor],
    generator: torch.Generator,
    tables: Tables,
) -> Iterator[Step]:
    """Embeds every batch on a sample of its own.

    What a step embeds, before it is decoded, has what the whole graph gives as its expectation, whatever the numbers of
    neighbours (:mod:`gnnrec.nn.sampled_graph`). Decoder and loss are not linear; there the bias goes to 0 as the
    numbers grow, and is 0 where all neighbours are taken.

    Cost of a step: from ``s ≤ 2 × batch_size + num_candidates`` seeds, with ``r`` sources in all relations of a node
    and ``neighbours = (f_1 … f_H)``, at most ``n = s (1 + r)(1 + f_1 + … + f_1 ⋯ f_H)`` nodes are reached by as many
    edges. Each takes its row of identity and its media, ``O(width × dim)``, and ``H`` products, ``O(H × dim)``. Memory
    ``O(n × (width + dim))``. Nothing in a step grows with the graph. Once, at the start: ``O(num_edges)`` time and
    memory, without the factor ``dim``.

    Args:
        model: The model, on any device.
        graph: The whole graph, on any device: the sampler works there, and only samples go to the model.
        batches: Which pairs each has.
        neighbours: Neighbours of each node, hop by hop, as many numbers as the model has hops; -1 takes all. The first
            is also how many sources a seed draws in each relation between items, or between users.
        draw_candidates: Returns the items that a batch is compared with, as nodes of the whole graph, ascending.
        generator: Source of randomness, on CPU.
        tables: Of the model.

    Raises:
        ConfigError: Not as many hops as the model has, or a model that looks further than these.
    """
    _check(model, neighbours)
    device = model.device
    data = graph_to_sample(graph)
    draws = torch.Generator(graph.edge_index.device)  # the sampler draws where the graph is
    draws.manual_seed(int(torch.randint(2**62, (), generator=generator)))
    loader = LinkLoader(
        data,
        NeighbourSampler(data, neighbours, neighbours[0], generator=draws),
        edge_label_index=(("user", "interacts", "item"), graph.edge_index),
        neg_sampling=SharedNegatives(draw_candidates),
    )
    node_type = tables_of_nodes(graph.shape, model.config)
    for edge in batches:
        sample = loader(edge)
        users, items = sample["user"], sample["item"]
        node = {"user": users.n_id.to(device), "item": items.n_id.to(device)}
        yield Step(
            graph=sampled_message_graph(sample, device),
            edge=edge,
            user_index=users.src_index.to(device),
            item_index=items.dst_pos_index.to(device),
            rows={name: tables.rows(name, node[kind]) for name, kind in node_type.items()},
            candidate_index=items.dst_neg_index.to(device),
            candidate_id=items.n_id[items.dst_neg_index],
        )


def _check(model: GraphModel, neighbours: Sequence[int]) -> None:
    if not model.can_be_sampled:
        raise ConfigError(
            f"option 'sampled_neighbours' samples what {model.config.hops} hops tell of a node, and this model "
            f"({model.config.architecture!r}) looks further; set sampled_neighbours=() to train on the whole graph"
        )
    hops = model.config.hops
    if len(neighbours) != hops:
        raise ConfigError(f"option 'sampled_neighbours' needs a number for each of the {hops} hops, got {neighbours}")
