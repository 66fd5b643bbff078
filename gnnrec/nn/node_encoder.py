"""Gives every node of one type its layer-0 embedding: identity plus the fused content of its modalities.

Content is a prior and interactions are evidence: beside the identity of a node with degree ``d`` its content counts
``k / (k + d)``, with a learned ``k`` (the shrinkage of a posterior mean, Efron & Morris 1973). A node without
interactions is all content; one with hundreds is what its users make of it.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gnnrec.nn.align import Alignment
from gnnrec.nn.fusion import Fused, ModalityRows, build_fusion

__all__ = ["IDENTITY_LENGTH", "NodeEncoder"]

# Training starts from short identities: what a node is like at first is what its content and its neighbours say, and
# under a cosine, where only directions count, a short vector also turns with fewer steps.
IDENTITY_LENGTH = 0.1


class NodeEncoder(nn.Module):
    """Identity embedding and content of the nodes of one type.

    Args:
        num_nodes: Nodes known in training.
        dims: Modality → width of its vectors; empty for nodes without media.
        dim: Width of identity and content each.
        fusion: A name in ``gnnrec.nn.fusion.FUSIONS``.
        content_scale: Initial length of a content vector.
        projections: Modality → name of its projection, for those that are not linear.
        modality_shares: Modality → its fixed share, with ``fusion="weighted"``.
    """

    def __init__(
        self,
        num_nodes: int,
        dims: Mapping[str, int],
        dim: int,
        *,
        fusion: str,
        content_scale: float = 1.0,
        projections: Mapping[str, str] | None = None,
        modality_shares: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.initial_content_scale = content_scale
        self.modalities = list(dims)
        self.identity = nn.Embedding(num_nodes, dim)
        self.alignment = Alignment(dims, dim, projections)
        self.fusion = build_fusion(fusion, self.modalities, dim, modality_shares) if dims else None
        self.content_scale = nn.Parameter(torch.empty(())) if dims else None
        self.log_evidence = nn.Parameter(torch.empty(())) if dims else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws short identities, and everything else anew."""
        nn.init.normal_(self.identity.weight, std=IDENTITY_LENGTH * self.identity.embedding_dim**-0.5)
        self.alignment.reset_parameters()
        if self.fusion is not None and self.content_scale is not None and self.log_evidence is not None:
            self.fusion.reset_parameters()
            nn.init.constant_(self.content_scale, self.initial_content_scale)
            nn.init.zeros_(self.log_evidence)

    def align(self, x_dict: Mapping[str, Tensor], owner_dict: Mapping[str, Tensor], num_nodes: int) -> ModalityRows:
        """Projects the given modalities into the common space.

        Args:
            x_dict: Modality → ``[num_rows, width]``; at least one of the modalities.
            owner_dict: Modality → ``[num_rows]`` node of each row.
            num_nodes: Nodes that the rows may belong to.
        """
        z_dict = self.alignment({name: x_dict[name] for name in self.modalities if name in x_dict})
        return ModalityRows.stack(z_dict, owner_dict, self.modalities, num_nodes)

    def forward(self, rows: ModalityRows | None, degree: Tensor) -> tuple[Tensor, Fused | None]:
        """Embeds the nodes before any propagation.

        Args:
            rows: Aligned vectors, or ``None`` for nodes without media.
            degree: ``[num_nodes]`` interactions of each node; one without any has no trained identity. All zero, it
                may be of any length: the nodes are new.

        Returns:
            ``[num_nodes, dim]`` and the fused content.
        """
        known = degree > 0
        if known.all() and len(known):
            identity = self.identity.weight
        elif known.any():
            identity = self.identity.weight * known[:, None]
        else:
            identity = self.identity.weight.new_zeros(len(degree), self.identity.embedding_dim)
        if rows is None or self.fusion is None or self.content_scale is None or self.log_evidence is None:
            return identity, None
        fused: Fused = self.fusion(rows, identity)
        content = fused.x * self.content_scale * rows.z.shape[1] ** -0.5
        return identity + content * self.content_share(degree)[:, None], fused

    def content_share(self, degree: Tensor) -> Tensor:
        """Returns ``[num_nodes]``: how much content counts beside so many interactions; 1 without any."""
        assert self.log_evidence is not None, "there are no media"
        evidence = self.log_evidence.exp()
        return evidence / (evidence + degree)
