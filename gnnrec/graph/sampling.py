"""Turns seeds into a sample of the neighbourhood that their embeddings are computed from, behind PyG's loaders.

Nothing here loops over nodes or edges, and nothing needs pyg-lib or torch-sparse; the tensors of the graph may lie on
any device.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeAlias

import torch
from torch import Tensor

from gnnrec.errors import ConfigError, UnsupportedError
from gnnrec.geometric import (
    BaseSampler,
    EdgeSamplerInput,
    HeteroData,
    HeteroSamplerOutput,
    NegativeSampling,
    NodeSamplerInput,
)

__all__ = ["NeighbourSampler", "SharedNegatives"]

EdgeType: TypeAlias = tuple[str, str, str]

_ALL = -1  # as PyG writes "every neighbour"


class NeighbourSampler(BaseSampler):  # type: ignore[misc]
    """Samples neighbourhoods from a graph of users, items and media, against the direction of its edges.

    What the embedding of a seed is computed from is drawn outside in, as the models of ``gnnrec.nn`` compute it:

    1. *Relations*, between nodes of one type: each seed draws ``num_related`` sources by each of them.
    2. *Hops*, between users and items: seeds and sources draw ``num_neighbours[0]`` neighbours, these draw
       ``num_neighbours[1]``, and so on. A relation of each direction is needed to go back and forth.
    3. *Media* (relation ``describes``): everything reached so far brings all of its rows.

    Neighbours are drawn without replacement, every set of them equally likely, and all are taken where there are no
    more. So a sum over a node's ``d`` edges is estimated without bias by ``d / f`` times the sum over the ``f`` drawn.

    A node that is reached in several hops is in the sample several times, once for each hop, and draws neighbours of
    its own for each. That makes the hops independent given the nodes that they start from, hence the product of the
    sampled adjacencies of all hops has the product of the full ones as its expectation. Seeds come first.

    Cost of a draw: ``O(edges drawn)`` and one sort of each hop's nodes, whatever the degrees.

    Args:
        graph: Any graph; messages flow along its edges.
        num_neighbours: Neighbours of each node, hop by hop; -1 takes all.
        num_related: Sources of each seed, in each relation within its node type; -1 takes all.
        generator: Source of randomness, on the device of the graph. Without one, torch's own, which PyG's loaders seed
            differently in each of their worker processes.

    Raises:
        ConfigError: A number of neighbours below -1.
    """

    def __init__(
        self,
        graph: HeteroData,
        num_neighbours: Sequence[int],
        num_related: int = 0,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        if min(*num_neighbours, num_related, 0) < _ALL:
            raise ConfigError(f"numbers of neighbours must be -1 (all) or more, got {[*num_neighbours, num_related]}")
        self.num_neighbours = tuple(num_neighbours)
        self.num_related = num_related
        self.generator = generator
        self.relations: dict[EdgeType, _InEdges] = {}
        self.hops: dict[EdgeType, _InEdges] = {}
        self.media: dict[EdgeType, _InEdges] = {}
        for edge_type in graph.edge_types:
            source, name, target = edge_type
            part = self.relations if source == target else self.media if name == "describes" else self.hops
            part[edge_type] = _InEdges.sort(graph[edge_type].edge_index, int(graph[target].num_nodes))
        self.device = graph[graph.edge_types[0]].edge_index.device

    def sample_from_nodes(self, index: NodeSamplerInput, **kwargs: Any) -> HeteroSamplerOutput:
        """Samples around seeds of one type; called by ``NodeLoader``."""
        output = self._sample({index.input_type: index.node})
        output.metadata = (index.input_id, index.time)
        return output

    def sample_from_edges(
        self, index: EdgeSamplerInput, neg_sampling: NegativeSampling | None = None
    ) -> HeteroSamplerOutput:
        """Samples around both ends of seed edges, and around negative targets; called by ``LinkLoader``.

        Each different node is one seed, in the order of the ids. The edges share their negatives, and true ones may be
        among them.

        Raises:
            UnsupportedError: Negatives of one of PyG's own kinds.
        """
        if not isinstance(neg_sampling, SharedNegatives | None):
            raise UnsupportedError(
                f"negatives are SharedNegatives here, which all edges share, not {type(neg_sampling).__name__}"
            )
        source_type, _, target_type = index.input_type
        source, target = index.row, index.col
        if neg_sampling is not None:
            target = torch.cat([target, neg_sampling.draw().to(target)])
        ends = {source_type: source, target_type: target}
        if source_type == target_type:
            ends = {source_type: torch.cat([source, target])}
        distinct = {kind: torch.unique(node, return_inverse=True) for kind, node in ends.items()}
        output = self._sample({kind: node for kind, (node, _) in distinct.items()})
        source_position = distinct[source_type][1][: len(source)]
        target_position = distinct[target_type][1][-len(target) :]
        if neg_sampling is None:
            positions = torch.stack([source_position, target_position])
            output.metadata = (index.input_id, positions, index.label, index.time)
        else:
            of_positive, of_negative = target_position.tensor_split([len(index.col)])
            output.metadata = (index.input_id, source_position, of_positive, of_negative, index.time)
        return output

    def _sample(self, seeds: Mapping[str, Tensor]) -> HeteroSamplerOutput:
        sample = _Sample({kind: node.to(self.device) for kind, node in seeds.items()}, self.generator)
        sample.expand(sample.reached(), self.relations, self.num_related)
        frontier = sample.reached()
        for count in self.num_neighbours:
            frontier = sample.expand(frontier, self.hops, count)
        sample.expand(sample.reached(), self.media, _ALL)
        return sample.output()


class SharedNegatives(NegativeSampling):  # type: ignore[misc]
    """Negatives that all edges of a batch share, to be given to ``LinkLoader`` as ``neg_sampling``.

    Args:
        draw: Returns targets ``[num_drawn]``, anew for each batch.
    """

    def __init__(self, draw: Callable[[], Tensor]) -> None:
        super().__init__("triplet")
        self.draw = draw


@dataclass(frozen=True, eq=False)
class _InEdges:
    """The edges of one type, sorted by target (CSC).

    Attributes:
        start: ``[num_targets + 1]`` where each target's edges begin.
        source: ``[num_edges]``.
        edge: ``[num_edges]`` where each lies in the graph; ``None``: it is sorted itself.
    """

    start: Tensor
    source: Tensor
    edge: Tensor | None

    @classmethod
    def sort(cls, edge_index: Tensor, num_targets: int) -> Self:
        source, target = edge_index
        start = torch.zeros(num_targets + 1, dtype=torch.int64, device=target.device)
        start[1:] = torch.bincount(target, minlength=num_targets).cumsum(0)
        if bool((target[1:] >= target[:-1]).all()):
            return cls(start, source, None)
        order = target.argsort(stable=True)
        return cls(start, source[order], order)

    def draw(self, target: Tensor, count: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
        """Returns source, position in ``target``, and place in the graph of every edge drawn."""
        first = self.start[target]
        degree = self.start[target + 1] - first
        row, place = _places(degree, count, generator)
        position = first[row] + place
        return self.source[position].long(), row, position if self.edge is None else self.edge[position]


@dataclass
class _Sample:
    """A sample that grows.

    Attributes:
        node: Node type → ids, in the order in which they were reached.
        generator: Source of randomness.
        drawn: Edge type → ``[3, num_drawn]`` source and target (positions in ``node``), and place in the graph; one
            tensor for each time that edges were drawn.
    """

    node: dict[str, Tensor]
    generator: torch.Generator | None
    drawn: dict[EdgeType, list[Tensor]] = field(default_factory=dict)

    def reached(self) -> dict[str, range]:
        """Returns the positions of all nodes."""
        return {kind: range(len(node)) for kind, node in self.node.items()}

    def expand(
        self, frontier: Mapping[str, range], in_edges: Mapping[EdgeType, _InEdges], count: int
    ) -> dict[str, range]:
        """Draws so many edges of each type for each node of the frontier; returns the positions of their sources."""
        drawn = {}
        for edge_type, edges in in_edges.items():
            targets = frontier.get(edge_type[2], range(0))
            if targets:
                ids = self.node[edge_type[2]][targets.start : targets.stop]
                source, row, edge = edges.draw(ids, count, self.generator)
                drawn[edge_type] = source, row + targets.start, edge
        new = {}
        for kind in dict.fromkeys(source_type for source_type, _, _ in drawn):
            of_kind = {edge_type: edges for edge_type, edges in drawn.items() if edge_type[0] == kind}
            sources = [source for source, _, _ in of_kind.values()]
            ids, position = torch.unique(torch.cat(sources), return_inverse=True)
            known = self.node.get(kind, ids[:0])
            self.node[kind] = torch.cat([known, ids])
            new[kind] = range(len(known), len(known) + len(ids))
            positions = (position + len(known)).split([len(source) for source in sources])
            for local, (edge_type, (_, target, edge)) in zip(positions, of_kind.items(), strict=True):
                self.drawn.setdefault(edge_type, []).append(torch.stack([local, target, edge]))
        return new

    def output(self) -> HeteroSamplerOutput:
        """Returns the sample as PyG's loaders take it."""
        edges = {edge_type: torch.cat(parts, dim=1) for edge_type, parts in self.drawn.items()}
        row, col, edge = ({edge_type: part[entry] for edge_type, part in edges.items()} for entry in range(3))
        return HeteroSamplerOutput(node=self.node, row=row, col=col, edge=edge)


def _places(degree: Tensor, count: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Draws ``count`` different numbers below each degree ``[num_nodes]``, all of them where there are no more.

    Floyd's algorithm (Bentley & Floyd 1987, "A sample of brilliance"), for all nodes at once: the k-th number is drawn
    below ``degree - count + k + 1``, and is the last of these where the one drawn was chosen before.

    Returns:
        Position in ``degree`` and number, one entry for each number drawn.
    """
    node = torch.arange(len(degree), device=degree.device)
    if count == _ALL or not len(degree) or int(degree.max()) <= count:
        row = node.repeat_interleave(degree)
        return row, torch.arange(len(row), device=degree.device) - (degree.cumsum(0) - degree)[row]
    uniform = torch.rand(len(degree), count, dtype=torch.float64, device=degree.device, generator=generator)
    chosen = degree.new_full((len(degree), count), -1)
    for k in range(count):
        last = (degree - count).clamp(min=0) + k
        drawn = (uniform[:, k] * (last + 1)).long()
        was_chosen = (chosen[:, :k] == drawn[:, None]).any(dim=1)
        chosen[:, k] = torch.where(was_chosen | (degree <= count), last, drawn)
    row, column = torch.nonzero(torch.arange(count, device=degree.device) < degree[:, None], as_tuple=True)
    return row, chosen[row, column]
