"""The examples run, and what they show is so."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

import gnnrec as gr

EXAMPLES = Path(__file__).parents[1] / "examples"


def load_example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_tested() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {
        *("quickstart", "cold_start", "movies_with_posters", "search_movies")
    }


def test_quickstart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recommender = load_example("quickstart").main(tmp_path, epochs=6)
    assert set(recommender.state.features) == {"text", "picture"}
    first, second = (block.split() for block in capsys.readouterr().out.split("Evaluation of ")[1:3])
    recall, of_popularity = (float(words[words.index("recall@20") + 1]) for words in (first, second))
    assert recall > of_popularity + 0.1


def test_cold_start() -> None:
    measured = load_example("cold_start").main(epochs=6)
    assert measured["recall@5"] > 2 * measured["by chance"]


@pytest.mark.data
def test_posters_are_read_and_the_films_without_one_are_known(data_dir: Path, tmp_path: Path) -> None:
    films = load_example("movies_with_posters").read_films(data_dir / "ml-100k-multimodal", tmp_path)
    assert len(films) == 1682
    assert films["poster"].isna().sum() == 19
    assert films["overview"].notna().sum() == 1664
    assert films["title"][films["item_id"] == 1633].item() == "Á köldum klaka (Cold Fever) (1994)"


@pytest.mark.data
def test_movies_with_posters(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = load_example("movies_with_posters")
    recommender = example.main(data_dir / "ml-100k-multimodal", tmp_path, epochs=2, max_films=80)
    assert recommender.fit_report is not None
    assert set(recommender.fit_report.media) == {"poster", "plot"}
    assert recommender.fit_report.media["poster"].unreadable == 0
    assert recommender.state.features["poster"].dim == 1280
    assert "posters and plots Evaluation of" in capsys.readouterr().out
    assert gr.load(tmp_path / "model").recommend([1], k=3)["rank"].tolist() == [1, 2, 3]


@pytest.mark.data
def test_search_movies(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    monkeypatch.syspath_prepend(EXAMPLES)  # it takes its reader from another example
    found = load_example("search_movies").main(data_dir / "ml-100k-multimodal", tmp_path, max_films=60, k=5)
    toy_story, star_wars = 1, 50
    assert found["plot: toys that are alive when nobody looks"][0] == toy_story
    assert found["plot: rebels fight an evil empire in outer space"][0] == star_wars
    assert found["poster: rebels fight an evil empire in outer space"][0] == star_wars
    assert found["the poster of Star Wars"][0] == star_wars
    assert "toys that are alive when nobody looks\n  Toy Story (1995)" in capsys.readouterr().out
    with Image.open(tmp_path / "found.png") as sheet:
        assert sheet.size == (5 * 92, len(found) * (138 + 16))
