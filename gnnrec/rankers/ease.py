"""Ranks items by a linear model that predicts each item of a history from the others, solved in closed form."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from gnnrec.config import Range, searched
from gnnrec.errors import ConfigError
from gnnrec.named_tensors import csr_matrix, csr_tensors
from gnnrec.rankers.base import RankerState, RankingTask
from gnnrec.rankers.history_ranker import HistoryRanker
from gnnrec.training.loop import TrainingResult

__all__ = ["EaseConfig", "EaseRanker"]


@dataclass(frozen=True)
class EaseConfig:
    """Options of EASE.

    Attributes:
        l2: Weight λ of the squared weights. It counts as users: below so many, an item's evidence is shrunk to less
            than half. Sparse logs want tens, dense ones hundreds.
        maximum_items: Largest catalogue to fit. The weights hold ``num_items²`` float32 (3.6 GB for 30,000 items), and
            the fit takes about three times that.
    """

    l2: float = searched(200.0, Range(5, 1000, log=True))
    maximum_items: int = 30_000

    def __post_init__(self) -> None:
        for name in ("l2", "maximum_items"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"option {name!r} must be positive, got {getattr(self, name)}")


class EaseRanker(HistoryRanker):
    """EASE: an "embarrassingly shallow autoencoder" of histories (Steck 2019).

    The score of item ``j`` is ``x · B_j``, where ``x`` is the history and ``B`` minimises ``‖X − XB‖² + λ‖B‖²`` over
    all training histories ``X`` with a diagonal of zeros (eq. 3 and 4), so that no item predicts itself. Cost:
    ``O(num_items³)`` once; memory ``O(num_items²)``.

    Args:
        weights: ``[num_items, num_items]`` float32; column ``j`` predicts item ``j``.
        interactions: ``[num_users, num_items]`` binary.
    """

    name: ClassVar[str] = "ease"

    def __init__(self, weights: Tensor, interactions: sp.csr_matrix) -> None:
        super().__init__(interactions)
        self.weights = weights

    @classmethod
    def fit(cls, task: RankingTask, config: EaseConfig) -> tuple[Self, TrainingResult | None]:
        """Solves for the weights.

        Raises:
            ConfigError: The catalogue is larger than ``maximum_items``, or ``l2`` too small for float32.
        """
        num_items = task.interactions.shape[1]
        if num_items > config.maximum_items:
            raise ConfigError(
                f"option 'maximum_items' is {config.maximum_items}, and there are {num_items} items, for which EASE "
                f"keeps {4 * num_items**2 / 1e9:.1f} GB; raise it, or choose the preset 'graph-filter', whose memory "
                "grows with the interactions"
            )
        gram = torch.from_numpy((task.interactions.T @ task.interactions).toarray()).to(task.device, torch.float32)
        return cls(_zero_diagonal_weights(gram, config.l2).cpu(), task.interactions), None

    def from_histories(self, histories: sp.csr_matrix) -> Tensor:
        """Scores all items from histories."""
        return torch.from_numpy(histories.astype(np.float32) @ self.weights.numpy())

    def similar(self, item_index: NDArray[np.int64]) -> Tensor:
        """Returns how the items predict each other: the geometric mean of both weights, with their sign.

        That is ``−P_ij / √(P_ii P_jj)``: their association beyond what all other items explain, free of popularity.
        """
        index = torch.from_numpy(item_index)
        forth, back = self.weights[index], self.weights[:, index].T
        return torch.copysign((forth * back).clamp_min(0).sqrt(), forth)

    def state(self) -> RankerState:
        """Returns weights and histories."""
        return RankerState({"weights": self.weights, **csr_tensors("interactions", self.interactions)})

    @classmethod
    def from_state(cls, state: RankerState) -> Self:
        """Rebuilds the ranker."""
        weights = state.tensors["weights"]
        return cls(weights, csr_matrix("interactions", state.tensors, len(weights)))


def _zero_diagonal_weights(gram: Tensor, l2: float) -> Tensor:
    """Turns ``XᵀX`` into ``B = I − P diag(1 / diag P)``, ``P = (XᵀX + λI)⁻¹`` (eq. 8), in the memory of ``gram``."""
    gram.diagonal().add_(l2)
    factor, failed = torch.linalg.cholesky_ex(gram)
    if failed:
        raise ConfigError(f"option 'l2' is too small at {l2}: it is lost in rounding to float32; raise it")
    weights = torch.cholesky_inverse(factor, out=gram)
    weights /= -weights.diagonal().clone()
    return weights.fill_diagonal_(0)
