import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import top_k_accuracy_score
from sklearn.metrics.pairwise import cosine_similarity

from gnnrec.errors import ConfigError, DataError
from gnnrec.evaluation.cross_modal import cross_modal_retrieval


def test_recall_equals_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    text = rng.standard_normal((60, 16))
    image = text + 2 * rng.standard_normal(text.shape)
    found = cross_modal_retrieval(text, image, np.arange(60))
    assert 0.2 < found.recall(5) < 0.9  # neither all nor nothing
    scores = cosine_similarity(text, image)
    for k in (1, 5, 20):
        reference = top_k_accuracy_score(np.arange(60), scores, k=k)
        assert found.recall(k) == pytest.approx(reference)
    logits = torch.from_numpy(scores) / 0.07
    assert found.cross_entropy == pytest.approx(torch.nn.functional.cross_entropy(logits, torch.arange(60)).item())


@settings(deadline=None, max_examples=15)
@given(st.integers(2, 12), st.integers(1, 15), st.integers(0, 10_000))
def test_ties_count_as_an_average_over_random_orders(num_candidates: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    candidates = np.eye(3)[rng.integers(3, size=num_candidates)]  # many are equal
    queries, answer = rng.standard_normal((4, 3)), rng.integers(num_candidates, size=4)
    found = cross_modal_retrieval(queries, candidates, answer)
    ranks = []
    for _ in range(200):
        order = rng.permutation(num_candidates)
        scores = (queries @ candidates.T)[:, order]
        ranked = order[np.argsort(-scores, axis=1, kind="stable")]
        ranks.append(1 + np.argmax(ranked == answer[:, None], axis=1))
    np.testing.assert_allclose(found.rank, np.mean(ranks, axis=0), atol=1.2)
    np.testing.assert_allclose(found.hits(k), (np.array(ranks) <= k).mean(axis=0), atol=0.15)


def test_vectors_that_say_nothing_are_at_chance() -> None:
    found = cross_modal_retrieval(np.ones((20, 4)), np.ones((20, 4)), np.arange(20))
    assert found.recall(5) == found.chance(5) == 0.25
    assert found.median_rank == found.chance_rank == 10.5
    assert found.entropy == pytest.approx(np.log(20))
    assert found.cross_entropy == pytest.approx(np.log(20))
    assert not found.above_chance(5).low > 0


def test_equal_media_tie_in_spite_of_rounding() -> None:
    candidates = np.random.default_rng(0).standard_normal((50, 64)).astype(np.float32)
    candidates[1] = np.nextafter(candidates[0], 2)
    found = cross_modal_retrieval(candidates[:1], candidates, [0])
    assert (found.num_better[0], found.num_tied[0]) == (0, 1)


def test_queries_without_answers_are_an_error() -> None:
    with pytest.raises(DataError, match="do not fit"):
        cross_modal_retrieval(np.ones((2, 3)), np.ones((4, 3)), [0])
    with pytest.raises(ConfigError, match="k must be at least 1"):
        cross_modal_retrieval(np.ones((1, 3)), np.ones((4, 3)), [0]).hits(0)
    for answer in ([4], [-1]):
        with pytest.raises(DataError, match="positions of the 4 candidates"):
            cross_modal_retrieval(np.ones((1, 3)), np.ones((4, 3)), answer)
    with pytest.raises(DataError, match="positions of the 0 candidates"):
        cross_modal_retrieval(np.ones((1, 3)), np.ones((0, 3)), [0])
    with pytest.raises(DataError, match="rows of owners without the modality"):
        cross_modal_retrieval(np.full((1, 3), np.nan), np.ones((4, 3)), [0])
