"""Ranks items by smoothing histories over the user–item graph with a fixed filter; nothing is trained."""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Self

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import svds
from torch import Tensor

from gnnrec.config import Range, from_dict, searched, to_dict
from gnnrec.eigenvectors import eigenvectors
from gnnrec.errors import ConfigError
from gnnrec.named_tensors import csr_matrix, csr_tensors
from gnnrec.nn.operator import SparseOperator
from gnnrec.nn.spectral import leading_directions
from gnnrec.rankers.base import RankerState, RankingTask
from gnnrec.rankers.history_ranker import HistoryRanker
from gnnrec.training.loop import TrainingResult

__all__ = ["GraphFilterConfig", "GraphFilterRanker"]

# Measured on Gowalla, TikTok, Amazon Baby and MovieLens 1M: a step of a sparse product takes as long as this many
# multiplications of a dense one, which needs so many columns to be fast.
_COST_OF_A_LOOKUP = 20
_FEWEST_AT_ONCE = 16
_NOTHING = 1e-5
_FEW = 2_000  # rows or columns, of which all singular vectors are there in a second or two
# Singular values of sparse logs fall slowly: of 64 directions of Amazon Baby, four rounds of power iteration find a
# third, and recall@20 is .071 instead of .083. Of many, what a filter lets through at its edge counts as little as what
# it just keeps out, and Lanczos iteration takes minutes.
_MOST_EXACT = 256
_ROUNDS = 4
_FURTHER = 32
_MOST_REACHED = 64_000_000  # people × signals


@dataclass(frozen=True)
class GraphFilterConfig:
    """Options of the graph filter.

    Attributes:
        factors: Singular vectors that the ideal low-pass filter lets through, at most the rank of the graph; 256 as
            published, 0 for the linear filter alone.
        ideal_weight: Weight α of the ideal low-pass filter beside the linear one; .3 as published.
        linear_exponent: Exponent β of the item degrees around the linear filter: 0 as published, larger ones lean to
            popular items. At ½ both filters lean alike.
        user_exponent: Exponent γ of the user degrees in the linear filter: 1 as published, where a person's whole
            history counts as much as another's; smaller ones listen more to those with long histories.
        ideal_user_exponent: The same in the ideal low-pass filter, whose directions then tell less of people with few
            events.
        regularisation: Added to all degrees in the ideal low-pass filter, in multiples of their mean; 0 as published.
            It keeps people and items of few events, among which singular values are high as well, from taking up
            directions (Amini et al. 2013, section 2; Zhang and Rohe 2018).
    """

    factors: int = searched(128, Range(16, 1024, log=True))
    ideal_weight: float = searched(2.0, Range(0.1, 10.0, log=True))
    linear_exponent: float = searched(0.5, Range(0.0, 1.0))
    user_exponent: float = searched(1.0, Range(0.0, 1.0))
    ideal_user_exponent: float = searched(1.0, Range(0.0, 1.0))
    regularisation: float = searched(0.0, Range(0.0, 4.0))

    def __post_init__(self) -> None:
        for name, value in to_dict(self).items():
            if value < 0:
                raise ConfigError(f"option {name!r} must not be negative, got {value}")


class GraphFilterRanker(HistoryRanker):
    """GF-CF: a linear and an ideal low-pass filter of the item graph (Shen et al. 2021, section 4, algorithm 1).

    A history ``r`` is scored ``r (D^-β R̃ᵀR̃ D^β + α D_τ^-½ V Vᵀ D_τ^½)``. ``R̃ = D_U^(-γ/2) R D^-½`` holds the training
    pairs over powers of the degrees of their users and items. ``V`` holds the leading right singular vectors of the
    same with an exponent of its own and regularised degrees ``D_τ``. The paper has ``β = 0``, ``γ = 1`` in both and
    ``D_τ = D``; ``β = ½`` then makes the linear part a walk of three random steps.

    Cost: a truncated decomposition once, of more than 256 factors by power iteration: nine products of the training
    pairs with ``factors`` columns and ``O(num_items × factors²)``; and the paths of length three from each user who is
    scored. Memory ``O(num_edges + num_items × factors)``.

    Args:
        graph: ``[num_users, num_items]`` binary: the pairs that the filter was fitted on.
        basis: ``[num_items, factors]`` float32 orthonormal columns ``V``.
        interactions: ``[num_users, num_items]`` binary: the histories, which may have grown since.
        config: Options.
    """

    name: ClassVar[str] = "graph-filter"

    def __init__(
        self, graph: sp.csr_matrix, basis: Tensor, interactions: sp.csr_matrix, config: GraphFilterConfig
    ) -> None:
        super().__init__(interactions)
        self.graph = graph
        self.basis = basis
        self.config = config
        self.normalised = _normalised(graph, config.user_exponent)
        self.item_degree = _degree(graph.indices, graph.shape[1])
        self.ideal_degree = _degree(graph.indices, graph.shape[1], config.regularisation)

    @classmethod
    def fit(cls, task: RankingTask, config: GraphFilterConfig) -> tuple[Self, TrainingResult | None]:
        """Decomposes the graph."""
        basis = _leading_tastes(task.interactions, config, task.seed)
        return cls(task.interactions, basis, task.interactions, config), None

    def weighing_ideal(self, weight: float) -> Self:
        """Returns the same filter, whose ideal low-pass part counts so much."""
        weighed = copy(self)
        weighed.config = replace(self.config, ideal_weight=weight)
        return weighed

    def from_histories(self, histories: sp.csr_matrix) -> Tensor:
        """Scores all items from histories."""
        linear = _around(self._linear, histories, self.item_degree**self.config.linear_exponent)
        if self.basis.shape[1] == 0:
            return linear
        return linear + _around(self._ideal, histories, np.sqrt(self.ideal_degree))

    def similar(self, item_index: NDArray[np.int64]) -> Tensor:
        """Returns rows of ``R̃ᵀR̃ + α V Vᵀ``, which is symmetric: both filters without their leaning to popular items."""
        signals = sp.csr_matrix(sp.eye(len(self.basis), dtype=np.float32))[item_index]
        return self._linear(signals) + self._ideal(signals)

    def state(self) -> RankerState:
        """Returns the fitted graph, its basis and the histories."""
        matrices = csr_tensors("graph", self.graph) | csr_tensors("interactions", self.interactions)
        return RankerState({"basis": self.basis, **matrices}, to_dict(self.config))

    @classmethod
    def from_state(cls, state: RankerState) -> Self:
        """Rebuilds the ranker."""
        basis = state.tensors["basis"]
        graph, interactions = (csr_matrix(name, state.tensors, len(basis)) for name in ("graph", "interactions"))
        return cls(graph, basis, interactions, from_dict(GraphFilterConfig, state.facts))

    def _linear(self, signals: sp.csr_matrix) -> Tensor:
        """Applies ``R̃ᵀR̃`` from left to right, so that nothing of size items × items is formed.

        So many signals at once that what reaches people fits into 256 MB.
        """
        at_once = max(_FEWEST_AT_ONCE, _MOST_REACHED // self.normalised.shape[0])
        starts = range(0, max(signals.shape[0], 1), at_once)
        return torch.cat([self._linear_at_once(signals[start : start + at_once]) for start in starts])

    def _linear_at_once(self, signals: sp.csr_matrix) -> Tensor:
        """Applies it to few signals.

        A product of two sparse matrices looks up each of its steps. Where the signals reach many people, adding up
        whole rows of the transposed graph, most of them zeros, is done sooner.
        """
        reached = signals @ self._people_of_items
        steps = np.diff(self.normalised.indptr)[reached.indices].sum()
        if _COST_OF_A_LOOKUP * steps < max(reached.shape[0], _FEWEST_AT_ONCE) * self.normalised.nnz:
            return torch.from_numpy((reached @ self.normalised).toarray())
        return (self._sums_of_rows @ torch.from_numpy(reached.T.toarray())).T.contiguous()

    @cached_property
    def _people_of_items(self) -> sp.csr_matrix:
        """``R̃ᵀ``, ``[num_items, num_users]``, row by row: else each product would sort it anew."""
        return sp.csr_matrix(self.normalised.T)

    @cached_property
    def _sums_of_rows(self) -> SparseOperator:
        """The same, to be multiplied by dense columns."""
        pairs = self.normalised.tocoo()
        edge_index = torch.from_numpy(np.stack([pairs.row, pairs.col]).astype(np.int64))
        return SparseOperator(edge_index, torch.from_numpy(pairs.data), pairs.shape)

    def _ideal(self, signals: sp.csr_matrix) -> Tensor:
        """Applies ``α V Vᵀ``."""
        return self.config.ideal_weight * torch.from_numpy(signals @ self.basis.numpy()) @ self.basis.T


def _around(smooth: Callable[[sp.csr_matrix], Tensor], histories: sp.csr_matrix, weight: NDArray[np.float32]) -> Tensor:
    """Applies ``weight⁻¹ · smooth · weight``."""
    return smooth(sp.csr_matrix(histories.multiply(1 / weight))) * torch.from_numpy(weight)


def _normalised(graph: sp.csr_matrix, user_exponent: float, regularisation: float = 0.0) -> sp.csr_matrix:
    """Returns ``D_U^(-γ/2) R D^-½`` in float32."""
    user_index = np.repeat(np.arange(graph.shape[0]), np.diff(graph.indptr))
    users = np.power(_degree(user_index, graph.shape[0], regularisation), user_exponent, dtype=np.float64)
    items = _degree(graph.indices, graph.shape[1], regularisation)
    data = (1 / np.sqrt(users[user_index] * items[graph.indices])).astype(np.float32)
    return sp.csr_matrix((data, graph.indices, graph.indptr), shape=graph.shape)


def _degree(index: NDArray[np.integer], num_nodes: int, regularisation: float = 0.0) -> NDArray[np.float32]:
    """Returns how many of the ends ``[num_edges]`` are each node, 1 for nodes without, and more if regularised."""
    degree = np.bincount(index, minlength=num_nodes)
    mean = len(index) / max(int(np.count_nonzero(degree)), 1)
    return (np.maximum(degree, 1) + regularisation * mean).astype(np.float32)


def _leading_tastes(graph: sp.csr_matrix, config: GraphFilterConfig, seed: int) -> Tensor:
    """Returns ``V [num_items, factors]``; fewer columns if the graph is of a lower rank."""
    matrix, factors = _normalised(graph, config.ideal_user_exponent, config.regularisation), config.factors
    if factors == 0:
        return torch.zeros(matrix.shape[1], 0)
    if min(matrix.shape) <= max(_FEW, factors + _FURTHER):
        singular, right = (part[-factors:] for part in _all_right_singular_vectors(matrix))
    elif factors <= _MOST_EXACT:
        start = np.random.default_rng(seed).standard_normal(min(matrix.shape))
        found = svds(matrix.astype(np.float64), k=factors, v0=start)[1:]
        singular, right = (part.astype(np.float64, copy=False) for part in found)
    else:
        singular, right = _leading_right_singular_vectors(matrix, factors, seed)
    # What belongs to zero is the highest frequency, which a low-pass filter must not let through.
    passing = singular > _NOTHING * singular.max(initial=0)
    return torch.from_numpy(right[passing].T.astype(np.float32, order="C"))


def _leading_right_singular_vectors(
    matrix: sp.csr_matrix, factors: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns ``[factors]`` singular values, ascending, and about their vectors ``[factors, num_items]``."""
    start = np.random.default_rng(seed).standard_normal((matrix.shape[1], factors + _FURTHER), dtype=np.float32)
    pairs = matrix.tocoo()
    user, item, weight = (torch.from_numpy(part) for part in (pairs.row, pairs.col, pairs.data))
    forwards = SparseOperator(torch.stack([item, user]).long(), weight, matrix.shape[::-1])
    backwards = SparseOperator(torch.stack([user, item]).long(), weight, matrix.shape)
    basis = leading_directions(forwards.__matmul__, backwards.__matmul__, torch.from_numpy(start), _ROUNDS)
    stretched = forwards @ basis
    squared, mixture = eigenvectors((stretched.T @ stretched).double())
    vectors = basis.double() @ mixture[:, -factors:]
    return squared[-factors:].clamp(min=0).sqrt().numpy(), vectors.T.numpy()


def _all_right_singular_vectors(matrix: sp.csr_matrix) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Decomposes by products of the smaller side: ``[smaller]`` singular values, ``[smaller, num_items]`` vectors.

    A row of zeros belongs to a value of 0. Cost: ``O(num_edges × smaller + smaller³)``.
    """
    matrix = matrix.astype(np.float64)
    is_wide = matrix.shape[0] < matrix.shape[1]
    squared, vectors = np.linalg.eigh((matrix @ matrix.T if is_wide else matrix.T @ matrix).toarray())
    singular = np.sqrt(np.maximum(squared, 0))
    # Rounding of what is squared leaves the root of it where there is nothing.
    singular[singular <= _NOTHING * singular.max(initial=0)] = 0
    if not is_wide:
        return singular, vectors.T
    return singular, np.divide(
        vectors.T @ matrix,
        singular[:, None],
        out=np.zeros((len(singular), matrix.shape[1])),
        where=singular[:, None] > 0,
    )
