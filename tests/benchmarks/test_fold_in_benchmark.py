"""The fold-in benchmark: fitted people beside their histories, curves of newcomers, results made once, the page."""

import dataclasses
import json
from dataclasses import replace

import numpy as np
import pytest

import fold_in
import gnnrec as gr
from gnnrec.cold_start_report import few_shot_items, few_shot_people
from harness.plan import BENCHMARKS


@pytest.fixture
def shop(monkeypatch) -> gr.Dataset:
    """A small shop that passes for every data set."""
    shop = gr.synthetic.shop(num_users=60, num_items=40, events_per_user=18, seed=0)
    data = gr.Dataset.from_frames(shop.interactions, modalities={"look": shop.vectors()})
    monkeypatch.setattr(gr.datasets, "load", lambda name: data)
    for name, benchmark in BENCHMARKS.items():
        random = gr.split.random(valid=0.1 * benchmark.has_valid, test=0.1, seed=0)
        monkeypatch.setitem(BENCHMARKS, name, replace(benchmark, splitter=random))
    return data


@pytest.fixture
def small(monkeypatch) -> None:
    """The default model with fewer epochs and dimensions, and curves that so small a shop has events for."""
    recommender = gr.Recommender
    monkeypatch.setattr(gr, "Recommender", lambda **options: recommender(epochs=1, embedding_dim=8, **options))
    monkeypatch.setattr(fold_in, "SHOTS", (0, 2))


@pytest.mark.parametrize("dataset", ["tiktok", "ml-1m"])
def test_fitted_people_are_compared_with_their_histories_alone(shop, small, dataset):
    found = fold_in.fold_in(dataset, 3, "cpu")
    train, valid, _ = shop.split(BENCHMARKS[dataset].splitter)
    if dataset == "ml-1m":  # has no validation part
        assert len(valid.events) == 0
        train, valid = gr.split.holdout(train, fraction=0.1, seed=0)
    rec = gr.Recommender(seed=3).fit(train, valid, progress=False)
    reference = rec.evaluate(valid, fold_in.METRICS, mask="train")
    assert found["users"] == reference.num_users > 20
    assert found["fitted"] == pytest.approx(reference.values)

    histories = train.events
    lists = {user: train.items.ids_of(histories.item_index[histories.user_index == user]) for user in range(60)}
    answers = rec.recommend_for(lists, k=20)
    recall = []
    wanted = valid.interaction_matrix()
    for user in np.flatnonzero(np.diff(wanted.indptr)):
        items = set(train.items.ids_of(wanted[user].indices))
        recall.append(len(items & set(answers.loc[answers["query"] == user, "item_id"])) / len(items))
    assert found["folded in"]["recall@20"] == pytest.approx(np.mean(recall))
    for metric in fold_in.METRICS:
        both = found["folded in"][metric], found["fitted"][metric]
        assert found["ratio"][metric] == pytest.approx(both[0] / both[1])
        assert found["difference"][metric]["difference"] == pytest.approx(both[0] - both[1])
        assert found["difference"][metric]["num_users"] == found["users"]


def test_curves_are_those_of_the_report_on_the_validation_part(shop, small):
    train, strangers, _ = shop.split(gr.split.cold_users(valid=0.1, test=0.2, seed=0))
    state = gr.Recommender(seed=0).fit(train, refit=True, progress=False).state
    reference = few_shot_people(state, strangers, shots=(0, 2))
    (curve,) = fold_in.few_shot("people", "cpu").values()
    assert curve[0].num_users == 6
    for count in (0, 2):
        assert curve[count].values == pytest.approx(reference[count].values)

    train, new, _ = shop.split(gr.split.cold_items(valid=0.1, test=0.2, seed=0))
    state = gr.Recommender(seed=0).fit(train, refit=True, progress=False).state
    curves = fold_in.few_shot("items", "cpu")
    for name, candidates in (("new items among all", "all"), ("new items among new", "cold")):
        reference = few_shot_items(state, new, shots=(0, 2), candidates=candidates)
        assert curves[name][2].values == pytest.approx(reference[2].values)
    # All lists of four new items hold all of them.
    assert curves["new items among new"][0].values["recall@20"] == 1


def test_results_that_exist_are_not_measured_again_and_make_the_page(shop, small, tmp_path, monkeypatch):
    command = ["--results", str(tmp_path), "--docs", str(tmp_path), "--device", "cpu"]
    fold_in.main([*command, "--dataset", "ml-100k-multimodal"])
    stored = json.loads((tmp_path / "fold-in.json").read_text(encoding="utf-8"))
    assert list(stored["fold-in"]) == ["ml-100k-multimodal, seed 0"]
    assert list(stored["few-shot"]) == ["people", "items"]
    measured = []
    difference = dataclasses.asdict(gr.evaluation.paired_bootstrap([0.25, 0.25], [0.5, 0.5]))
    values = {"recall@20": 0.5, "ndcg@20": 0.25}
    made_up = {"users": 1234, "fitted": values, "folded in": {"recall@20": 0.4, "ndcg@20": 0.25}}
    made_up |= {"ratio": {"recall@20": 0.8, "ndcg@20": 1.0}, "difference": {"recall@20": difference}}

    def instead(dataset, seed, device):
        measured.append((dataset, seed))
        return made_up

    monkeypatch.setattr(fold_in, "fold_in", instead)
    monkeypatch.setattr(fold_in, "few_shot", None)  # not called again
    fold_in.main([*command, "--dataset", "ml-100k-multimodal", "tiktok", "--seeds", "0", "1"])
    assert measured == [("ml-100k-multimodal", 1), ("tiktok", 0), ("tiktok", 1)]

    page = (tmp_path / "fold-in.md").read_text(encoding="utf-8")
    lines = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    figures = ["1,234", ".5000", ".4000", "0.800", ".2500", ".2500", "1.000", "-.2500 [-.2500, -.2500], p < .001"]
    assert ["[tiktok](../datasets/tiktok.md)", "1", *figures] in lines
    point = stored["few-shot"]["people"]["curves"]["new people"]["2"]
    line = next(line for line in lines if line[:3] == ["new people", "6", "recall@20"])
    assert line[-1] == f"{point['recall@20']['value']:.4f} ± {point['recall@20']['standard_error']:.4f}".replace(
        "0.", "."
    )
    assert "|  | people | events known | 0 | 2 |" in page
    for newcomers in ("people", "items"):
        picture = f"images/few-shot-{newcomers}.png"
        assert f"({picture})" in page
        assert (tmp_path / picture).stat().st_size > 5_000
