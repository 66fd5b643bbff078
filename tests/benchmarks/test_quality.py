"""The benchmark harness: rows, resume, failures, choices on validation, and the page made from the rows."""

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import gnnrec as gr
import quality
import tables
from gnnrec.config import to_dict
from gnnrec.nn.alignment import OBJECTIVES
from gnnrec.nn.fusion import FUSIONS
from gnnrec.nn.sequence import SEQUENCE_ENCODERS
from harness import measure as measuring
from harness import run
from harness.models import model_of
from harness.options import check_options, outdated_options
from harness.plan import ABLATIONS, ALIGNMENTS, OTHER_FUSIONS, SEQUENCES, few_events
from harness.rows import (
    AMONG_RARE_PER_USER,
    RARE_PER_USER,
    Fit,
    log_test_reading,
    read_row,
    read_rows,
    read_test_readings,
    row_path,
    write_row,
)
from harness.task import FitTask, FittedModel, Model

NUM_USERS, NUM_ITEMS = 40, 31  # the last item has no event: cold


@pytest.fixture(scope="module")
def planted_data(tmp_path_factory: pytest.TempPathFactory):
    """Two tastes, odd and even; a folder that passes for TikTok's, and the environment that names it."""
    root = tmp_path_factory.mktemp("data")
    folder = root / "tiktok"
    folder.mkdir()
    rng = np.random.default_rng(0)
    events = [
        (user, item, 0 if place < 6 else 1 if place < 8 else 2)
        for user in range(NUM_USERS)
        for place, item in enumerate(rng.choice(np.arange(user % 2, 30, 2), 10, replace=False))
    ]
    events += [(0, 30, 2)]  # a test event on an item that nobody had in training
    log = pd.DataFrame(events, columns=["userID", "itemID", "x_label"])
    log.to_csv(folder / "tiktok.inter", sep="\t", index=False)
    taste = np.eye(2)[np.arange(NUM_ITEMS) % 2]
    np.save(folder / "image_feat.npy", taste + rng.normal(0, 0.1, taste.shape))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GNNREC_DATA_DIR", str(root))
        yield gr.datasets.load("tiktok").split(gr.split.column("x_label"))


def oracle(task: FitTask, hyperparameters: dict) -> FittedModel:
    """Knows the tastes; ``doubt`` of them is noise."""
    rng = np.random.default_rng(task.seed)
    tastes = (np.arange(NUM_USERS)[:, None] + np.arange(NUM_ITEMS)) % 2 == 0
    doubt = hyperparameters["doubt"]
    scores = torch.from_numpy((1 - doubt) * tastes + doubt * rng.random(tastes.shape))
    return FittedModel(lambda user_index: scores[user_index], best_epoch=hyperparameters.get("epochs", 7), epochs=9)


def test_a_row_holds_what_evaluate_gives_and_its_reading_is_logged(planted_data, tmp_path):
    train, valid, test = planted_data
    fit = Fit("tiktok", "popularity", 0)
    measuring.measure(tmp_path, fit, {}, "cpu")

    row = read_rows(tmp_path).iloc[0]
    reference = gr.Recommender.preset("popularity").fit(train, valid, progress=False)
    for mask in ("train", "train+valid"):
        values = reference.evaluate(test, ["recall@20", "ndcg@10"], mask=mask)
        assert row[f"test recall@20, {mask} masked"] == pytest.approx(values.values["recall@20"])
        assert row[f"test ndcg@10, {mask} masked"] == pytest.approx(values.values["ndcg@10"])
        np.testing.assert_allclose(row[f"test recall@20, {mask} masked, per user"], values.per_user["recall@20"], 1e-6)
    assert row["deterministic"]
    assert json.loads(row["config"])["ranker"] == "popularity"
    assert row["valid recall@20"] == reference.evaluate(valid, ["recall@20"], mask="train").values["recall@20"]
    assert row["test recall@20 of cold items among cold items"] == 1  # the only cold item among itself
    slices = {one["slice"]: one for one in row["slices"]}
    assert slices["0"]["num_pairs"] == 1
    rare = [one for name, one in slices.items() if name in ("0", "1–3")]
    found = sum(one["recall@20"] * one["num_users"] for one in rare) / sum(one["num_users"] for one in rare)
    assert np.mean(row[RARE_PER_USER]) == pytest.approx(found)  # nobody has two of them here
    assert len(row[AMONG_RARE_PER_USER]) == len(row[RARE_PER_USER])
    assert np.mean(row[RARE_PER_USER]) < np.mean(row[AMONG_RARE_PER_USER]) == 1  # fewer than 20 items are rare
    assert row["status"] == "ok"
    assert row["fit_seconds"] > 0
    assert 0.05 < row["peak_memory_gib"] < 50
    assert json.loads(row["versions"])["torch"] == torch.__version__.split("+")[0]

    readings = read_test_readings(tmp_path)
    assert readings[["dataset", "model", "seed"]].to_numpy().tolist() == [["tiktok", "popularity", 0]]


@pytest.mark.parametrize(
    ("model", "options", "reason"),
    [("lightgnc", {}, "did you mean 'lightgcn'"), ("gnnrec", {"embedding_dim": -1}, "embedding_dim")],
)
def test_an_error_becomes_a_failed_row_and_the_test_set_stays_closed(planted_data, tmp_path, model, options, reason):
    fit = Fit("tiktok", model, 0, "broken")
    measuring.measure(tmp_path, fit, options, "cpu")
    row = read_row(tmp_path, fit)
    assert row["status"] == "failed"
    assert row["reason"].startswith("ConfigError: ")
    assert reason in row["reason"]
    assert row["test recall@20, train masked"] is None
    assert read_test_readings(tmp_path).empty


@pytest.mark.parametrize("has_valid", [True, False])
def test_a_trained_preset_tells_its_epochs_and_options(planted_data, has_valid):
    train, valid, _ = planted_data
    task = FitTask(train, valid if has_valid else None, seed=0, device="cpu")
    model = replace(model_of("gnnrec"), grid=({"embedding_dim": 8, "epochs": 3, "patience": 3},))
    fitted, facts = measuring.choose_and_fit(model, task)
    assert not model.deterministic
    assert 1 <= fitted.best_epoch <= facts["epochs"] <= 3
    assert (facts["valid recall@20"] is None) == (not has_valid)
    assert json.loads(facts["config"])["model"]["embedding_dim"] == 8
    assert tuple(fitted.score_block(torch.tensor([0, 1])).shape) == (2, NUM_ITEMS)


def test_validation_chooses_from_the_grid(planted_data, tmp_path, monkeypatch):
    model = Model(oracle, ({"doubt": 1.0}, {"doubt": 0.0}, {"doubt": 0.9}), early_stopping=True)
    monkeypatch.setattr(measuring, "model_of", lambda name: model)
    measuring.measure(tmp_path, Fit("tiktok", "popularity", 0), {}, "cpu")
    row = read_row(tmp_path, Fit("tiktok", "popularity", 0))
    assert json.loads(row["hyperparameters"]) == {"doubt": 0.0}
    trials = json.loads(row["trials"])
    assert [trial["doubt"] for trial in trials] == [1.0, 0.0, 0.9]
    assert row["valid recall@20"] == max(trial["valid recall@20"] for trial in trials)
    assert (row["best_epoch"], row["epochs"]) == (7, 9)

    measuring.measure(tmp_path, Fit("tiktok", "lightgcn", 3), {}, "cpu")
    assert "seed 0 chooses" in read_row(tmp_path, Fit("tiktok", "lightgcn", 3))["reason"]
    measuring.measure(tmp_path, Fit("tiktok", "popularity", 3), {}, "cpu")  # takes over what seed 0 chose
    assert [trial["doubt"] for trial in json.loads(read_row(tmp_path, Fit("tiktok", "popularity", 3))["trials"])] == [0]


def test_without_validation_pairs_some_are_held_out_and_the_choice_is_fitted_on_all(planted_data):
    train = planted_data[0]
    seen = []

    def recording(task: FitTask, hyperparameters: dict) -> FittedModel:
        seen.append((task.pairs.nnz, task.valid is not None, dict(hyperparameters)))
        return oracle(task, hyperparameters)

    grid = ({"doubt": 1.0}, {"doubt": 0.0})
    fitted, facts = measuring.choose_and_fit(Model(recording, grid, early_stopping=True), FitTask(train, None, 0))
    assert [has_valid for _, has_valid, _ in seen] == [True, True, False]
    assert seen[0][0] == seen[1][0] == round(0.9 * train.interaction_matrix().nnz)
    assert seen[2] == (train.interaction_matrix().nnz, False, {"doubt": 0.0, "epochs": 7})
    assert fitted.best_epoch == 7
    assert json.loads(facts["hyperparameters"]) == {"doubt": 0.0}


def test_rows_that_exist_are_not_made_again(tmp_path, monkeypatch, capsys):
    fitted = []

    def instead(limit, function, results, fit, options, device):
        fitted.append((fit.model, fit.seed))
        if fit.model == "ease":
            return "the process was ended by SIGKILL"
        write_row(results, fit, {"status": "ok", "deterministic": fit.model == "popularity", "options": "{}"})
        return ""

    monkeypatch.setattr(run, "in_own_process", instead)
    command = ["--dataset", "tiktok", "--model", "gnnrec", "ease", "--results", str(tmp_path), "--seeds"]
    quality.main([*command, "0"])
    assert fitted == [("gnnrec", 0), ("ease", 0)]
    assert read_row(tmp_path, Fit("tiktok", "ease", 0))["reason"] == "the process was ended by SIGKILL"
    quality.main([*command, "0", "1"])
    assert fitted[2:] == [("gnnrec", 1), ("ease", 1)]
    quality.main([*command, "0", "--retry"])
    assert fitted[4:] == [("ease", 0)]
    assert "there is a row already, ok" in capsys.readouterr().out
    quality.main(["--dataset", "tiktok", "--model", "popularity", "--results", str(tmp_path), "--seeds", "0", "1"])
    assert fitted[5:] == [("popularity", 0)]  # other seeds would give the same


def test_options_need_a_name_and_are_read_as_json(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(run, "in_own_process", lambda limit, function, *arguments: given.append(arguments) or "no")
    command = ["--dataset", "tiktok", "--model", "gnnrec", "--seeds", "0", "--results", str(tmp_path)]
    command += ["--option", "embedding_dim=128", "loss=bpr"]
    with pytest.raises(SystemExit, match="--name"):
        quality.main(command)
    quality.main([*command, "--name", "128 wide"])
    assert given[0][2] == {"embedding_dim": 128, "loss": "bpr"}
    assert row_path(tmp_path, Fit("tiktok", "gnnrec", 0, "128 wide")).name == "gnnrec.128-wide-0.parquet"
    with pytest.raises(SystemExit, match="give another --name"):
        quality.main([*command, "hops=1", "--name", "128 wide"])
    with pytest.raises(SystemExit, match="give another --name"):
        quality.main([*command, "hops=1", "--name", "128 wide", "--seeds", "7"])


def test_an_ablation_runs_the_default_model_without_each_part(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(run, "in_own_process", lambda limit, function, *arguments: given.append(arguments) or "no")
    command = ["--dataset", "tiktok", "--seeds", "0", "--results", str(tmp_path)]
    with pytest.raises(SystemExit):
        quality.main(command)
    quality.main([*command, "--ablation", "without item bias"])
    assert [(fit.model, fit.variant, options) for _, fit, options, _ in given] == [
        ("gnnrec", "without item bias", {"item_bias": False})
    ]
    quality.main([*command, "--ablation"])
    assert {fit.variant: options for _, fit, options, _ in given} == ABLATIONS
    given.clear()
    quality.main([*command, "--fusions", "--alignments", "--sequences"])
    assert {fit.variant: options for _, fit, options, _ in given} == {**OTHER_FUSIONS, **ALIGNMENTS, **SEQUENCES}


def test_every_fusion_objective_and_encoder_of_events_is_compared():
    assert {options["fusion"] for options in OTHER_FUSIONS.values()} == set(FUSIONS) - {"attention"}
    assert {next(iter(options["modality_alignment"])) for options in ALIGNMENTS.values()} == set(OBJECTIVES)
    assert {options["sequence_encoder"] for options in SEQUENCES.values()} == {"none", *SEQUENCE_ENCODERS}


VARIANTS = {**ABLATIONS, **OTHER_FUSIONS, **ALIGNMENTS, **SEQUENCES}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_changes_the_default(name):
    default = gr.RecommenderConfig()
    changed = default.with_options(VARIANTS[name])
    groups = (default.graph, default.model, default.training)
    present = {option: value for group in groups for option, value in vars(group).items()}
    for option, value in VARIANTS[name].items():
        assert present[option] != value
        assert changed.with_options({option: present[option]}) != changed


def test_a_process_that_is_killed_fails_or_takes_too_long_is_told_apart():
    assert run.in_own_process(60, time.sleep, 0) == ""
    assert run.in_own_process(0.2, time.sleep, 60) == "did not finish in 0.2 s"
    assert run.in_own_process(60, os._exit, 3) == "the process was ended with 3"
    assert run.in_own_process(60, signal.raise_signal, signal.SIGKILL) == "the process was ended by SIGKILL"


def test_many_writers_leave_whole_rows_and_lines(tmp_path):
    fits = [Fit("tiktok", "gnnrec", seed % 3) for seed in range(60)]

    def write_and_read(fit: Fit) -> int:
        log_test_reading(tmp_path, "quality", fit, {"x": "y" * 500})
        write_row(tmp_path, fit, {"status": "ok", "test recall@20, train masked, per user": [0.5] * 1000})
        return len(read_rows(tmp_path).iloc[0]["test recall@20, train masked, per user"])

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(write_and_read, fits)) == {1000}
    assert sorted(read_rows(tmp_path)["seed"]) == [0, 1, 2]
    assert list(read_test_readings(tmp_path)["for"]) == ["quality"] * 60
    assert not list(tmp_path.glob("quality/tiktok/.*"))


def test_an_unknown_column_is_refused(tmp_path):
    with pytest.raises(KeyError, match="recal"):
        write_row(tmp_path, Fit("tiktok", "gnnrec", 0), {"recal": 1})


def _given_row(
    results: Path,
    fit: Fit,
    values: list[float],
    package: str = "gnnrec",
    config: str = "{}",
    shift: float = 0.05,
    valid: float = 0.3,
    both_masked: list[float] | None = None,
) -> None:
    recall = float(np.mean(values))
    measured = {}
    for mask, lost, per_user in (("train", shift, values), ("train+valid", 0.0, both_masked)):
        if per_user is None:
            per_user = values
        if not per_user:
            continue  # the split has no validation part
        measured |= {f"test {name}@{k}, {mask} masked": recall - lost for name in ("recall", "ndcg") for k in (10, 20)}
        measured |= {f"test recall@50, {mask} masked": recall - lost}
        measured |= {f"test {name}@20, {mask} masked, per user": per_user for name in ("recall", "ndcg")}
    facts = {"status": "ok", "package": package, "versions": json.dumps({package: "1.2.3", "torch": "9.9"})}
    facts |= {"fit_seconds": 10.0 * (1 + fit.seed), "search_seconds": 40.0, "peak_memory_gib": 1.0 + fit.seed}
    facts |= {"machine": "Abacus", "cores": 2, "threads": 1, "device": "cpu", "valid recall@20": valid, "best_epoch": 5}
    searched = "embedding_dim" if package == "gnnrec" else "factors"
    trials = [{searched: width, "valid recall@20": 0.3, "seconds": 2.0} for width in (64, 8)]
    facts |= {"hyperparameters": json.dumps({searched: 64}), "config": config, "trials": json.dumps(trials)}
    facts |= {"options": '{"content": "none"}'}
    facts |= {RARE_PER_USER: [value / 2 for value in values[:10]]}
    facts |= {AMONG_RARE_PER_USER: [value * 2 for value in values[:10]]}
    facts |= {"num_test_users": len(values), "test recall@20 of cold items among cold items": 0.125}
    slices = [{"slice": "0", "num_users": 2, "num_pairs": 2, "recall@20": 0.1}]
    slices += [{"slice": "1–3", "num_users": 4, "num_pairs": 1234, "recall@20": recall}]
    write_row(results, fit, {**measured, **facts, "slices": slices})
    log_test_reading(results, "quality", fit, {})


def test_the_page_holds_the_figures_of_the_rows(tmp_path):
    results, docs = tmp_path / "results", tmp_path / "docs"
    docs.mkdir()
    for seed, value in enumerate((0.4, 0.6)):
        _given_row(results, Fit("tiktok", "gnnrec", seed), [value] * 50)
    _given_row(results, Fit("tiktok", "gnnrec", 0, "without media"), [0.45] * 50)
    _given_row(results, Fit("tiktok", "implicit-als", 0), [0.3] * 50, "implicit")
    _given_row(results, Fit("tiktok", "implicit-als", 0, "unweighted"), [0.35] * 50, "implicit")
    reason = "ModuleNotFoundError: No module named 'dgl' | so"
    write_row(results, Fit("tiktok", "cornac-lightgcn", 0), {"status": "failed", "reason": reason})
    tables.main(["--results", str(results), "--docs", str(docs)])

    page = (docs / "benchmarks.md").read_text(encoding="utf-8")
    lines = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    ours = [line for line in lines if line[0] == "`gnnrec`"]
    assert ours[0][1:4] == ["2", ".4500 ± .1414", ".4500 ± .1414"]  # train masked
    assert ours[1][1:4] == ["2", ".5000 ± .1414", ".5000 ± .1414"]
    assert ours[1][-1] == "+.2000 [+.2000, +.2000], p < .001"
    theirs = [line for line in lines if line[0] == "`implicit-als`"]
    assert theirs[1][1:3] == ["1", ".3000"]
    assert theirs[1][-1] == "-.2000 [-.2000, -.2000], p < .001"
    assert ours[2][1:] == [".1000", ".5000", ".1250 ± .0000"]
    assert ["model", "0 (2)", "1–3 (1,234)", "0, among such items only"] in lines
    assert ours[3][1:] == ["15.0 s", "40.0 s", "2.00", "CPU, 1 thread", "5", ".3000", "embedding_dim: 64"]
    assert next(line[:6] for line in lines if line[0] == "without media") == [
        "without media",
        "1",
        ".3000",
        ".4500",
        ".4500",
        ".1250",
    ]
    # Beside the model with the same seed, which reaches .4.
    on_all, on_rare = "+.0500 [+.0500, +.0500], p < .001", "+.0250 [+.0250, +.0250], p < .001"
    among_rare = "+.1000 [+.1000, +.1000], p < .001"
    assert f"{on_all} | {on_rare} | {among_rare} | content: none" in page
    assert ["`cornac-lightgcn`", "0", reason.replace("|", "\\|")] in [
        line.strip("| ").split(" | ", 2) for line in page.splitlines()
    ]
    unweighted = next(line for line in lines if line[0] == "unweighted")
    assert unweighted[3] == ".3500"
    assert unweighted[-4] == "+.0500 [+.0500, +.0500], p < .001"  # against implicit-als
    assert ["`tiktok`", "5", "2"] in [line[:3] for line in lines]
    assert ["`implicit-als`", "implicit", "1.2.3", "factors 8, 64"] in lines
    assert "Measured before the grid became what it is: `implicit-als` (0 of 56) candidates were tried." in page
    assert "Abacus, 2 cores" in page
    picture = docs / "images" / "quality-tiktok.png"
    assert f"(images/{picture.name})" in page
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_variants_stand_beside_the_default_of_the_same_seeds(tmp_path):
    for seed, valid in enumerate((0.3, 0.5)):
        _given_row(tmp_path, Fit("tiktok", "gnnrec", seed, "vectors alone"), [0.4] * 5, valid=valid)
    _given_row(tmp_path, Fit("tiktok", "gnnrec", 1, "fusion mean"), [0.6] * 5, valid=0.45)
    _given_row(tmp_path, Fit("ml-100k-multimodal", "gnnrec", 0, "vectors alone"), [0.2] * 5)
    _given_row(tmp_path, Fit("ml-100k-multimodal", "gnnrec", 0, "alignment infonce"), [0.25] * 5, valid=0.31)
    _given_row(tmp_path, Fit("tiktok", "gnnrec", 0), [0.5] * 5, valid=0.7)
    _given_row(tmp_path, Fit("tiktok", "gnnrec", 0, "without media"), [0.4] * 5, valid=0.5)
    tables.main(["--results", str(tmp_path), "--docs", str(tmp_path)])
    page = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    cells = _cells(page, "## Fusions and alignment objectives")
    assert cells["vectors alone"] == [".4000", ".3500 ± .0000 (2)", ".3000", ".1500 (1)"]
    assert cells["fusion mean"] == ["-.0500", "+.2000 (1)", "", ""]
    assert cells["alignment infonce"] == ["", "", "+.0100", "+.0500 (1)"]
    assert len(cells) == 5  # with the header; variants that nobody measured have no line
    parts = _cells(page, "## Parts of the default model")
    assert parts["`gnnrec`"] == [".7000", ".4500 (1)", "", ""]
    assert parts["without media"] == ["-.2000", "-.1000 (1)", "", ""]
    assert parts["vectors alone"] == ["-.4000", "-.1000 (1)", "", ""]


def test_what_media_add_is_told_with_and_without_significance(tmp_path):
    for seed in range(2):
        _given_row(tmp_path, Fit("tiktok", "gnnrec", seed), [0.5] * 50, both_masked=[0.7] * 50)
    _given_row(tmp_path, Fit("tiktok", "gnnrec", 0, "without media"), [0.4] * 50)
    _given_row(tmp_path, Fit("ml-100k-multimodal", "gnnrec", 0), [0.5, 0.4] * 25)
    _given_row(tmp_path, Fit("ml-100k-multimodal", "gnnrec", 0, "without media"), [0.4, 0.5] * 25)
    for variant in ("", "without media"):
        _given_row(tmp_path, Fit("ml-1m", "gnnrec", 0, variant), [0.5] * 50, both_masked=[])
    _given_row(tmp_path, Fit("gowalla", "gnnrec", 0), [0.5] * 50)  # has no media
    tables.main(["--results", str(tmp_path), "--docs", str(tmp_path)])
    cells = _cells((tmp_path / "benchmarks.md").read_text(encoding="utf-8"), "## What the media are worth")
    gain = "+.1000 [+.1000, +.1000], p < .001"
    of_both = "+.3000 [+.3000, +.3000], p < .001"
    assert cells["TikTok"] == ["2 / 1", gain, gain, of_both, of_both, "+.0500 [+.0500, +.0500], p < .001"]
    seeds, recall, *_ = cells["MovieLens 100K with posters and plots"]
    assert seeds == "1 / 1"
    assert recall.startswith("+.0000 [-")
    assert float(recall.rsplit("p = ", 1)[1]) > 0.5
    assert cells["MovieLens 1M"][3:5] == ["", ""]
    assert len(cells) == 5  # with the header


def test_presets_stand_beside_published_figures(tmp_path):
    _given_row(tmp_path, Fit("tiktok", "vbpr", 0), [0.1] * 5, shift=0.0)
    tables.main(["--results", str(tmp_path), "--docs", str(tmp_path)])
    cells = _cells((tmp_path / "benchmarks.md").read_text(encoding="utf-8"), "## Presets beside published figures", 1)
    assert cells["`vbpr`"][:5] == ["1", ".1000", ".1000", ".0380", ".0134"]
    assert cells["`bm3`"][:3] == ["0", "not measured", ""]


def _cells(page: str, title: str, named_by: int = 0) -> dict[str, list[str]]:
    """Returns the lines of the table below a title, by one of their cells."""
    section = page[page.index(title) :].split("\n## ")[0]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if "|" in line]
    return {line[named_by]: line[named_by + 1 :] for line in lines}


def test_maskings_that_agree_are_shown_once(tmp_path):
    for model, value in (("gnnrec", 0.4), ("ease", 0.3)):
        _given_row(tmp_path, Fit("tiktok", model, 0), [value] * 5, shift=0.0)
    tables.main(["--results", str(tmp_path), "--docs", str(tmp_path)])
    page = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    assert "both maskings give the same figures" in page
    assert page.count("| `ease` | 1 | .3000 |") == 1


def test_rows_of_different_options_make_no_page(tmp_path):
    _given_row(tmp_path, Fit("tiktok", "gnnrec", 0), [0.4] * 5, config='{"hops": 2}')
    _given_row(tmp_path, Fit("tiktok", "gnnrec", 1), [0.4] * 5, config='{"hops": 9}')
    with pytest.raises(ValueError, match="delete the outdated ones of gnnrec on tiktok"):
        tables.main(["--results", str(tmp_path), "--docs", str(tmp_path)])


PEERS = {
    "implicit-als": "implicit",
    "implicit-bpr": "implicit",
    "cornac-bpr": "cornac",
    "cornac-mmmf": "cornac",
    "cornac-vbpr": "cornac",
    "cornac-lightgcn": "dgl",
    "lenskit-als": "lenskit",
    "lenskit-ease": "lenskit",
    "lenskit-item-knn": "lenskit",
    "pyg-lightgcn": "torch_geometric",
    "recbole-lightgcn": "recbole",
    "rectools-sasrec": "rectools",
}


@pytest.mark.filterwarnings("ignore")  # other packages' own
@pytest.mark.parametrize("name", PEERS)
def test_a_peer_finds_the_planted_tastes(planted_data, name):
    pytest.importorskip(PEERS[name])
    train, valid, _ = planted_data
    train = train.with_events(replace(train.events, timestamp=np.arange(len(train.events), dtype=np.float64)))
    task = FitTask(train, valid, seed=0, device="cpu")
    popular = np.bincount(task.pairs.indices, minlength=NUM_ITEMS).astype(np.float32)
    floor = task.validation_recall(lambda user_index: torch.from_numpy(popular).repeat(len(user_index), 1))
    model = model_of(name)
    fitted = model.fit(task, model.grid[-1])
    scores = fitted.score_block(torch.tensor([3, 0]))
    assert tuple(scores.shape) == (2, NUM_ITEMS)
    assert task.validation_recall(fitted.score_block) > floor


def test_a_log_of_few_events_keeps_so_many_of_each_person():
    log = pd.DataFrame({"user_id": np.repeat(["a", "b", "c"], [1, 4, 30]), "item_id": np.arange(35)})
    data = gr.Dataset.from_frames(log)
    parts = few_events(4, gr.split.random(valid=0.0, test=0.25, seed=0))(data)
    kept = sum(part.interaction_matrix().toarray() for part in parts)
    assert kept.sum(axis=1).tolist() == [1, 4, 4]
    assert (kept <= data.interaction_matrix().toarray()).all()
    again = few_events(4, gr.split.random(valid=0.0, test=0.25, seed=0))(data)
    assert (again[0].interaction_matrix() != parts[0].interaction_matrix()).nnz == 0


USUAL = {"model": {"hops": 2, "dim": 64}, "ranker": "neural"}
SHALLOW = {"model": {"hops": 0, "dim": 64}, "ranker": "neural"}


def _with_options(*rows: tuple[str, dict, dict]) -> pd.DataFrame:
    """Returns rows of one model: of each the variant, all options, and those that are its own."""
    found = [(variant, json.dumps(config), json.dumps(own)) for variant, config, own in rows]
    frame = pd.DataFrame(found, columns=["variant", "config", "hyperparameters"])
    return frame.assign(dataset="tiktok", model="gnnrec", status="ok")


def test_a_variant_may_differ_in_its_own_options_and_in_none_that_an_older_row_lacks():
    check_options(
        _with_options(
            ("", {**USUAL, "added_later": 1}, {}),
            ("", USUAL, {}),
            ("shallow", SHALLOW, {"hops": 0}),
            ("aligned", {**USUAL, "losses": {"infonce": 0.1}}, {"losses": {"infonce": 0.1}}),
            ("more aligned", {**USUAL, "losses": {"infonce": 0.3}}, {"losses": {"infonce": 0.3}}),
        )
    )


@pytest.mark.parametrize(
    ("row", "name"),
    [
        (("", SHALLOW, {}), r"model\.hops"),  # another seed
        (("shallow", SHALLOW | {"ranker": "ease"}, {"hops": 0}), "ranker"),
        (("shallow", SHALLOW | {"model": {"hops": 1, "dim": 64}}, {"hops": 1}), r"hops, model\.hops"),
        (("peer", {}, {"factors": 8}), "factors"),
    ],
)
def test_rows_of_different_options_are_refused(row, name):
    rows = [("", USUAL, {}), ("shallow", SHALLOW, {"hops": 0}), ("peer", {}, {"factors": 64})]
    with pytest.raises(ValueError, match=rf"side by side \({name}\): delete the outdated ones of gnnrec on tiktok"):
        check_options(_with_options(*rows, row))
    check_options(_with_options(*rows, row).replace({"status": "ok"}, "failed"))


def test_options_that_have_changed_since_are_listed() -> None:
    now = to_dict(gr.RecommenderConfig())
    before = {**now, "training": {**now["training"], "patience": 3}}
    rows = [
        {"model": "gnnrec", "config": json.dumps(before), "hyperparameters": json.dumps({"embedding_dim": 64})},
        {"model": "popularity", "config": json.dumps({**before, "ranker": "popularity"}), "hyperparameters": "{}"},
        {"model": "implicit-als", "config": "{}", "hyperparameters": "{}"},
    ]
    assert outdated_options(pd.DataFrame(rows)) == {"gnnrec": {"training.patience": (3, now["training"]["patience"])}}
