"""Puts the modalities of each node side by side, one block each."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from gnnrec.geometric import scatter
from gnnrec.nn.fusion.base import ModalityRows, shares_of

__all__ = ["BlockMixing", "Blocks"]


@dataclass(frozen=True, eq=False)
class Blocks:
    """The rows of each node, averaged within each modality.

    Attributes:
        x: ``[num_nodes, num_modalities, dim]``; zero where a node lacks the modality.
        count: ``[num_nodes, num_modalities]`` number of rows in each mean.
    """

    x: Tensor
    count: Tensor

    @classmethod
    def of(cls, rows: ModalityRows, num_modalities: int) -> Self:
        """Averages ``rows``."""
        block, num_blocks = rows.owner_index * num_modalities + rows.modality_index, rows.num_nodes * num_modalities
        x = scatter(rows.z, block, dim=0, dim_size=num_blocks, reduce="mean")
        count = torch.bincount(block, minlength=num_blocks)
        return cls(x.view(rows.num_nodes, num_modalities, x.shape[1]), count.view(rows.num_nodes, num_modalities))

    @property
    def filled(self) -> Tensor:
        """``[num_nodes, num_modalities]`` bool: the node has the modality."""
        return self.count > 0

    def per_row(self, share: Tensor, rows: ModalityRows) -> Tensor:
        """Divides the share of each block ``[num_nodes, num_modalities]`` evenly among its rows: ``[num_rows]``."""
        divided = share / self.count.clamp(min=1)
        return divided[rows.owner_index, rows.modality_index]


class BlockMixing(nn.Module):
    """One linear layer over all blocks, ``sum_m W_m z̄_im + b``; a learned ``s_m`` stands in for a missing block.

    Args:
        num_modalities: Number of modalities.
        dim: Width of a block.
        width: Width of the output.
    """

    def __init__(self, num_modalities: int, dim: int, width: int) -> None:
        super().__init__()
        self.stand_in = nn.Parameter(torch.empty(num_modalities, dim))
        self.linear = nn.Linear(num_modalities * dim, width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Starts with blocks of zeros for what is missing."""
        nn.init.zeros_(self.stand_in)
        self.linear.reset_parameters()

    def forward(self, rows: ModalityRows) -> tuple[Tensor, Tensor]:
        """Returns ``[num_nodes, width]``, and ``[num_rows]`` how much each row counts in it.

        A block counts as much as the output would move if the modality were missing, ``|W_m (z̄_im - s_m)|``, by its
        share in the sum of these lengths; its rows, whose mean it is, count alike.
        """
        blocks = Blocks.of(rows, len(self.stand_in))
        x = torch.where(blocks.filled[..., None], blocks.x, self.stand_in)
        mixed: Tensor = self.linear(x.flatten(1))
        with torch.no_grad():
            weight = self.linear.weight.view(-1, *self.stand_in.shape)
            moved = torch.einsum("nmd,wmd->nmw", x - self.stand_in, weight).norm(dim=-1)
            share = shares_of(moved, blocks.filled)
        return mixed, blocks.per_row(share, rows)
