import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy as scipy_entropy
from sklearn.metrics import top_k_accuracy_score
from sklearn.metrics.pairwise import cosine_similarity

import gnnrec as gr
from gnnrec.errors import ConfigError, DataError
from gnnrec.evaluation import alignment
from gnnrec.evaluation.alignment import (
    alignment_report,
    cross_modal_retrieval,
    plot_modalities,
    random_projections,
    uniformity,
)

NONE = [np.nan, np.nan]
RNG = np.random.default_rng(7)


def planted(num_owners: int = 60, dim: int = 16, noise: float = 0.3) -> dict[str, np.ndarray]:
    """Two modalities that are noisy views of the same vectors."""
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((num_owners, dim))
    return {name: truth + noise * rng.standard_normal(truth.shape) for name in ("text", "image")}


def test_every_figure_of_a_report_by_hand() -> None:
    text = [[1.0, 0.0], [0.0, 2.0], [3.0, 0.0], NONE]
    image = [[2.0, 0.0], [1.0, 0.0], NONE, [0.0, 5.0]]
    report = alignment_report({"text": text, "image": image}, temperature=1.0)
    # Candidates are the images of owners 0, 1 and 3: (1, 0), (1, 0), (0, 1).
    forth = report.retrieval["text", "image"]
    assert (forth.num_queries, forth.num_candidates, forth.chance_rank) == (2, 3, 2.0)
    # Text 0 finds its own image tied with that of owner 1; text 1 is orthogonal to its own, which ties with 0's.
    assert forth.num_better.tolist() == [0, 1]
    assert forth.num_tied.tolist() == [1, 1]
    assert forth.rank.tolist() == [1.5, 2.5]
    assert forth.hits(1).tolist() == [0.5, 0.0]
    assert forth.hits(2).tolist() == [1.0, 0.5]
    assert (forth.recall(2), forth.recall(3), forth.median_rank) == (0.75, 1.0, 2.0)
    assert (forth.chance(2), forth.chance(9)) == (pytest.approx(2 / 3), 1.0)
    shares = np.array([[np.e, np.e, 1], [1, 1, np.e]])
    shares /= shares.sum(axis=1, keepdims=True)
    assert forth.entropy == pytest.approx(scipy_entropy(shares, axis=1).mean())
    assert forth.cross_entropy == pytest.approx(-np.log([shares[0, 0], shares[1, 1]]).mean())

    pair = report.pairs["text", "image"]
    assert (pair.num_matched, pair.cosine, pair.alignment) == (2, 0.5, 1.0)  # cosines 1 and 0, squared distances 0, 2
    assert np.isnan(pair.cosine_before)
    assert pair.gap == pytest.approx(0)  # both centroids are (2/3, 1/3)
    # Of three pairs of texts one has distance 0, two have the squared distance 2.
    assert report.uniformity["text"] == pytest.approx(np.log((1 + 2 * np.exp(-4)) / 3))


def test_planted_pairs_are_found_both_ways_and_strangers_are_not() -> None:
    vectors = planted()
    vectors["noise"] = RNG.standard_normal(vectors["text"].shape)
    table = alignment_report(vectors).table(ks=(10,)).set_index(["query", "target"])
    for direction in (("text", "image"), ("image", "text")):
        assert table.loc[direction, "recall@10"] == 1
        assert table.loc[direction, "median_rank"] == 1
        assert table.loc[direction, "above_chance@10"]
        assert table.loc[direction, "cross_entropy"] < 0.1
    stranger = table.loc["text", "noise"]
    assert not stranger["above_chance@10"]
    assert stranger["chance@10"] == pytest.approx(1 / 6)
    assert stranger["cross_entropy"] > np.log(60)  # worse than saying nothing
    assert table.loc["text", "image"]["alignment"] < stranger["alignment"]


def test_recall_equals_scikit_learn() -> None:
    vectors = planted(noise=2.0)
    found = cross_modal_retrieval(vectors["text"], vectors["image"], np.arange(60))
    scores = cosine_similarity(vectors["text"], vectors["image"])
    for k in (1, 5, 20):
        reference = top_k_accuracy_score(np.arange(60), scores, k=k)
        assert found.recall(k) == pytest.approx(reference)
    logits = torch.from_numpy(scores) / 0.07
    assert found.cross_entropy == pytest.approx(torch.nn.functional.cross_entropy(logits, torch.arange(60)).item())


def test_the_work_in_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = planted()
    whole = alignment_report(vectors).table()
    monkeypatch.setattr(alignment, "_BLOCK", 130)  # two rows at once
    np.testing.assert_allclose(
        alignment_report(vectors).table().iloc[:, 2:].astype(float), whole.iloc[:, 2:].astype(float), atol=1e-12
    )


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


def test_uniformity_equals_the_authors_formula() -> None:
    unit = torch.nn.functional.normalize(torch.randn(30, 5, dtype=torch.float64, generator=torch.Generator()))
    assert uniformity(3 * unit) == pytest.approx(torch.pdist(unit).pow(2).mul(-2).exp().mean().log().item())
    assert uniformity(np.ones((4, 3))) == pytest.approx(0)
    assert np.isnan(uniformity(np.ones((1, 3))))


def test_the_gap_is_that_of_the_centroids_of_unit_vectors() -> None:
    vectors = {"text": np.array([[5.0, 0.0], [0.0, 1.0]]), "image": np.array([[-1.0, 0.0], [0.0, -7.0]])}
    assert alignment_report(vectors).pairs["text", "image"].gap == pytest.approx(np.sqrt(2))


def test_cosines_before_alignment() -> None:
    after = planted()
    same_width = {name: matrix[:, :4] for name, matrix in after.items()}
    expected = np.diag(cosine_similarity(*same_width.values())).mean()
    assert alignment_report(after, before=same_width).pairs["text", "image"].cosine_before == pytest.approx(expected)
    # Unlike widths: nothing says which dimension is which, so even views of one truth look like strangers.
    unlike = {"text": after["text"], "image": np.hstack([after["image"]] * 2)}
    assert abs(alignment_report(after, before=unlike).pairs["text", "image"].cosine_before) < 0.15
    with pytest.raises(DataError, match="same modalities"):
        alignment_report(after, before={"text": after["text"]})


def test_random_projections_keep_angles_within_a_modality_only() -> None:
    rng = np.random.default_rng(1)
    text = rng.standard_normal((40, 300)) + 5
    text[0] = np.nan
    projected = random_projections({"text": text, "again": text}, 2000)
    assert np.isnan(projected["text"][0]).all()
    centred = text[1:] - text[1:].mean(axis=0)
    np.testing.assert_allclose(cosine_similarity(projected["text"][1:]), cosine_similarity(centred), atol=0.12)
    assert np.abs(cosine_similarity(projected["text"][1:], projected["again"][1:])).max() < 0.12
    repeated = random_projections({"text": text, "again": text}, 2000)
    np.testing.assert_array_equal(projected["again"], repeated["again"])


def test_a_pair_that_no_owner_has_is_left_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    vectors = {"text": [[1.0, 0.0], [0.0, 1.0]], "image": [[1.0, 0.0], NONE], "sound": [NONE, [0.0, 1.0]]}
    with caplog.at_level(logging.WARNING):
        report = alignment_report(vectors)
    assert set(report.pairs) == {("text", "image"), ("text", "sound")}
    assert "no owner has both image and sound" in caplog.text
    assert len(report.table()) == 4
    with pytest.raises(DataError, match="no owner has two modalities"):
        alignment_report({"image": vectors["image"], "sound": vectors["sound"]})


@pytest.mark.parametrize(
    ("vectors", "options", "error", "message"),
    [
        ({"text": [[1.0, 0.0]]}, {}, DataError, "two or more modalities"),
        ({"text": [[1.0, 0.0]], "image": [[1.0]]}, {}, DataError, "one width"),
        ({"text": [[1.0, 0.0]], "image": [[1.0, 0.0]] * 2}, {}, DataError, "one row per owner"),
        ({"text": [[1.0, np.inf]], "image": [[1.0, 0.0]]}, {}, DataError, "text: expected a matrix of finite"),
        ({"text": [1.0], "image": [1.0]}, {}, DataError, "text: expected a matrix"),
        ({"text": [[1.0]], "image": [[1.0]]}, {"temperature": 0}, ConfigError, "temperature"),
    ],
)
def test_what_does_not_fit_is_an_error(vectors, options, error, message) -> None:
    with pytest.raises(error, match=message):
        alignment_report(vectors, **options)


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


def test_tensors_are_taken_and_the_report_can_be_read() -> None:
    vectors = {name: torch.from_numpy(matrix).requires_grad_() for name, matrix in planted().items()}
    report = gr.evaluation.alignment_report(vectors)
    assert "recall@10" in str(report)
    assert len(str(report).splitlines()) == 3


def test_the_map_shows_directions_by_modality(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = {}
    monkeypatch.setattr(
        alignment, "plot_embeddings", lambda points, labels, path, title: drawn.update(points=points, labels=labels)
    )
    plot_modalities({"text": [[3.0, 4.0], NONE], "image": [[0.0, 2.0], [5.0, 0.0]]}, "map.png")
    assert drawn["points"].tolist() == [[0.6, 0.8], [0, 1], [1, 0]]
    assert drawn["labels"] == ["text", "image", "image"]
    with pytest.raises(DataError, match="one width"):
        plot_modalities({"text": [[3.0, 4.0]], "image": [[0.0]]}, "map.png")


def test_the_map_is_written(tmp_path) -> None:
    pytest.importorskip("matplotlib")
    plot_modalities(planted(), tmp_path / "map.png")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
