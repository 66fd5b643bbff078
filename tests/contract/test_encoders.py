"""The encoder check passes a good encoder and notices bad ones."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from gnnrec.modalities.features import EncoderCard
from gnnrec.testing import check_encoder

TEXTS = ["a red fox", "two blue birds at sea", "snow"]


class CountsLetters:
    """Lengths, and letters e and s, of a text."""

    modality = "text"
    card = EncoderCard("counts-letters", "text", dim=3)

    def encode(self, batch: Sequence[str]) -> NDArray[np.float32]:
        return np.array([[len(text), text.count("e"), text.count("s")] for text in batch], dtype=np.float32)


class DoublePrecision(CountsLetters):
    def encode(self, batch):
        return super().encode(batch).astype(np.float64)


class TooNarrow(CountsLetters):
    def encode(self, batch):
        return super().encode(batch)[:, :2]


class SkipsShortTexts(CountsLetters):
    def encode(self, batch):
        return super().encode([text for text in batch if len(text) > 4])


class Infinite(CountsLetters):
    def encode(self, batch):
        return super().encode(batch) / np.float32([1, 1, np.nan])


class Constant(CountsLetters):
    def encode(self, batch):
        return np.ones((len(batch), 3), dtype=np.float32)


class ScalesByTheBatch(CountsLetters):
    def encode(self, batch):
        vectors = super().encode(batch)
        return vectors / vectors.max()


class NamesAnotherModality(CountsLetters):
    card = replace(CountsLetters.card, modality="image")


def test_a_good_encoder_passes() -> None:
    check_encoder(CountsLetters(), TEXTS)


@pytest.mark.parametrize(
    ("mutant", "promise"),
    [
        (DoublePrecision, "float32"),
        (TooNarrow, "one vector of the card's width"),
        (SkipsShortTexts, "one vector of the card's width"),
        (Infinite, "finite"),
        (Constant, "different media"),
        (ScalesByTheBatch, "rest of the batch"),
        (NamesAnotherModality, "same modality"),
    ],
)
def test_broken_encoders_are_found(mutant: type[CountsLetters], promise: str) -> None:
    with pytest.raises(AssertionError, match=promise):
        check_encoder(mutant(), TEXTS)
