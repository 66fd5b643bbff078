"""Owners whose two modalities are noisy rotations of one hidden vector."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gnnrec.nn.alignment import AlignedRows


@pytest.fixture
def paired_rows() -> Callable[..., AlignedRows]:
    """Returns rows of owners in two modalities, each a turned and noisy view of the same hidden vectors."""

    def make(num_owners: int = 60, dim: int = 8, noise: float = 0.1, num_modalities: int = 2) -> AlignedRows:
        generator = torch.Generator().manual_seed(0)
        hidden = torch.randn(num_owners, dim, generator=generator)

        def view() -> Tensor:
            turn = torch.linalg.qr(torch.randn(dim, dim, generator=generator)).Q
            return hidden @ turn + noise * torch.randn(num_owners, dim, generator=generator)

        z = torch.stack([view() for _ in range(num_modalities)], dim=1)
        return AlignedRows(z, torch.ones(num_owners, num_modalities, dtype=torch.bool))

    return make
