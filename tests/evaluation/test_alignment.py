import logging

import numpy as np
import pytest
import torch
from scipy.stats import entropy as scipy_entropy
from sklearn.metrics.pairwise import cosine_similarity

import gnnrec as gr
from gnnrec.errors import ConfigError, DataError
from gnnrec.evaluation import alignment, directions
from gnnrec.evaluation.alignment import alignment_report, plot_modalities

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


def test_the_work_in_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = planted()
    whole = alignment_report(vectors).table()
    monkeypatch.setattr(directions, "_BLOCK", 130)  # two rows at once
    np.testing.assert_allclose(
        alignment_report(vectors).table().iloc[:, 2:].astype(float), whole.iloc[:, 2:].astype(float), atol=1e-12
    )


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
        ({"text": [["a film"]], "image": [[1.0]]}, {}, DataError, "text: expected a matrix of numbers .* 'a film'"),
        ({"text": [[1.0]], "image": [[1.0]]}, {"temperature": 0}, ConfigError, "temperature"),
    ],
)
def test_what_does_not_fit_is_an_error(vectors, options, error, message) -> None:
    with pytest.raises(error, match=message):
        alignment_report(vectors, **options)


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
