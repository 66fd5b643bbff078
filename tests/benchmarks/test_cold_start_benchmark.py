"""New items in the harness: strict and shared splits, choices on validation, rows, and the page made from them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import cold_start
import cold_start_tables
import gnnrec as gr
from gnnrec import cold_start_report
from harness import cold_start as measuring
from harness import run
from harness.models import model_of
from harness.plan import COLD_START as BENCHMARKS
from harness.rows import (
    COLD_START,
    TRADE_OFF,
    VIEWS,
    Fit,
    log_test_reading,
    read_row,
    read_rows,
    read_test_readings,
    write_row,
)
from harness.task import FitTask

NUM_USERS, NUM_ITEMS = 40, 60


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that passes for TikTok's: two tastes, odd and even, which pictures show; items from 48 on are new."""
    root = tmp_path_factory.mktemp("data")
    (root / "tiktok").mkdir()
    rng = np.random.default_rng(0)
    log = [
        (user, item, 2 if item >= 54 else 1 if item >= 48 else rng.choice(3, p=[0.8, 0.1, 0.1]))
        for user in range(NUM_USERS)
        for item in rng.choice(np.arange(user % 2, NUM_ITEMS, 2), 16, replace=False)
    ]
    log = pd.DataFrame(log, columns=["userID", "itemID", "x_label"])
    log.to_csv(root / "tiktok" / "tiktok.inter", sep="\t", index=False)
    taste = np.eye(2)[np.arange(NUM_ITEMS) % 2]
    np.save(root / "tiktok" / "image_feat.npy", taste + rng.normal(0, 0.1, taste.shape))
    return root


@pytest.fixture(params=["strict", "shared"])
def parts(request, root, monkeypatch) -> tuple[gr.Dataset, ...]:
    monkeypatch.setenv("GNNREC_DATA_DIR", str(root))
    if request.param == "strict":
        strict = replace(BENCHMARKS["tiktok"], splitter=gr.split.column("x_label", cold="item"))
        monkeypatch.setitem(BENCHMARKS, "tiktok", strict)
    return measuring.cold_parts(gr.datasets.load("tiktok"), BENCHMARKS["tiktok"].splitter)


def test_strict_parts_know_only_their_own_new_items(parts):
    train, valid, test, *warm = parts
    known = set(train.items.ids)
    if not warm:
        assert train.num_items == valid.num_items == test.num_items == NUM_ITEMS
        return
    assert known == set(range(48))
    assert set(valid.items.ids) - known == set(range(48, 54))
    assert set(test.items.ids) - known == set(range(54, 60))  # the new items of validation are no candidates
    pairs = train.interaction_matrix().multiply(warm[0].interaction_matrix())
    assert pairs.nnz == 0
    assert len(warm[0].events) == round(0.1 * (len(train.events) + len(warm[0].events)))


@pytest.mark.parametrize("model", ["vbpr", "random"])
def test_a_row_holds_what_the_report_gives(parts, tmp_path, model):
    train, valid, *tests = parts
    options = {"epochs": 2, "embedding_dim": 8} if model == "vbpr" else {}
    fit = Fit("tiktok", model, 0)
    measuring.measure(tmp_path, fit, options, "cpu")
    row = read_rows(tmp_path, COLD_START).iloc[0]
    assert row["status"] == "ok", row["reason"]
    name = "popularity" if model == "random" else model
    reference = gr.Recommender.preset(name, **options).fit(train, valid, progress=False)
    report = cold_start_report.evaluate_cold_start(reference.state, *tests)
    views = report.random if model == "random" else report.evaluations
    for view in VIEWS:
        assert row[f"test recall@20, {view}"] == pytest.approx(views[view].values["recall@20"])
        np.testing.assert_allclose(row[f"test ndcg@20, {view}, per user"], views[view].per_user["ndcg@20"], 1e-6)
        assert row[f"test users, {view}"] == views[view].num_users
    both = [views[view].values["recall@20"] for view in ("warm", "cold among all")]
    assert row["test recall@20, harmonic mean of warm and cold among all"] == pytest.approx(
        2 / (1 / both[0] + 1 / both[1])
    )
    if model == "random":
        assert row["test trade-off, warm"] is None
    else:
        frame = report.trade_off.to_frame()
        np.testing.assert_allclose(row["test trade-off, warm"], frame["known"], 1e-5)
        np.testing.assert_allclose(row["test trade-off, cold among all"], frame["new"], 1e-5)
    on_valid = cold_start_report.evaluate_cold_start(reference.state, valid, mask="train")
    on_valid = on_valid.random if model == "random" else on_valid.evaluations
    for view in VIEWS:
        assert row[f"valid recall@20, {view}"] == pytest.approx(on_valid[view].values["recall@20"])
        assert on_valid[view].values["recall@20"] > 0  # no validation pair is hidden
    assert read_test_readings(tmp_path)[["dataset", "model"]].to_numpy().tolist() == [["tiktok", model]]
    assert COLD_START.folder == "cold-start"
    assert (tmp_path / "cold-start" / "tiktok" / f"{model}-0.parquet").exists()


@pytest.mark.parametrize("model", ["popularity", "gnnrec"])
def test_presets_learn_from_all_training_pairs_in_the_end(parts, model):
    train, valid, *_ = parts
    fitted = model_of(model).fit(FitTask(train, valid, seed=0), {"epochs": 1} if model == "gnnrec" else {})
    assert fitted.state.train.nnz == train.interaction_matrix().nnz


def test_the_views_are_those_of_the_report():
    assert VIEWS == cold_start_report.VIEWS


@pytest.mark.parametrize("parts", ["strict"], indirect=True)
def test_new_items_of_the_validation_part_choose_from_the_grid(parts, tmp_path, monkeypatch):
    model = replace(measuring.model_of("vbpr"), grid=({"epochs": 1, "content": "add"}, {"epochs": 2}))
    monkeypatch.setattr(measuring, "model_of", lambda name: model)
    measuring.measure(tmp_path, Fit("tiktok", "vbpr", 0), {"embedding_dim": 8}, "cpu")
    row = read_row(tmp_path, Fit("tiktok", "vbpr", 0), COLD_START)
    trials = json.loads(row["trials"])
    assert len(trials) == 2
    best = max(trials, key=lambda trial: trial["valid recall@20"])
    assert row["valid recall@20"] == row["valid recall@20, cold among all"] == best["valid recall@20"]
    assert json.loads(row["hyperparameters"])["epochs"] == best["epochs"]


def test_other_packages_are_refused_and_the_test_set_stays_closed(parts, tmp_path):
    measuring.measure(tmp_path, Fit("tiktok", "lightgnc", 0), {}, "cpu")
    assert "did you mean 'lightgcn'" in read_row(tmp_path, Fit("tiktok", "lightgnc", 0), COLD_START)["reason"]
    assert read_test_readings(tmp_path).empty


def test_rows_that_exist_are_not_made_again(tmp_path, monkeypatch):
    fitted = []

    def instead(limit, function, results, fit, options, device):
        fitted.append((fit.model, fit.variant, options))
        write_row(results, fit, {"status": "ok", "deterministic": False, "options": json.dumps(options)}, COLD_START)
        return ""

    monkeypatch.setattr(run, "in_own_process", instead)
    command = ["--dataset", "tiktok", "--seeds", "0", "--results", str(tmp_path)]
    cold_start.main(command)
    assert [model for model, _, _ in fitted] == list(cold_start.MODELS)
    cold_start.main(command)
    assert len(fitted) == len(cold_start.MODELS)
    cold_start.main([*command, "--model", "gnnrec", "--name", "none hidden", "--option", "identity_dropout=0"])
    assert fitted[-1] == ("gnnrec", "none hidden", {"identity_dropout": 0})
    with pytest.raises(SystemExit, match="--name"):
        cold_start.main([*command, "--option", "identity_dropout=0"])


def test_the_page_holds_the_figures_of_the_rows(tmp_path):
    def given(model: str, seed: int, value: float, variant: str = "", curve: tuple | None = None) -> None:
        columns = {f"test {metric}, {view}": value for metric in ("recall@20", "ndcg@20") for view in VIEWS}
        columns |= {f"{name}, per user": [value] * 30 for name in columns}
        columns |= {f"test users, {view}": 30 for view in VIEWS}
        columns |= {"test recall@20, harmonic mean of warm and cold among all": value / 2}
        columns |= {"valid recall@20, cold among all": 0.125, "status": "ok", "config": '{"hops": 2}'}
        columns |= {"hyperparameters": "{}", "options": '{"identity_dropout": 0.0}' if variant else "{}"}
        columns |= {} if curve is None else dict(zip(TRADE_OFF, curve, strict=True))
        columns |= {"machine": "Abacus", "cores": 2, "threads": 1, "device": "cpu", "versions": '{"torch": "9.9"}'}
        write_row(tmp_path, Fit("tiktok", model, seed, variant), columns, COLD_START)
        log_test_reading(tmp_path, "cold-start", Fit("tiktok", model, seed, variant), {})

    for seed, value in enumerate((0.4, 0.6)):
        given("gnnrec", seed, value, curve=([0.8, 0.4, 0.0], [0.0, value, 1.0]))
    given("content-knn", 0, 0.3, curve=([0.4, 0.2, 0.0], [0.0, 0.1, 0.2]))
    given("gnnrec", 0, 0.45, "none hidden")
    write_row(tmp_path, Fit("tiktok", "clcrec", 0), {"status": "failed", "reason": "it | broke"}, COLD_START)
    cold_start_tables.main(["--results", str(tmp_path), "--docs", str(tmp_path)])
    page = (tmp_path / "benchmarks-cold-start.md").read_text(encoding="utf-8")
    lines = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    ours = next(line for line in lines if line[0] == "`gnnrec`")
    assert ours[1:3] == ["2", ".5000 ± .1414"]
    assert ours[7:10] == [".2500 ± .0707", ".4000 ± .0566", ".1250"]
    theirs = next(line for line in lines if line[0] == "`content-knn`")
    assert theirs[-3:] == ["+.2000 [+.2000, +.2000], p < .001"] * 3  # among cold, among all, warm
    variant = next(line for line in lines if line[0] == "none hidden")
    assert variant[-4:-1] == ["-.0500 [-.0500, -.0500], p < .001"] * 3  # on the seed that both have
    assert variant[-1] == "identity_dropout: 0.0"
    assert ["`clcrec`", "0", "it \\| broke"] in lines
    assert "Abacus, 2 cores" in page
    traded = next(line for line in lines if line[:2] == ["`content-knn`", ".3000"])
    # At .3, its own warm recall, ours finds .625; at ours, .5, it has none to give.
    assert traded[1:] == [".3000", ".3000", ".6250"]
    assert "`gnnrec` as it comes: warm recall@20 .5000, .5000 among all." in page
    assert (tmp_path / "images" / "trade-off-tiktok.png").exists()
    given("gnnrec", 2, 0.5)
    row = Fit("tiktok", "gnnrec", 3)
    write_row(tmp_path, row, {"status": "ok", "config": '{"hops": 9}', "hyperparameters": "{}"}, COLD_START)
    with pytest.raises(ValueError, match="delete the outdated ones of gnnrec on tiktok"):
        cold_start_tables.main(["--results", str(tmp_path), "--docs", str(tmp_path)])
