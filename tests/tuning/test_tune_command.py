"""``gnnrec tune`` does what ``gnnrec.tune`` does, and its best options go into ``gnnrec fit``."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import Result

import gnnrec as gr
from gnnrec.data.synthetic import Shop

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory, small_shop: Shop) -> Path:
    path = tmp_path_factory.mktemp("shop") / "log.csv"
    small_shop.interactions.to_csv(path, index=False)
    return path


def test_from_a_log_to_a_fitted_model(run: Run, log: Path, tmp_path: Path) -> None:
    data = (log, "--split", "random:valid=0.15,test=0.2")
    options = ("--set", "epochs=1", "--set", "embedding_dim=8", "--seed", 3, "--metric", "recall@5")
    command = ("tune", *data, *options, "--space", "hops=[1,2]", "--space", "learning_rate=0.001..0.03")
    first = run(*command, "--trials", 1, "--output", tmp_path / "search")
    assert first.exit_code == 0, first.output
    result = run(*command, "--trials", 3, "--output", tmp_path / "search")  # goes on
    assert result.exit_code == 0, result.output
    assert "learning_rate" in result.stdout
    assert "0.001 to 0.03, logarithmic" in result.stdout

    train, valid, _ = gr.Dataset.from_frames(log).split(gr.split.random(valid=0.15, test=0.2))
    space = {"hops": [1, 2], "learning_rate": (0.001, 0.03)}
    small = {"epochs": 1, "embedding_dim": 8, "seed": 3, "metric": "recall@5"}
    expected = gr.tune(train, valid, trials=3, space=space, progress=False, **small)
    trials = pd.read_csv(tmp_path / "search" / "trials.csv", keep_default_na=False)
    pd.testing.assert_frame_equal(
        trials.drop(columns="seconds"), expected.trials.drop(columns="seconds"), check_dtype=False
    )

    fitted = run("fit", *data, "--config", tmp_path / "search" / "best.toml", "--output", tmp_path / "run")
    assert fitted.exit_code == 0, fitted.output
    loaded = gr.load(tmp_path / "run" / "model")
    assert loaded.evaluate(valid, ("recall@5",), mask="train").values["recall@5"] == expected.best_value

    other = run("tune", *data, *options, "--trials", 3, "--space", "hops", "--output", tmp_path / "search")
    assert other.exit_code == 2
    assert "holds a search with other space" in " ".join(other.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--space", "temperture"], "did you mean 'temperature'?"),
        (["--space", "hops=3"], "--space hops takes LOW..HIGH or [CHOICE,CHOICE], not '3'"),
        (["--space", "temperature=a..b"], "--space temperature takes"),
        (["--space", "loss"], "'loss' declares no range"),
        (["--trials", "0"], "trials must be positive"),
        (["--preset", "popularity"], "there is nothing to search"),
        (["--metric", "recal@20"], "recal"),
        (["--dataset", "movielens"], "give either a log or --dataset NAME"),
    ],
)
def test_what_is_wrong_with_a_search(run: Run, log: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    result = run("tune", log, *arguments, "--output", tmp_path / "search")
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert not (tmp_path / "search").exists()
