"""Projects the vectors of every modality into one space of the same width."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from gnnrec.errors import ConfigError
from gnnrec.nn.audio import LogMelCNN, LogMelLSTM

__all__ = ["PROJECTIONS", "Alignment", "LogMelProjection"]


class LogMelProjection(nn.Module):
    """Trains a sound network on spectrograms of fixed length, as the encoder ``log-mel`` gives them.

    Args:
        network: ``LogMelCNN`` or ``LogMelLSTM``.
        width: Frames × mel bands of a flattened spectrogram.
        dim: Width of the output.

    Raises:
        ConfigError: The width is no multiple of the number of mel bands.
    """

    bands = 64

    def __init__(self, network: type[LogMelCNN] | type[LogMelLSTM], width: int, dim: int) -> None:
        super().__init__()
        if width % self.bands:
            raise ConfigError(
                f"a log-mel projection takes vectors of frames × {self.bands} bands, not {width} wide; "
                "give the modality encoder='log-mel'"
            )
        self.dim = dim
        self.network = network(bands=self.bands, dim=dim)

    def reset_parameters(self) -> None:
        """Draws all weights anew."""
        self.network.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Returns ``[num_rows, dim]`` for flattened spectrograms ``[num_rows, width]``."""
        if not len(x):
            return x.new_zeros(0, self.dim)
        log_mels = x.view(len(x), -1, self.bands)
        vectors: Tensor = self.network(log_mels, torch.full((len(x),), log_mels.shape[1], device=x.device))
        return vectors


# Name → (width of the vectors, width of the common space) → the projection.
PROJECTIONS: Mapping[str, Callable[[int, int], nn.Module]] = {
    "linear": nn.Linear,
    "log-mel-cnn": lambda width, dim: LogMelProjection(LogMelCNN, width, dim),
    "log-mel-lstm": lambda width, dim: LogMelProjection(LogMelLSTM, width, dim),
}


class Alignment(nn.Module):
    """One learned projection per modality: ``z_m = LayerNorm(P_m(x_m))``, by default ``P_m(x) = W_m x + b_m``.

    The normalisation gives every modality the same scale, so that none drowns the others when they are fused.

    Args:
        dims: Modality → width of its vectors.
        dim: Width of the common space.
        projections: Modality → name in ``PROJECTIONS``, for those that are not linear.
        normalise: Whether to give every modality the same scale.
    """

    def __init__(
        self, dims: Mapping[str, int], dim: int, projections: Mapping[str, str] | None = None, *, normalise: bool = True
    ) -> None:
        super().__init__()
        kinds = projections or {}
        # A list, since a ModuleDict refuses names with a dot or of its own methods; a modality may be called anything.
        self.names = tuple(dims)
        self.projections = nn.ModuleList(
            nn.Sequential(
                PROJECTIONS[kinds.get(name, "linear")](width, dim), *([nn.LayerNorm(dim)] if normalise else [])
            )
            for name, width in dims.items()
        )

    def reset_parameters(self) -> None:
        """Draws every projection anew."""
        for projection in self.projections:
            for layer in projection:  # type: ignore[attr-defined]
                layer.reset_parameters()

    def forward(self, x_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns modality → ``[num_rows, dim]`` for each given modality ``[num_rows, width]``."""
        return {name: self.projections[self.names.index(name)](x) for name, x in x_dict.items()}
