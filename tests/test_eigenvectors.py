"""Symmetric matrices are taken apart whatever LAPACK's fast algorithm makes of them."""

from collections.abc import Callable

import pytest
import torch

import gnnrec as gr
from gnnrec.eigenvectors import eigenvectors
from gnnrec.rankers.attachment import ModalitySpace


def fails(_: torch.Tensor) -> None:
    raise torch.linalg.LinAlgError("the algorithm failed to converge")


@pytest.mark.parametrize("eigh", [torch.linalg.eigh, fails])
def test_values_and_vectors(eigh: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(5, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    symmetric = x.T @ x
    monkeypatch.setattr(torch.linalg, "eigh", eigh)
    value, vector = eigenvectors(symmetric)
    assert (value.diff() >= 0).all()
    torch.testing.assert_close(vector @ value.diag() @ vector.T, symmetric)
    torch.testing.assert_close(vector.T @ vector, torch.eye(30, dtype=torch.float64))


@pytest.mark.parametrize("threads", [1, 2])
def test_counts_of_words_of_few_items_have_directions(threads: int) -> None:
    """With two threads torch gave up on about every second such matrix."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for seed in range(4):
            generator = torch.Generator().manual_seed(seed)
            words = torch.zeros(15, 1024).scatter_(1, torch.randint(1024, (15, 12), generator=generator), 1.0)
            unit = torch.nn.functional.normalize(words)
            space = ModalitySpace.fit(unit, torch.arange(15))
            place = space.place(unit)
            centred = unit - unit.mean(dim=0)
            torch.testing.assert_close(place @ place.T, centred @ centred.T, atol=1e-5, rtol=1e-4)
    finally:
        torch.set_num_threads(before)


def test_a_catalogue_of_few_items_with_words_is_fitted() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        shop = gr.synthetic.shop(num_users=40, num_items=20, seed=0)
        words = {"words": gr.Text("title", encoder="hashed-words")}
        data = gr.Dataset.from_frames(shop.interactions, shop.items, modalities=words)
        rec = gr.Recommender(embedding_dim=8, epochs=1).fit(data, progress=False)
        assert "attach" in rec.state.ranker.capabilities
    finally:
        torch.set_num_threads(before)
