import sys

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from gnnrec.errors import EncoderError, MissingPackageError
from gnnrec.modalities.encoder import Encoder, resolve
from gnnrec.modalities.hashed_words import HashedWords


def cosine(encoder: Encoder, one: str, other: str) -> float:
    return float(cosine_similarity(encoder.encode([one]), encoder.encode([other]))[0, 0])


def test_it_is_found_by_name_and_is_the_same_everywhere():
    encoder = resolve("text", "hashed-words", pooling="mean", max_tokens=256)
    vector = encoder.encode(["whale"])[0]
    assert encoder.card.dim == len(vector) == 1024
    assert (encoder.card.package, encoder.card.preprocessing["language"]) == ("wordfreq", "en")
    # MurmurHash3 of "whale": a saved model relies on it.
    assert (np.flatnonzero(vector).tolist(), vector[vector != 0].tolist()) == ([217], [1.0])


def test_the_same_words_make_the_same_vector_in_any_order_and_company():
    encoder = HashedWords()
    alone = encoder.encode(["Whale, sailing; coral!"])
    among = encoder.encode(["a b c d", "coral sailing whale", "", "x"])
    np.testing.assert_allclose(alone[0], among[1], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(among, axis=1), [1, 1, 0, 1], rtol=1e-6)
    assert encoder.encode([]).shape == (0, 1024)


def test_texts_are_alike_in_proportion_to_the_words_they_share():
    encoder = HashedWords(dim=2**18)  # wide enough for no two words of these texts to share a column
    assert cosine(encoder, "rocket orbit comet lunar", "butter whisk flour simmer") == pytest.approx(0, abs=1e-6)
    half = cosine(encoder, "rocket orbit butter flour", "rocket orbit comet lunar")
    assert 0.4 < half < 0.6


def test_rare_words_count_more_than_frequent_ones():
    encoder = HashedWords(dim=2**18)
    rare, frequent = "photosynthesis", "the"
    assert cosine(encoder, f"{rare} {frequent}", rare) > 0.95
    assert cosine(encoder, f"{rare} {frequent}", frequent) < 0.3
    # By hand: weights (9 - Zipf frequency), which are 9 - 3.03 and 9 - 7.73 in wordfreq 3.1.
    assert cosine(encoder, f"{rare} {frequent}", rare) == pytest.approx(5.97 / np.hypot(5.97, 1.27), abs=1e-3)


def test_an_unknown_word_counts_most_and_repeats_count_by_their_logarithm():
    encoder = HashedWords(dim=2**18)
    assert cosine(encoder, "rr_interval photosynthesis", "rr_interval") > 0.8
    once, thrice = (cosine(encoder, f"{'whale ' * n} rocket", "whale") for n in (1, 3))
    ratio = (thrice / np.sqrt(1 - thrice**2)) / (once / np.sqrt(1 - once**2))
    assert ratio == pytest.approx(1 + np.log(3), rel=1e-3)


def test_hashing_keeps_dot_products_within_their_error():
    rng = np.random.default_rng(0)
    words = np.array([f"w{chr(97 + i // 26)}{chr(97 + i % 26)}x" for i in range(400)])
    texts = [" ".join(rng.choice(words, size=30, replace=False)) for _ in range(60)]
    exact, hashed = (encoder.encode(texts) for encoder in (HashedWords(dim=2**18), HashedWords(dim=1024)))
    error = (hashed @ hashed.T - exact @ exact.T)[np.triu_indices(60, k=1)]
    assert abs(error.mean()) < 0.01  # signs make it unbiased
    assert error.std() < 1.5 / np.sqrt(1024)


def test_frequencies_are_those_of_the_language():
    english, french = HashedWords(dim=2**18, language="en"), HashedWords(dim=2**18, language="fr")
    assert cosine(french, "avec baleine", "baleine") > cosine(english, "avec baleine", "baleine") + 0.1


def test_what_it_refuses(monkeypatch):
    with pytest.raises(EncoderError, match="no word frequencies of language 'xx'; there are ar, "):
        HashedWords(language="xx")
    with pytest.raises(EncoderError, match="pooling='cls' needs a transformers model"):
        resolve("text", "hashed-words", pooling="cls")
    monkeypatch.setitem(sys.modules, "wordfreq", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'gnnrec\[language\]'"):
        HashedWords()
