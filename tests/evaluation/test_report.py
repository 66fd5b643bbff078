import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA

from gnnrec.errors import ConfigError, DataError, MissingPackageError, StorageError
from gnnrec.evaluation import report
from gnnrec.evaluation.protocol import Evaluation

pytest.importorskip("matplotlib")
from matplotlib.figure import Figure

HISTORY = [
    {"epoch": 1, "loss": 0.9, "bpr": 0.5, "align": 0.4, "seconds": 2.0},
    {"epoch": 2, "loss": 0.7, "bpr": 0.4, "align": 0.3, "seconds": 2.0, "recall@20": 0.05, "ndcg@20": 0.03},
    {"epoch": 3, "loss": 0.6, "bpr": 0.4, "align": 0.2, "seconds": 2.0},
    {"epoch": 4, "loss": 0.5, "bpr": 0.3, "align": 0.2, "seconds": 2.0, "recall@20": 0.04, "ndcg@20": 0.035},
]


def slices(recall: list[float], labels: tuple[str, ...] = ("0", "1–3")) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "slice": labels,
            "num_users": [5, 6],
            "num_pairs": [1200, 7],
            "recall@20": recall,
            "standard_error": [0.01, np.nan],
        }
    )


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Collects the figures that would be written."""
    figures: list[Figure] = []
    monkeypatch.setattr(report, "save_figure", lambda figure, path: figures.append(figure))
    return figures


def test_training_curves(drawn: list[Figure]) -> None:
    report.plot_training(HISTORY, "curves.png")
    losses, metrics = drawn[0].axes
    assert [line.get_label() for line in losses.lines] == ["loss", "bpr", "align"]
    assert losses.lines[0].get_ydata().tolist() == [0.9, 0.7, 0.6, 0.5]
    # Epochs without a validation are bridged, the best epoch of each metric is marked and written out.
    assert metrics.lines[0].get_xdata().tolist() == [2, 4]
    best = [(line.get_xdata()[0], line.get_ydata()[0]) for line in metrics.lines[2:]]
    assert best == [(2, 0.05), (4, 0.035)]
    assert [text.get_text() for text in metrics.texts] == ["0.0500", "0.0350"]


def test_training_curves_without_validation_or_terms(drawn: list[Figure]) -> None:
    report.plot_training([{"epoch": 1, "loss": 0.9, "bpr": 0.9, "recall@20": float("nan")}], "curves.png")
    (losses,) = drawn[0].axes
    assert [line.get_label() for line in losses.lines] == ["loss"]


def test_recall_by_degree(drawn: list[Figure]) -> None:
    report.plot_recall_by_degree({"ours": slices([0.1, 0.2]), "theirs": slices([0.0, 0.3])}, "bars.png")
    (axes,) = drawn[0].axes
    assert [round(bar.get_height(), 6) for bar in axes.patches] == [0.1, 0.2, 0.0, 0.3]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0\n(1,200)", "1–3\n(7)"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["ours", "theirs"]
    ours, theirs = axes.patches[0], axes.patches[2]
    assert ours.get_x() + ours.get_width() <= theirs.get_x()  # side by side


def test_bars_of_recall_show_one_standard_error(drawn: list[Figure]) -> None:
    report.plot_recall_by_degree({"ours": slices([0.1, 0.2]), "theirs": slices([0.0, 0.3])}, "bars.png")
    (axes,) = drawn[0].axes
    ours, theirs = ([line[:, 1] for line in lines.get_segments()] for lines in axes.collections)
    np.testing.assert_allclose(ours, [[0.09, 0.11], [0.2, 0.2]])  # the error of one slice is unknown
    np.testing.assert_allclose(theirs, [[-0.01, 0.01], [0.3, 0.3]])


def test_curves_of_newcomers_show_one_standard_error(drawn: list[Figure]) -> None:
    def evaluation(*recall: float) -> Evaluation:
        people = np.arange(len(recall))
        return Evaluation({"recall@5": np.mean(recall)}, {"recall@5": np.array(recall)}, people, people[:, None])

    curve = {5: evaluation(0.0, 1.0, 0.2, 0.8), 0: evaluation(0.0, 0.2), 1: evaluation(0.3)}
    report.plot_few_shot({"ours": curve}, "curve.png", metric="recall@5")
    (axes,) = drawn[0].axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "1", "5"]
    line, _, (bars,) = axes.containers[0].lines
    np.testing.assert_allclose(line.get_ydata(orig=False), [0.1, 0.3, 0.5])
    low, high = np.array([bar[:, 1] for bar in bars.get_segments()]).T
    np.testing.assert_allclose(low + high, [0.2, 0.6, 1.0])
    error = [0.1, 0, np.sqrt(0.68 / 3 / 4)]  # that of one person is unknown
    np.testing.assert_allclose(high - low, 2 * np.array(error), atol=1e-12)


def test_map_of_embeddings_equals_scikit_learn(drawn: list[Figure]) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((50, 6)) * [5, 3, 1, 1, 1, 1]
    report.plot_embeddings(vectors, ["a"] * 30 + ["b"] * 20, "map.png")
    (axes,) = drawn[0].axes
    position = np.concatenate([points.get_offsets() for points in axes.collections])
    reference = PCA(2).fit(vectors)
    np.testing.assert_allclose(np.abs(position), np.abs(reference.transform(vectors)), atol=1e-8)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a (30)", "b (20)"]
    assert f"{reference.explained_variance_ratio_[0]:.0%}" in axes.get_xlabel()


def test_map_colours_the_commonest_labels_and_thins_out(drawn: list[Figure], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "_MAX_POINTS", 36)
    labels = [letter for letter in "abcdefgh" for _ in range(8)] + [None, float("nan")]
    vectors = np.random.default_rng(0).standard_normal((len(labels), 3))
    report.plot_embeddings(vectors, labels, "map.png")
    (axes,) = drawn[0].axes
    assert len(axes.collections) == 7
    assert sum(len(points.get_offsets()) for points in axes.collections) == 36
    assert axes.get_legend().get_texts()[-1].get_text() == "other (18)"  # two letters and the two without label


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_files_are_written(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"picture.{ending}"
    report.plot_training(HISTORY, path)
    assert path.read_bytes()[:4] in (b"\x89PNG", b"<?xm", b"%PDF")


def test_the_same_input_gives_the_same_picture(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((20, 4))
    for name in ("first.png", "second.png"):
        report.plot_embeddings(vectors, ["a"] * 20, tmp_path / name)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


def test_a_frame_is_drawn_like_its_records(tmp_path: Path) -> None:
    report.plot_training(HISTORY, tmp_path / "records.png")
    report.plot_training(pd.DataFrame(HISTORY), tmp_path / "frame.png")
    assert (tmp_path / "records.png").read_bytes() == (tmp_path / "frame.png").read_bytes()


def test_what_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no epoch"):
        report.plot_training([], tmp_path / "a.png")
    with pytest.raises(DataError, match="no epoch"):
        report.plot_training(pd.DataFrame(), tmp_path / "a.png")
    with pytest.raises(StorageError, match=r"cannot write .*absent"):
        report.plot_training(HISTORY, tmp_path / "absent" / "a.png")
    with pytest.raises(ConfigError, match=r"must end in one of .*png"):
        report.plot_training(HISTORY, tmp_path / "a.doc")
    with pytest.raises(DataError, match="no model"):
        report.plot_recall_by_degree({}, tmp_path / "a.png")
    with pytest.raises(DataError, match="'theirs' has other slices"):
        report.plot_recall_by_degree(
            {"ours": slices([0, 0]), "theirs": slices([0, 0], ("0", "4–10"))}, tmp_path / "a.png"
        )
    with pytest.raises(DataError, match="two or more points"):
        report.plot_embeddings(np.ones((3, 2)), ["a"], tmp_path / "a.png")
    with pytest.raises(DataError, match="not finite"):
        report.plot_embeddings(np.full((2, 2), np.nan), ["a", "b"], tmp_path / "a.png")


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'gnnrec\[plot\]'"):
        report.plot_training(HISTORY, tmp_path / "a.png")
