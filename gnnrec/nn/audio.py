"""Turns padded log-mel spectrograms into one trainable vector per sound, by convolutions or by an LSTM."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["LogMelCNN", "LogMelLSTM"]


class LogMelCNN(nn.Module):
    """Convolutions along time over mel bands, averaged over the frames of each sound.

    Padding has no influence: it is zeroed before every convolution and left out of the average.

    Args:
        bands: Mel bands of the input.
        dim: Width of the output.
        channels: Width of the hidden layers.
        num_layers: Convolutions; each sees three frames, so a vector part sees ``1 + 2 · num_layers`` frames.
    """

    def __init__(self, bands: int = 64, dim: int = 64, channels: int = 128, num_layers: int = 3) -> None:
        super().__init__()
        widths = [bands] + [channels] * num_layers
        self.convolutions = nn.ModuleList(
            nn.Conv1d(before, after, kernel_size=3, padding=1) for before, after in pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(num_layers))
        self.linear = nn.Linear(widths[-1], dim)

    def reset_parameters(self) -> None:
        """Draws all weights anew."""
        for module in (*self.convolutions, *self.norms, self.linear):
            module.reset_parameters()

    def forward(self, log_mels: Tensor, lengths: Tensor) -> Tensor:
        """Encodes sounds.

        Args:
            log_mels: ``[batch, frames, bands]``, padded at the end.
            lengths: ``[batch]`` frames of each sound, at least 1.

        Returns:
            ``[batch, dim]``.
        """
        there = _frame_mask(lengths, log_mels.shape[1]).unsqueeze(-1)
        hidden = log_mels.masked_fill(~there, 0.0)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            hidden = convolution(hidden.transpose(1, 2)).transpose(1, 2)
            hidden = F.relu(norm(hidden)).masked_fill(~there, 0.0)
        vectors: Tensor = self.linear(hidden.sum(dim=1) / lengths.unsqueeze(1))
        return vectors


class LogMelLSTM(nn.Module):
    """A bidirectional LSTM over the frames; its last states of both directions make the vector.

    Args:
        bands: Mel bands of the input.
        dim: Width of the output.
        hidden: Width of the state in each direction.
        num_layers: Layers.
    """

    def __init__(self, bands: int = 64, dim: int = 64, hidden: int = 64, num_layers: int = 1) -> None:
        super().__init__()
        self.lstm = nn.LSTM(bands, hidden, num_layers, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(2 * hidden, dim)

    def reset_parameters(self) -> None:
        """Draws all weights anew."""
        self.lstm.reset_parameters()
        self.linear.reset_parameters()

    def forward(self, log_mels: Tensor, lengths: Tensor) -> Tensor:
        """Encodes sounds.

        Args:
            log_mels: ``[batch, frames, bands]``, padded at the end.
            lengths: ``[batch]`` frames of each sound, at least 1.

        Returns:
            ``[batch, dim]``.
        """
        packed = nn.utils.rnn.pack_padded_sequence(log_mels, lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, (state, _) = self.lstm(packed)
        vectors: Tensor = self.linear(torch.cat([state[-2], state[-1]], dim=1))
        return vectors


def _frame_mask(lengths: Tensor, num_frames: int) -> Tensor:
    """Returns ``[batch, num_frames]``: which frames belong to the sound."""
    return torch.arange(num_frames, device=lengths.device) < lengths.unsqueeze(1)
