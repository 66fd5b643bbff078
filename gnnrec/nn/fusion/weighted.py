"""Fuses by a convex sum with one weight per modality, fixed or learned."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from gnnrec.errors import ConfigError
from gnnrec.geometric import softmax
from gnnrec.nn.fusion.base import Fused, Fusion, ModalityRows, weighted_sum

__all__ = ["WeightedFusion", "modality_shares"]

# Stands for a weight of 0, so that a node which has nothing else still gets its vector.
_NEXT_TO_NOTHING = 1e-12


class WeightedFusion(Fusion):
    """One weight per modality, alike for all nodes: ``c_i = sum_m w_m z̄_im / sum_m w_m`` over the modalities of ``i``.

    ``z̄_im`` is the mean of the node's rows of modality ``m``, so a second picture does not make pictures count more.
    The weights sum to 1; learned ones are a softmax over free numbers and start equal. What a node lacks leaves its
    weight to the rest in proportion; a node that has only modalities of weight 0 gets their mean.

    ``Fused.attention`` is the weight of the row's modality among those of the node, divided evenly among its rows.

    Cost: ``O(num_rows × dim)``.

    Args:
        num_modalities: Number of modalities.
        dim: Unused; every fusion is built alike.
        weights: ``[num_modalities]`` fixed weights, in any unit; ``None``: learned.

    Raises:
        ConfigError: Weights are too few or too many, negative, not finite, or all 0.
    """

    logit: Tensor

    def __init__(self, num_modalities: int, dim: int, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        if weights is None:
            self.logit = nn.Parameter(torch.empty(num_modalities))
        else:
            # Given with the options, so not one of the weights that are saved.
            self.register_buffer("logit", _logits(weights, num_modalities), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Starts from equal weights, if they are learned."""
        if isinstance(self.logit, nn.Parameter):
            nn.init.zeros_(self.logit)

    @property
    def weights(self) -> Tensor:
        """``[num_modalities]``, sums to 1."""
        return self.logit.softmax(dim=0)

    def forward(self, rows: ModalityRows, identity: Tensor | None) -> Fused:
        """Fuses ``rows``; the identity plays no part."""
        num_modalities = len(self.logit)
        block = rows.owner_index * num_modalities + rows.modality_index
        count = torch.bincount(block, minlength=rows.num_nodes * num_modalities)
        # exp(logit - log count): what the modality weighs, divided among its rows.
        logit = self.logit[rows.modality_index] - count[block].log()
        return weighted_sum(rows, softmax(logit, rows.owner_index, num_nodes=rows.num_nodes))


def modality_shares(names: Sequence[str], given: Mapping[str, float]) -> dict[str, float]:
    """Returns the share of each modality; they add up to 1.

    Args:
        names: The modalities.
        given: Modality → share; what is left goes to the others in equal parts. Unknown names do no harm.

    Raises:
        ConfigError: All shares are 0.
    """
    named = {name: given[name] for name in names if name in given}
    others = [name for name in names if name not in named]
    rest = max(0.0, 1.0 - sum(named.values()))
    shares = named | {name: rest / len(others) for name in others}
    total = sum(shares.values())
    if not total:
        raise ConfigError("option 'modality_shares' leaves nothing to the modalities there are; raise one of them")
    return {name: share / total for name, share in shares.items()}


def _logits(weights: Sequence[float], num_modalities: int) -> Tensor:
    if len(weights) != num_modalities:
        raise ConfigError(f"there are {num_modalities} modalities, but {len(weights)} weights; give one for each")
    if not all(0 <= weight < math.inf for weight in weights):
        raise ConfigError(f"the weights of modalities must be finite and not negative, got {list(weights)}")
    if not any(weights):
        raise ConfigError("the weights of modalities are all 0; raise one of them")
    return (torch.tensor(weights) / sum(weights)).clamp(min=_NEXT_TO_NOTHING).log()
