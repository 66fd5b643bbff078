"""Rows of random nodes: some have several of a modality, some none at all."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from gnnrec.nn.fusion import Fusion, ModalityRows


@pytest.fixture(scope="session")
def random_rows() -> Callable[..., ModalityRows]:
    def make(
        seed: int, num_rows: int = 12, *, num_nodes: int = 5, num_modalities: int = 3, dim: int = 4
    ) -> ModalityRows:
        rng = np.random.default_rng(seed)
        return ModalityRows(
            z=torch.from_numpy(rng.normal(size=(num_rows, dim)).astype(np.float32)),
            owner_index=torch.from_numpy(rng.integers(num_nodes, size=num_rows)),
            modality_index=torch.from_numpy(rng.integers(num_modalities, size=num_rows)),
            num_nodes=num_nodes,
        )

    return make


@pytest.fixture(scope="session")
def away_from_start() -> Callable[[Fusion], Fusion]:
    """Moves every weight of a fusion away from its neutral start."""

    def move(fusion: Fusion) -> Fusion:
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in fusion.parameters():
                parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator))
        return fusion

    return move
