"""Projects the vectors of every modality into one space of the same width."""

from collections.abc import Mapping

from torch import Tensor, nn

__all__ = ["Alignment"]


class Alignment(nn.Module):
    """One learned projection per modality: ``z_m = LayerNorm(W_m x_m + b_m)``.

    The normalisation gives every modality the same scale, so that none drowns the others when they are fused.

    Args:
        dims: Modality → width of its vectors.
        dim: Width of the common space.
    """

    def __init__(self, dims: Mapping[str, int], dim: int) -> None:
        super().__init__()
        # A list, since a ModuleDict refuses names with a dot or of its own methods; a modality may be called anything.
        self.names = tuple(dims)
        self.projections = nn.ModuleList(nn.Sequential(nn.Linear(w, dim), nn.LayerNorm(dim)) for w in dims.values())

    def reset_parameters(self) -> None:
        """Draws every projection anew."""
        for projection in self.projections:
            for layer in projection:  # type: ignore[attr-defined]
                layer.reset_parameters()

    def forward(self, x_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns modality → ``[num_rows, dim]`` for each given modality ``[num_rows, width]``."""
        return {name: self.projections[self.names.index(name)](x) for name, x in x_dict.items()}
