import numpy as np
import pytest
import torch

from gnnrec.modalities.packaged import package_version
from gnnrec.modalities.voice import VoiceNetwork, resemblyzer

# The package has a dependency that needs a C compiler, so it may be absent.
needs_package = pytest.mark.skipif(not package_version("resemblyzer"), reason="resemblyzer is not installed")


def sounds() -> list[np.ndarray]:
    """Quiet noise of half a second, and louder noise of 5 s and 2 s."""
    random = np.random.default_rng(0)
    return [
        (loudness * random.uniform(-1, 1, samples)).astype(np.float32)
        for loudness, samples in ((0.01, 8_000), (0.3, 80_000), (0.3, 32_000))
    ]


@needs_package
def test_vectors_are_those_of_the_package():
    """The three largest entries of each vector, as ``resemblyzer.VoiceEncoder.embed_utterance`` gives them."""
    vectors = resemblyzer().encode(sounds())
    largest = np.argsort(-vectors, axis=1)[:, :3]
    assert largest.tolist() == [[160, 78, 0], [16, 126, 120], [126, 10, 16]]
    expected = [[0.22739, 0.21951, 0.21743], [0.24574, 0.23041, 0.21792], [0.20332, 0.20144, 0.19778]]
    np.testing.assert_allclose(np.take_along_axis(vectors, largest, axis=1), expected, atol=2e-5)


@needs_package
def test_sounds_of_a_batch_do_not_mix():
    encoder = resemblyzer()
    alone = np.concatenate([encoder.encode([sound]) for sound in sounds()])
    np.testing.assert_allclose(encoder.encode(sounds()), alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(alone, axis=1), 1.0, rtol=1e-5)
    assert encoder.encode([]).shape == (0, 256)


def test_network_gives_unit_vectors_of_positive_numbers():
    torch.manual_seed(0)
    vectors = VoiceNetwork()(torch.rand(2, 160, 40))
    assert (vectors >= 0).all()
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))
