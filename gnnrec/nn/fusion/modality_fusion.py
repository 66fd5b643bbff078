"""Turns the vectors of several modalities, each of its own width, into one vector per node: fusion on its own."""

from collections.abc import Mapping

from torch import Tensor, nn

from gnnrec.config import suggest
from gnnrec.errors import ConfigError, DataError
from gnnrec.nn.align import Alignment
from gnnrec.nn.fusion.base import Fused, ModalityRows
from gnnrec.nn.fusion.registry import build_fusion

__all__ = ["ModalityFusion"]


class ModalityFusion(nn.Module):
    """Projects every modality into one space and fuses what each node has there.

    Example::

        fuse = ModalityFusion({"text": 768, "image": 2048, "audio": 1024}, 512, "gated")
        fused = fuse({"text": text, "image": image}, {"text": text_owner, "image": image_owner}, num_nodes=3)
        fused.x, fused.present, fused.attention  # [3, 512], [3], [rows of text, then of image]

    Cost: ``O(num_rows × width × dim)`` for the projections, and that of the fusion.

    Args:
        dims: Modality → width of its vectors.
        dim: Width of the common space.
        fusion: A name in ``FUSIONS``.
        shares: Modality → fixed share, for ``weighted``, as in :func:`~gnnrec.nn.fusion.registry.build_fusion`.
        projections: Modality → name in ``gnnrec.nn.align.PROJECTIONS``, for those that are not linear.

    Raises:
        ConfigError: There is no modality, no such fusion, or the shares are of no use.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        dim: int,
        fusion: str = "attention",
        *,
        shares: Mapping[str, float] | None = None,
        projections: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        if not dims:
            raise ConfigError("there is no modality to fuse; name at least one and the width of its vectors")
        for option, given in (("shares", shares), ("projections", projections)):
            if unknown := sorted(set(given or {}) - set(dims)):
                raise ConfigError(f"{option}: there is no modality {unknown[0]!r}{suggest(unknown[0], dims)}")
        self.dims = dict(dims)
        self.alignment = Alignment(dims, dim, projections)
        self.fusion = build_fusion(fusion, list(dims), dim, shares)

    def reset_parameters(self) -> None:
        """Draws all weights anew."""
        self.alignment.reset_parameters()
        self.fusion.reset_parameters()

    def forward(
        self,
        x_dict: Mapping[str, Tensor],
        owner_dict: Mapping[str, Tensor],
        num_nodes: int,
        identity: Tensor | None = None,
    ) -> Fused:
        """Fuses the media of some nodes.

        Args:
            x_dict: Modality → ``[num_rows, width]``; at least one of the modalities, with or without rows.
            owner_dict: Modality → ``[num_rows]`` node of each row.
            num_nodes: Nodes that the rows may belong to.
            identity: ``[num_nodes, dim]`` what else is known of the nodes.

        Returns:
            One vector per node. The rows in ``attention`` are in the order of the modalities in ``dims``.

        Raises:
            DataError: No modality is given, an unknown one, or vectors of another width.
        """
        if not x_dict:
            raise DataError(
                f"no modality is given; give at least one of {', '.join(self.dims)}, if need be without rows"
            )
        for name, x in x_dict.items():
            if name not in self.dims:
                raise DataError(f"the modality {name!r} is unknown; this fusion knows {', '.join(self.dims)}")
            if x.ndim != 2 or x.shape[1] != self.dims[name]:
                raise DataError(f"vectors of {name!r} must be [num_rows, {self.dims[name]}], got {list(x.shape)}")
            if name not in owner_dict or owner_dict[name].shape != x.shape[:1]:
                raise DataError(
                    f"'owner_dict' must say of each of the {len(x)} rows of {name!r} which node it describes"
                )
        rows = ModalityRows.stack(self.alignment(x_dict), owner_dict, list(self.dims), num_nodes)
        fused: Fused = self.fusion(rows, identity)
        return fused
