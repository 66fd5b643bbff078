"""A search finds better options, repeats itself, goes on where it was, and tells what it did."""

import json
import os
import threading
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import gnnrec as gr
from gnnrec.config import Range, read_config
from gnnrec.data.dataset import Dataset
from gnnrec.data.synthetic import Shop
from gnnrec.errors import ConfigError, DataError, GnnrecError, MissingPackageError, StorageError
from gnnrec.evaluation.protocol import evaluate_rankings
from gnnrec.presets import RecommenderConfig
from gnnrec.training.loop import EpochRecord
from gnnrec.tuning import TuningReport, problem, study

Parts = tuple[Dataset, Dataset]
# A small model on a small log: a trial takes a fraction of a second.
SMALL: dict[str, Any] = {"embedding_dim": 8, "epochs": 2, "metric": "recall@5", "progress": False}
SPACE = {"learning_rate": (1e-5, 0.03), "hops": [1, 2], "edge_dropout": (0.0, 0.5)}


@pytest.fixture(scope="module")
def parts(small_shop: Shop) -> Parts:
    data = gr.Dataset.from_frames(small_shop.interactions, modalities={"taste": small_shop.vectors(dim=4)})
    train, valid, _ = data.split(gr.split.random(valid=0.15, test=0.2))
    return train, valid


def search(parts: Parts, trials: int, **options: Any) -> TuningReport:
    return gr.tune(*parts, trials=trials, **{"space": SPACE, **SMALL, **options})


def outcomes(report: TuningReport) -> pd.DataFrame:
    return report.trials.drop(columns="seconds")


def on_validation(recommender: gr.Recommender) -> float:
    """The recall@5 of a fitted recommender on its validation pairs."""
    state = recommender.state
    return evaluate_rankings(
        lambda user_index: state.ranker.score(user_index.numpy()), state.valid, mask=state.train, metrics=("recall@5",)
    ).values["recall@5"]


@pytest.fixture(scope="module")
def bad_start(parts: Parts) -> TuningReport:
    """A search from a learning rate with which nothing is learned; some trials are stopped early."""
    return search(parts, 12, learning_rate=1e-5, epochs=6, known_content_taste=0.0)


def test_it_finds_something_clearly_better(bad_start: TuningReport) -> None:
    assert bad_start.trials["learning_rate"].iloc[0] == 1e-5
    assert bad_start.start_value == bad_start.trials["recall@5"].iloc[0]
    assert bad_start.best_value > bad_start.start_value + 0.2
    assert bad_start.best_options["learning_rate"] > 1e-4


def test_the_best_options_give_the_best_value(bad_start: TuningReport, parts: Parts) -> None:
    assert set(bad_start.best_options) == set(SPACE)
    recommender = bad_start.recommender().fit(*parts, progress=False)
    assert recommender.config.training.learning_rate == bad_start.best_options["learning_rate"]
    assert on_validation(recommender) == bad_start.best_value


def test_the_value_is_that_of_the_model_as_it_answers(parts: Parts) -> None:
    report = search(parts, 1, popularity_weight=5.0)
    fitted = report.recommender().fit(*parts, progress=False)
    assert on_validation(fitted) != fitted.history["recall@5"].max()
    assert report.best_value == on_validation(fitted)


def test_trials_that_fall_behind_are_stopped(bad_start: TuningReport) -> None:
    pruned = bad_start.trials[bad_start.trials["state"] == "pruned"]
    assert len(pruned)
    assert pruned["trained_epochs"].between(5, 6).all()
    assert (pruned["recall@5"] < bad_start.best_value).all()
    assert (bad_start.trials["state"].iloc[:5] == "complete").all()


def test_the_start_is_never_stopped(tmp_path: Path) -> None:
    """Others come to their end before it where several workers search; a slow start may still be the best."""

    class SlowStart:
        metric, space, start = "recall@20", {"rate": Range(0.0, 1.0)}, {"rate": 0.5}
        config = RecommenderConfig()

        def fingerprint(self) -> dict[str, str]:
            return {}

        def measure(self, point: Mapping[str, Any], on_epoch: Callable[[EpochRecord], None]) -> float:
            values = [0.5] * 7
            if point == self.start:
                for _ in range(6):
                    run_trial(1)
                values = [0.1] * 6 + [0.9]
            for epoch, value in enumerate(values, 1):
                on_epoch({"recall@20": value, "epoch": epoch})
            return values[-1]

    problem: Any = SlowStart()
    with study._quiet_optuna():
        trials = study._begin(tmp_path / "journal", problem)

        def run_trial(worker: int) -> None:
            study._run_trial(worker, problem, trials)

        run_trial(0)
        assert trials.trials[0].value == 0.9


def test_importance_is_shared_among_the_options(bad_start: TuningReport) -> None:
    assert set(bad_start.importance) == set(SPACE)
    assert sum(bad_start.importance.values()) == pytest.approx(1)


def test_the_same_seed_gives_the_same_trials_and_another_does_not(parts: Parts) -> None:
    first, second, other = (search(parts, 3, seed=seed) for seed in (7, 7, 8))
    pd.testing.assert_frame_equal(outcomes(first), outcomes(second))
    assert first.trials["learning_rate"].iloc[0] == other.trials["learning_rate"].iloc[0] == 0.005
    assert first.trials["learning_rate"].iloc[1] != other.trials["learning_rate"].iloc[1]
    assert other.best_config.seed == 8


def test_a_search_goes_on_where_it_was(parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = search(parts, 5)
    storage = tmp_path / "deep" / "trials.journal"
    assert len(search(parts, 2, storage=storage).trials) == 2

    def interrupt(*arguments: object) -> float:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(problem.Problem, "measure", interrupt)
        with pytest.raises(KeyboardInterrupt):
            search(parts, 5, storage=storage)
    resumed = search(parts, 5, storage=storage)
    pd.testing.assert_frame_equal(outcomes(resumed), outcomes(whole))
    assert resumed.best_options == whole.best_options
    with monkeypatch.context() as patch:
        patch.setattr(problem.Problem, "measure", interrupt)  # nothing is left to do
        assert search(parts, 5, storage=storage).best_value == whole.best_value


@pytest.mark.parametrize(
    ("changed", "what"),
    [({"seed": 1}, "other options"), ({"space": ["hops"]}, "other space"), ({}, "other data")],
)
def test_a_storage_of_another_search_is_refused(
    parts: Parts, tmp_path: Path, changed: dict[str, Any], what: str
) -> None:
    train, valid = parts
    search(parts, 1, storage=tmp_path / "trials.journal")
    if not changed:
        valid = valid.with_events(valid.events.take(np.arange(len(valid.events) - 1)))
    with pytest.raises(ConfigError, match=what):
        search((train, valid), 2, storage=tmp_path / "trials.journal", **changed)


@pytest.mark.parametrize("column", ["timestamp", "weight"])
def test_times_and_weights_are_data_of_a_search(parts: Parts, tmp_path: Path, column: str) -> None:
    train, valid = parts
    values = np.arange(len(train.events), dtype=np.float64)
    one, other = (replace(train, events=replace(train.events, **{column: order})) for order in (values, values[::-1]))
    search((one, valid), 1, storage=tmp_path / "trials.journal")
    with pytest.raises(ConfigError, match="other data"):
        search((other, valid), 2, storage=tmp_path / "trials.journal")


def test_a_file_of_something_else_is_refused(parts: Parts, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user_id,item_id\n1,2\n3,4\n")
    with pytest.raises(StorageError, match=r"log\.csv"):
        search(parts, 1, storage=tmp_path / "log.csv")
    (tmp_path / "note.txt").write_text("remember the milk")
    with pytest.raises(StorageError, match="give another file, or delete this one"):
        search(parts, 1, storage=tmp_path / "note.txt")
    assert (tmp_path / "note.txt").read_text() == "remember the milk"
    with pytest.raises(StorageError, match="cannot use"):
        search(parts, 1, storage=tmp_path)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_journal_that_ends_within_a_line_goes_on(
    parts: Parts, tmp_path: Path, share: float, caplog: pytest.LogCaptureFixture
) -> None:
    whole = search(parts, 2, storage=tmp_path / "trials.journal", epochs=1)
    lines = (tmp_path / "trials.journal").read_bytes()
    end = round(share * len(lines))
    assert not lines[:end].endswith(b"\n")
    (tmp_path / "trials.journal").write_bytes(lines[:end])
    resumed = search(parts, 2, storage=tmp_path / "trials.journal", epochs=1)
    pd.testing.assert_frame_equal(outcomes(resumed), outcomes(whole))
    assert "ends in the middle of a line" in caplog.text


def test_a_lock_that_a_killed_process_left_is_seen_through(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Optuna takes over an old lock if it can follow the link that the lock is."""
    linked: list[str] = []
    link = os.symlink
    monkeypatch.setattr(os, "symlink", lambda target, lock: linked.append(target) or link(target, lock))
    monkeypatch.chdir(tmp_path)
    search(parts, 1, storage="trials.journal", epochs=1)
    assert set(linked) == {str(tmp_path / "trials.journal")}


class Threads:
    """Takes the place of processes, which need seconds to begin."""

    def __init__(self, function: Any, arguments: tuple[Any, ...], nprocs: int, join: bool) -> None:
        self.threads = [threading.Thread(target=function, args=(worker, *arguments)) for worker in range(nprocs)]
        for thread in self.threads:
            thread.start()

    def join(self, timeout: float) -> bool:
        self.threads[0].join(timeout)
        return not any(thread.is_alive() for thread in self.threads)


@pytest.mark.parametrize("processes", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_two_workers_finish_every_trial_once(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: bool
) -> None:
    if not processes:
        monkeypatch.setattr(study, "start_processes", Threads)
    report = search(parts, 4, workers=2, storage=tmp_path / "trials.journal", epochs=1)
    assert report.trials["trial"].tolist() == [0, 1, 2, 3]
    assert (report.trials["state"] == "complete").all()
    assert not report.trials[list(SPACE)].duplicated().any()
    assert report.trials["learning_rate"].tolist().count(0.005) == 1  # the start
    lines = [json.loads(line) for line in (tmp_path / "trials.journal").read_text().splitlines()]
    assert len({line["worker_id"].split("-")[0] for line in lines}) == 2 + 1


def test_a_failed_trial_is_noted_and_the_search_goes_on(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = problem.Problem.measure

    def fail_on_two_hops(self: problem.Problem, point: Any, on_epoch: Any) -> float:
        if point["hops"] == 2:
            raise GnnrecError("the loss became nan")
        return measure(self, point, on_epoch)

    monkeypatch.setattr(problem.Problem, "measure", fail_on_two_hops)
    report = search(parts, 4)
    failed = report.trials["hops"] == 2
    assert failed.any()
    assert not failed.all()
    assert (report.trials["state"] == np.where(failed, "failed", "complete")).all()
    assert set(report.trials["reason"][failed]) == {"the loss became nan"}
    assert np.isnan(report.start_value)
    with pytest.raises(GnnrecError, match="not one of 2 trials came to its end: the loss became nan"):
        search(parts, 2, space={"hops": [2]})


def test_the_holdout_of_a_fit_is_used_without_valid(parts: Parts) -> None:
    report = gr.tune(parts[0], trials=1, space=["hops"], **SMALL)
    fitted = report.recommender().fit(parts[0], progress=False)
    assert on_validation(fitted) == report.best_value


def test_a_classical_ranker_is_searched(parts: Parts) -> None:
    report = gr.tune(*parts, preset="item-knn", trials=4, neighbours=1, metric="recall@5", progress=False)
    assert report.trials["neighbours"].iloc[0] == 1
    assert report.best_value > report.start_value
    assert report.trials["trained_epochs"].eq(0).all()


def test_a_ranker_that_compares_media_is_searched(small_shop: Shop) -> None:
    data = gr.Dataset.from_frames(small_shop.interactions, modalities={"taste": small_shop.vectors(dim=4)})
    report = gr.tune(data, preset="content-knn", trials=2, metric="recall@5", progress=False)
    assert report.best_value > 0


def test_media_are_encoded_once(small_shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    from gnnrec.modalities import encode

    data = gr.Dataset.from_frames(
        small_shop.interactions, small_shop.items, modalities={"plot": gr.Text("title", encoder="wordllama")}
    )
    calls = []
    monkeypatch.setattr(
        encode, "encode_modality", lambda *a, _=encode.encode_modality, **k: calls.append(1) or _(*a, **k)
    )
    report = gr.tune(data, trials=2, space=["content_scale"], **SMALL)
    assert len(calls) == 1
    assert on_validation(report.recommender().fit(data, progress=False)) == report.best_value


def test_no_trial_begins_after_the_timeout(parts: Parts) -> None:
    with pytest.raises(GnnrecError, match="not one of 0 trials"):
        search(parts, 3, timeout=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": 0}, "trials must be positive"),
        ({"workers": 0}, "workers must be positive"),
        ({"metric": "recal@20"}, "recal"),
        ({"preset": "vbpr", "config": gr.RecommenderConfig()}, "exclude each other"),
        ({"learning_rte": 0.1}, "did you mean 'learning_rate'?"),
    ],
)
def test_what_is_wrong_with_a_search(parts: Parts, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        gr.tune(*parts, **options)


@pytest.mark.parametrize("useless", ["new items", "training pairs"])
def test_like_a_fit_it_holds_pairs_out_if_valid_tells_nothing(
    small_shop: Shop, caplog: pytest.LogCaptureFixture, useless: str
) -> None:
    data = gr.Dataset.from_frames(small_shop.interactions, modalities={"taste": small_shop.vectors(dim=4)})
    train, new_items, _ = data.split(gr.split.cold_items(valid=0.1, test=0.1))
    valid = new_items if useless == "new items" else train
    report = gr.tune(train, valid, trials=1, space=["hops"], **SMALL)
    assert "a tenth of the training pairs is held out instead" in caplog.text
    fitted = report.recommender().fit(train, valid, progress=False)
    assert on_validation(fitted) == report.best_value


def test_the_start_comes_first_even_if_another_worker_was_faster(parts: Parts, tmp_path: Path) -> None:
    """A search whose first trial was interrupted while another one came to its end."""
    storage = tmp_path / "trials.journal"
    search(parts, 2, storage=storage, epochs=1)
    lines = [json.loads(line) for line in storage.read_text().splitlines()]
    told = [line for line in lines if not (line.get("trial_id") == 0 and line.get("state") == 1)]
    assert len(told) == len(lines) - 1
    storage.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in told))
    report = search(parts, 2, storage=storage, epochs=1)
    assert report.trials["learning_rate"].iloc[0] == report.start_options["learning_rate"] == 0.005
    assert report.start_value == report.trials["recall@5"].iloc[0]


def test_there_must_be_something_to_measure_on(parts: Parts) -> None:
    train, _ = parts
    with pytest.raises(DataError, match="no pair can be held out"):
        gr.tune(train.with_events(train.events.take(np.arange(1))))
    with pytest.raises(DataError, match="no events"):
        gr.tune(train.with_events(train.events.take(np.arange(0))))


def test_without_optuna_the_extra_is_named(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.delitem(sys.modules, "gnnrec.tuning.study", raising=False)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingPackageError, match=r"gnnrec\[tune\]"):
        gr.tune(*parts)


def test_the_report(bad_start: TuningReport, parts: Parts, tmp_path: Path) -> None:
    bad_start.save(tmp_path / "search")
    names = sorted(path.name for path in (tmp_path / "search").iterdir())
    assert names == ["best.toml", "importance.png", "report.md", "search.png", "trials.csv"]
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "search" / "trials.csv", keep_default_na=False), bad_start.trials, check_dtype=False
    )
    text = (tmp_path / "search" / "report.md").read_text()
    assert f"| start | {bad_start.start_value:.4g} |" in text
    assert f"| best | {bad_start.best_value:.4g} |" in text
    best = bad_start.best_options["learning_rate"]
    assert f"| learning_rate | 1e-05 | {best:.4g} | 1e-05 to 0.03, logarithmic |" in text
    assert f"{bad_start.best_value:.4f} at best" in str(bad_start)

    config = read_config(gr.RecommenderConfig, tmp_path / "search" / "best.toml")
    assert config == bad_start.best_config
    again = gr.Recommender(config=config).fit(*parts, progress=False)
    assert on_validation(again) == bad_start.best_value
    assert tomllib.loads((tmp_path / "search" / "best.toml").read_text())["model"]["embedding_dim"] == 8

    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot write"):
        bad_start.save(tmp_path / "file")


def test_where_all_trials_are_equal_no_option_is_important():
    optuna = pytest.importorskip("optuna")
    equal = optuna.create_study(direction="maximize")
    space = {"hops": optuna.distributions.IntDistribution(1, 4)}
    for hops in (1, 2, 3):
        equal.add_trial(optuna.trial.create_trial(params={"hops": hops}, distributions=space, value=1.0))
    assert study._importance(equal) == {}
