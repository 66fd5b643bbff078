"""Fuses by gates: for each entry of the vector, content and identity decide which modality is let through."""

import torch
from torch import Tensor, nn

from gnnrec.nn.fusion.base import Fused, Fusion, ModalityRows
from gnnrec.nn.fusion.blocks import Blocks

__all__ = ["GatedFusion"]


class GatedFusion(Fusion):
    """Gated multimodal unit (Arevalo et al. 2017, *Gated Multimodal Units for Information Fusion*).

    ``c_i = sum_m g_im ⊙ z̄_im`` with gates ``g_i = softmax_m(G [z̄_i1 … z̄_iM] + U e_i + b)``, entry by entry, over the
    modalities that the node has. ``z̄_im`` is the mean of the node's rows of modality ``m``, zero without any. For two
    modalities this is the unit as published, with ``g`` and ``1 - g`` for a sigmoid ``g`` of all content; for more, the
    published gates open independently, where ours still sum to 1, so that a missing modality leaves its part to the
    others. The aligned ``z`` takes the place of ``tanh(W x)``. The identity ``e`` beside the content is ours, after the
    behaviour-guided gates of MGCN (Yu et al. 2023, eq. 1).

    ``Fused.attention`` is the mean of the gate over the entries, divided evenly among the rows of the modality.

    Cost: ``O(num_nodes × num_modalities² × dim²)``.

    Args:
        num_modalities: Number of modalities.
        dim: Width of the aligned space.
    """

    def __init__(self, num_modalities: int, dim: int) -> None:
        super().__init__()
        self.num_modalities = num_modalities
        self.gate = nn.Linear(num_modalities * dim, num_modalities * dim)
        self.identity_gate = nn.Linear(dim, num_modalities * dim, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Starts from gates that are open alike, whatever the content and the identity."""
        for weight in self.parameters():
            nn.init.zeros_(weight)

    def forward(self, rows: ModalityRows, identity: Tensor | None) -> Fused:
        """Fuses ``rows``; ``identity`` is ``[num_nodes, dim]``, zero where a node has none."""
        blocks = Blocks.of(rows, self.num_modalities)
        logit = self.gate(blocks.x.flatten(1))
        if identity is not None:
            logit = logit + self.identity_gate(identity)
        # The least number instead of -inf: a node without any modality must not become NaN.
        least = torch.finfo(logit.dtype).min
        gate = logit.view_as(blocks.x).masked_fill(~blocks.filled[..., None], least).softmax(dim=1)
        return Fused((gate * blocks.x).sum(dim=1), rows.present, blocks.per_row(gate.mean(dim=-1), rows))
