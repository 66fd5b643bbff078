"""Damaged media in the harness: who loses what, validation pairs only, rows made once, and the page of the rows."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import gnnrec as gr
import robustness
from gnnrec.cold_start_report import evaluate_cold_start
from harness import pictures, run
from harness import robustness as measuring
from harness.models import model_of
from harness.plan import COLD_START as BENCHMARKS
from harness.robustness import Damage, damaged
from harness.rows import ROBUSTNESS, Fit, read_row, read_rows, read_test_readings, write_row

NUM_ITEMS = 60
SMALL = {"epochs": 2, "embedding_dim": 8}


@pytest.fixture(scope="module")
def media() -> gr.Dataset:
    """Four hundred items with looks, some of them two, and half of them with sounds."""
    rng = np.random.default_rng(0)
    ids = np.arange(400)
    log = pd.DataFrame({"user_id": ids % 20, "item_id": ids})
    looks = gr.Vectors(rng.normal([5, -2, 0], [1, 3, 0.1], (500, 3)).astype("f4"), np.append(ids, ids[:100]))
    sounds = gr.Vectors(rng.normal(size=(200, 2)).astype("f4"), ids[:200])
    return measuring.with_vectors(gr.Dataset.from_frames(log, modalities={"look": looks, "sound": sounds}))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that passes for TikTok's: two tastes, which pictures and sounds show; items from 48 on are new."""
    root = tmp_path_factory.mktemp("data")
    (root / "tiktok").mkdir()
    rng = np.random.default_rng(0)
    log = [
        (user, item, 2 if item >= 54 else 1 if item >= 48 else rng.choice(3, p=[0.8, 0.1, 0.1]))
        for user in range(40)
        for item in rng.choice(np.arange(user % 2, NUM_ITEMS, 2), 16, replace=False)
    ]
    log = pd.DataFrame(log, columns=["userID", "itemID", "x_label"])
    log.to_csv(root / "tiktok" / "tiktok.inter", sep="\t", index=False)
    taste = np.eye(2)[np.arange(NUM_ITEMS) % 2]
    for name in ("image", "audio"):
        np.save(root / "tiktok" / f"{name}_feat.npy", taste + rng.normal(0, 0.1, taste.shape))
    return root


@pytest.fixture
def tiktok(root, monkeypatch) -> gr.Dataset:
    monkeypatch.setenv("GNNREC_DATA_DIR", str(root))
    return gr.datasets.load("tiktok")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_stated_share_of_owners_loses_all_its_rows(media, share):
    before, after = (data.modalities["look"] for data in (media, damaged(media, Damage("look", "missing", share), 0)))
    lost = np.setdiff1d(before.ids, after.ids)
    assert len(lost) == round(share * 400)
    kept = ~np.isin(before.ids, lost)
    np.testing.assert_array_equal(after.ids, before.ids[kept])  # nobody keeps one of two rows
    np.testing.assert_array_equal(after.matrix, before.matrix[kept])


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_noise_takes_the_place_of_the_drawn_rows_and_keeps_mean_and_deviation(media, share):
    before, after = (data.modalities["look"] for data in (media, damaged(media, Damage("look", "noise", share), 0)))
    changed = (before.matrix != after.matrix).any(axis=1)
    assert len(np.unique(before.ids[changed])) == round(share * 400)
    np.testing.assert_array_equal(changed, np.isin(before.ids, before.ids[changed]))
    noise, given = after.matrix[changed], before.matrix
    np.testing.assert_allclose(noise.mean(axis=0), given.mean(axis=0), atol=4 * given.std(axis=0).max() / 200**0.5)
    np.testing.assert_allclose(noise.std(axis=0), given.std(axis=0), rtol=0.2)
    assert abs(np.corrcoef(noise[:, 0], given[changed, 0])[0, 1]) < 0.2
    assert after.matrix.dtype == np.float32


@pytest.mark.parametrize("kind", ["missing", "noise"])
def test_all_else_stays_larger_shares_contain_smaller_ones_and_seeds_draw_others(media, kind):
    def hit(share: float, seed: int) -> set:
        after = damaged(media, Damage("look", kind, share), seed)
        assert after.modalities["sound"] is media.modalities["sound"]
        assert after.events is media.events
        look = media.modalities["look"]
        rows = {(owner, *row) for owner, row in zip(look.ids, look.matrix.tolist(), strict=True)}
        still = after.modalities["look"]
        return {owner for owner, *_ in rows - {(o, *r) for o, r in zip(still.ids, still.matrix.tolist(), strict=True)}}

    assert hit(0.3, 0) < hit(0.5, 0)
    assert hit(0.3, 0) == hit(0.3, 0) != hit(0.3, 1)


def test_the_ends_are_nothing_done_and_the_modality_gone(media):
    assert damaged(media, Damage(), 0) is media
    assert list(damaged(media, Damage("look", "missing", 1), 0).modalities) == ["sound"]
    assert list(damaged(media, Damage("look", "noise", 1), 0).modalities) == ["sound", "look"]


@pytest.mark.parametrize("seed", [0, 1])
def test_the_damage_does_not_choose_the_items_that_the_split_calls_new(media, seed):
    data = damaged(media, Damage("look", "missing", 0.5), seed)
    train, valid, _ = data.split(gr.split.cold_items(valid=0.2, test=0.3, seed=seed))
    new = np.setdiff1d(valid.items.ids, train.items.ids)
    assert 0.3 < np.isin(new, data.modalities["look"].ids).mean() < 0.7
    assert 0.3 < np.isin(train.items.ids, data.modalities["look"].ids).mean() < 0.7


def test_new_items_are_damaged_like_known_ones(tiktok):
    data = damaged(measuring.with_vectors(tiktok), Damage("image", "missing", 0.5), 0)
    train, valid, _ = data.split(gr.split.column("x_label", cold="item"))
    new = np.setdiff1d(valid.items.ids, train.items.ids)
    assert 0 < np.isin(new, valid.modalities["image"].ids).sum() < len(new)
    assert np.isin(new, valid.modalities["audio"].ids).all()
    assert set(valid.modalities["image"].ids) & set(train.items.ids) == set(train.modalities["image"].ids)


@pytest.mark.parametrize("split", ["shared", "strict"])
def test_a_row_holds_what_the_report_gives_on_validation_pairs(tiktok, split, tmp_path, monkeypatch):
    if split == "strict":
        strict = replace(BENCHMARKS["tiktok"], splitter=gr.split.column("x_label", cold="item"))
        monkeypatch.setitem(BENCHMARKS, "tiktok", strict)
    monkeypatch.setattr(measuring, "model_of", lambda name: replace(model_of(name), grid=(SMALL,)))
    fit = Fit("tiktok", "gnnrec", 0, "image noise 0.5")
    options = {"modality": "image", "kind": "noise", "share": 0.5}
    measuring.measure(tmp_path, fit, options, "cpu")
    row = read_rows(tmp_path, ROBUSTNESS).iloc[0]
    assert row["status"] == "ok", row["reason"]
    assert json.loads(row["options"]) == options

    data = damaged(measuring.with_vectors(tiktok), Damage(**options), 0)
    train, valid, _ = data.split(BENCHMARKS["tiktok"].splitter)
    warm = []
    if split == "strict":  # the first tenth is the warm test part of the cold-start benchmark
        train, *warm = gr.split.holdout(gr.split.holdout(train, 0.1, seed=0)[0], 0.1, seed=0)
    reference = gr.Recommender(**SMALL).fit(train, valid, progress=False)
    report = evaluate_cold_start(reference.state, valid, *warm, mask="train")
    for view, evaluation in report.evaluations.items():
        assert evaluation.num_users > 0
        assert row[f"valid recall@20, {view}"] == pytest.approx(evaluation.values["recall@20"])
        np.testing.assert_allclose(row[f"valid recall@20, {view}, per user"], evaluation.per_user["recall@20"], 1e-6)
    assert row["valid recall@20"] == row["valid recall@20, cold among cold"]
    assert read_test_readings(tmp_path).empty


def test_fits_that_have_a_row_are_skipped_and_undamaged_media_are_fitted_once(tiktok, tmp_path, monkeypatch):
    fitted = []

    def instead(limit, function, results, fit, options, device):
        fitted.append(options)
        write_row(results, fit, {"status": "ok", "deterministic": False, "options": json.dumps(options)}, ROBUSTNESS)
        return ""

    monkeypatch.setattr(run, "in_own_process", instead)
    command = ["--dataset", "tiktok", "--results", str(tmp_path)]
    robustness.main([*command, "--modality", "audio", "--kinds", "missing", "--shares", "0", "0.5"])
    assert fitted == [{}, {"modality": "audio", "kind": "missing", "share": 0.5}]
    robustness.main(command)
    assert len(fitted) == 1 + 2 * 2 * 6  # the one without damage; modalities × kinds × shares
    robustness.main(command)
    assert len(fitted) == 25
    row = read_row(tmp_path, Fit("tiktok", "gnnrec", 0, "image noise 1"), ROBUSTNESS)
    assert json.loads(row["options"])["share"] == 1
    with pytest.raises(SystemExit, match="no modality sound; it has audio, image"):
        robustness.main([*command, "--modality", "sound"])


def test_the_page_holds_the_changes_of_the_rows(tmp_path):
    def given(name: str, seed: int, warm: float, cold: float, **more) -> None:
        modality, _, rest = name.partition(" ")
        kind, _, share = rest.partition(" ")
        options = {"modality": modality, "kind": kind, "share": float(share)} if name else {}
        columns = {"valid recall@20, warm": warm, "valid recall@20, cold among cold": cold}
        columns |= {f"{column}, per user": [value] * 30 for column, value in columns.items()}
        columns |= {"status": "ok", "options": json.dumps(options), "config": '{"hops": 2}', "hyperparameters": "{}"}
        columns |= {"machine": "Abacus", "cores": 2, "threads": 1, "device": "cpu", "versions": '{"torch": "9.9"}'}
        write_row(tmp_path, Fit("tiktok", "gnnrec", seed, name), columns | more, ROBUSTNESS)

    given("", 0, 0.2, 0.4)
    given("", 1, 0.4, 0.2)
    given("image missing 0.5", 0, 0.19, 0.3)  # -5 % and -25 %
    given("image missing 0.5", 1, 0.4, 0.19)  # 0 % and -5 %
    given("image missing 1", 0, 0.18, 0.2)
    given("image noise 1", 0, 0.17, 0.25)
    given("image noise 1", 1, 0.9, 0.9)  # nothing to compare it with
    failed = {"status": "failed", "reason": "it | broke"}
    write_row(tmp_path, Fit("tiktok", "gnnrec", 0, "audio noise 1"), failed, ROBUSTNESS)
    robustness.main(["--draw", "--results", str(tmp_path), "--docs", str(tmp_path)])
    page = (tmp_path / "robustness.md").read_text(encoding="utf-8")
    lines = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    assert "Recall@20 of the undamaged fit (2 seeds): warm .3000, cold .3000." in page
    changes = {tuple(line[:3]): line[3:] for line in lines}
    assert changes["image", "missing", "warm"] == ["", "", "-2.5 %", "", "", "-10.0 %"]
    assert changes["image", "missing", "cold"] == ["", "", "-15.0 %", "", "", "-50.0 %"]
    assert changes["image", "noise", "warm"][-1] == "+55.0 %"
    against = ["-.0100 [-.0100, -.0100], p < .001", "+.0500 [+.0500, +.0500], p < .001"]
    assert ["image", "1", *against] in lines
    assert ["`gnnrec` audio noise 1", "0", "it \\| broke"] in lines
    assert "Abacus, 2 cores" in page
    assert (tmp_path / "images" / "robustness-tiktok.png").stat().st_size > 10_000
    assert "Measured before an option" not in page
    given("image missing 0.1", 0, 0.2, 0.4, config='{"hops": 9}')
    with pytest.raises(ValueError, match="delete the outdated ones of gnnrec on tiktok"):
        robustness.main(["--draw", "--results", str(tmp_path), "--docs", str(tmp_path)])


def test_the_page_says_what_the_default_was_when_it_was_measured(tmp_path):
    then = json.dumps({"training": {"patience": 3}})
    columns = {"valid recall@20, warm": 0.2, "valid recall@20, cold among cold": 0.1, "status": "ok", "options": "{}"}
    columns |= {"config": then, "hyperparameters": "{}", "machine": "Abacus", "cores": 2, "threads": 1, "device": "cpu"}
    write_row(tmp_path, Fit("tiktok", "gnnrec", 0), columns | {"versions": "{}"}, ROBUSTNESS)
    robustness.main(["--draw", "--results", str(tmp_path), "--docs", str(tmp_path)])
    page = (tmp_path / "robustness.md").read_text(encoding="utf-8")
    now = gr.RecommenderConfig().training.patience
    assert f"Measured before an option of theirs was changed: `gnnrec` (training.patience 3, now {now})." in page


def test_a_damage_of_few_seeds_is_drawn_as_its_change(tmp_path, monkeypatch):
    rows = pd.DataFrame(
        [(0, None, None, 0.0, 0.2), (1, None, None, 0.0, 0.4), (0, "look", "missing", 0.5, 0.18)],
        columns=["seed", "modality", "kind", "share", "found"],
    )
    figures = []
    monkeypatch.setattr(pictures, "save_figure", lambda figure, path: figures.append(figure))
    pictures.draw_robustness(rows, {"warm": "found"}, "Shop", tmp_path / "picture.png")
    missing = next(line for line in figures[0].axes[0].get_lines() if line.get_label() == "missing")
    assert missing.get_xdata().tolist() == [0, 0.5]
    assert missing.get_ydata().tolist() == pytest.approx([0.3, 0.27])  # 10 % less, as that seed lost, not 40 % less
