"""Says what every fusion takes and gives: aligned vectors of several modalities in, one vector per node out."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from gnnrec.geometric import scatter

__all__ = ["Fused", "Fusion", "ModalityRows", "shares_of", "weighted_sum"]


@dataclass(frozen=True, eq=False)
class ModalityRows:
    """Aligned vectors of all modalities, one under another.

    Attributes:
        z: ``[num_rows, dim]`` aligned vectors.
        owner_index: ``[num_rows]`` the node that each row describes; a node may have many rows, or none.
        modality_index: ``[num_rows]`` position of the row's modality in the order given to the fusion.
        num_nodes: Nodes of the described type.
    """

    z: Tensor
    owner_index: Tensor
    modality_index: Tensor
    num_nodes: int

    @classmethod
    def stack(
        cls, z_dict: Mapping[str, Tensor], owner_dict: Mapping[str, Tensor], modalities: Sequence[str], num_nodes: int
    ) -> Self:
        """Puts the rows of all modalities one under another.

        Args:
            z_dict: Modality → ``[num_rows, dim]``; at least one of the modalities.
            owner_dict: Modality → ``[num_rows]`` node of each row.
            modalities: All modalities, in the order of the fusion.
            num_nodes: Nodes that the rows may belong to.
        """
        names = [name for name in modalities if name in z_dict]
        modality = [torch.full_like(owner_dict[name], modalities.index(name)) for name in names]
        return cls(
            z=torch.cat([z_dict[name] for name in names]),
            owner_index=torch.cat([owner_dict[name] for name in names]),
            modality_index=torch.cat(modality),
            num_nodes=num_nodes,
        )

    @property
    def present(self) -> Tensor:
        """``[num_nodes]`` bool: the node has at least one row."""
        present = torch.zeros(self.num_nodes, dtype=torch.bool, device=self.z.device)
        present[self.owner_index] = True
        return present

    def of(self, node_index: Tensor) -> Self:
        """Returns the rows of some nodes, which are counted anew in the order of ``node_index`` ``[num_chosen]``."""
        position = torch.full((self.num_nodes,), -1, device=node_index.device)
        position[node_index] = torch.arange(len(node_index), device=node_index.device)
        row = torch.nonzero(position[self.owner_index] >= 0).flatten()
        return type(self)(
            z=self.z.index_select(0, row),
            owner_index=position[self.owner_index[row]],
            modality_index=self.modality_index[row],
            num_nodes=len(node_index),
        )


@dataclass(frozen=True, eq=False)
class Fused:
    """One content vector per node.

    Attributes:
        x: ``[num_nodes, dim]``; zero for a node without any row.
        present: ``[num_nodes]`` bool: the node has at least one row.
        attention: ``[num_rows]`` how much each row counts in its node's vector; at least 0, and 1 in sum over a node's
            rows. Every fusion says what it measures.
    """

    x: Tensor
    present: Tensor
    attention: Tensor


class Fusion(nn.Module, ABC):
    """Turns the rows of each node into one vector, whatever their order and however many there are of each modality.

    A subclass is built as ``Fusion(num_modalities, dim)``.
    """

    @abstractmethod
    def reset_parameters(self) -> None:
        """Draws all weights anew."""

    @abstractmethod
    def forward(self, rows: ModalityRows, identity: Tensor | None) -> Fused:
        """Fuses ``rows``.

        Args:
            rows: Aligned vectors; possibly none at all.
            identity: ``[num_nodes, dim]`` what else is known of the nodes, zero where nothing is; some fusions let it
                decide which modality to trust, the others leave it aside.
        """


def weighted_sum(rows: ModalityRows, attention: Tensor) -> Fused:
    """Adds up the rows of each node, each times its ``attention`` ``[num_rows]``."""
    x = scatter(attention[:, None] * rows.z, rows.owner_index, dim=0, dim_size=rows.num_nodes, reduce="sum")
    return Fused(x, rows.present, attention)


def shares_of(amount: Tensor, present: Tensor) -> Tensor:
    """Divides ``amount`` ``[..., n]`` (at least 0) by its sum over the ``present`` ones; equal shares if all are 0."""
    tiny = torch.finfo(amount.dtype).tiny ** 0.5
    counted = (amount + tiny) * present
    shares: Tensor = counted / counted.sum(dim=-1, keepdim=True).clamp(min=tiny)
    return shares
