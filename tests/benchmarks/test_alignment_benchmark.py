"""The alignment benchmark: splits, planted pairs that are found, results made once, the page."""

import json
from dataclasses import replace

import numpy as np
import pytest

import alignment as script
import gnnrec as gr
from gnnrec.nn.alignment import OBJECTIVES
from gnnrec.retrieval.aligned_space import AlignmentConfig
from harness import alignment
from harness.alignment import Media, aligned_vectors, measure
from harness.alignment_plan import BENCHMARKS, CLOSED_FORM, DEFAULT, NONE, Space

NUM_ITEMS = 150


@pytest.fixture
def planted(monkeypatch) -> Media:
    """Movies and stamps whose modalities are linear views of one truth; a tenth lack the second one."""
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((NUM_ITEMS, 6))
    ids = np.arange(NUM_ITEMS)

    def read(names: tuple[str, ...]) -> gr.Dataset:
        specs = {}
        for number, name in enumerate(names):
            view = truth @ rng.standard_normal((6, 12 + number)) + 0.1 * rng.standard_normal((NUM_ITEMS, 12 + number))
            kept = ids if number != 1 else ids[ids % 10 > 0]
            specs[name] = gr.Vectors(view[kept], kept)
        return gr.Dataset.from_frames(None, modalities=specs)

    small = {"dim": 8, "batch_size": 32}
    spaces = (
        Space(NONE, None),
        Space(CLOSED_FORM, AlignmentConfig(epochs=0, **small)),
        Space(DEFAULT, AlignmentConfig(epochs=1, **small)),
    )
    for name, benchmark in BENCHMARKS.items():
        names = benchmark.modalities[:3]
        pairs = tuple(pair for pair in benchmark.directions if set(pair) <= set(names))
        changed = replace(benchmark, modalities=names, directions=pairs, spaces=spaces, labels=lambda data: {})
        monkeypatch.setitem(BENCHMARKS, name, replace(changed, read=lambda names=names: read(names)))
    return Media.encode(BENCHMARKS["ml-100k-multimodal"])


@pytest.mark.parametrize("name", BENCHMARKS)
def test_no_held_out_item_is_learned_from(name):
    fit, valid, train, test = BENCHMARKS[name].split(1000, 3)
    assert set(fit) <= set(train)
    assert not set(fit) & set(valid)
    assert not set(train) & set(test)
    sizes = {"ml-100k-multimodal": [600, 200, 600, 200], "stamps": [560, 140, 700, 300]}
    assert [len(part) for part in (fit, valid, train, test)] == sizes[name]
    order = np.random.default_rng(3).permutation(1000)
    np.testing.assert_array_equal(test, order[-len(test) :])


def test_planted_pairs_are_found_after_alignment_only(planted):
    without, found = (measure(planted, space, [0, 1]) for space in BENCHMARKS["ml-100k-multimodal"].spaces[:2])
    assert (without["seeds"], found["seeds"]) == (2, 1)  # the closed form has no seed
    forth, back = found["directions"]["plot → poster"], found["directions"]["poster → plot"]
    *_, test = planted.parts(seed=0)
    with_poster = int((test % 10 > 0).sum())
    assert (forth["queries"], forth["candidates"]) == (with_poster, with_poster)
    assert (back["queries"], back["candidates"]) == (with_poster, len(test))
    assert forth["chance"] == pytest.approx(10 / with_poster)
    assert np.mean(forth["recall"]) == np.mean(back["recall"]) == 1
    assert forth["above no alignment"]["low"] > 0.2
    assert forth["cosine"] > 0.8 > 0.3 > abs(forth["cosine_before"])
    unaligned = without["directions"]["plot → poster"]
    assert unaligned["above no alignment"]["difference"] == 0
    assert np.mean(unaligned["recall"]) < 0.7


def test_a_split_of_each_seed_asks_for_more_items(planted):
    benchmark, space = BENCHMARKS["stamps"], BENCHMARKS["stamps"].spaces[1]
    media = Media.encode(benchmark)
    first, second = media.parts(seed=0)[-1], media.parts(seed=1)[-1]
    assert set(first) != set(second)
    found = measure(media, space, [0, 1])
    assert found["seeds"] == 2  # another split gives the closed form something else to learn from
    one = found["directions"]["picture → name_en"]
    sounding = {item for item in (*first, *second) if item % 10 > 0}  # the second modality is the one that some lack
    assert one["queries"] == len(sounding) > max(len(first), len(second))
    chances = [10 / sum(item % 10 > 0 for item in part) for part in (first, second)]
    assert one["chance"] == pytest.approx(np.mean(chances))
    assert one["above chance"]["difference"] == pytest.approx(1 - one["chance"], abs=0.02)


def test_the_mean_of_an_item_is_over_the_seeds_that_held_it_out():
    items, values = [np.array([7, 3]), np.array([5, 7])], [np.array([1.0, 0.0]), np.array([1.0, 0.5])]
    assert alignment._mean_by_item(items, values).tolist() == [0.0, 1.0, 0.75]  # of items 3, 5 and 7


def test_the_vectors_of_test_items_are_not_learned_from(planted):
    _, _, train, test = planted.parts(seed=0)
    space = BENCHMARKS["ml-100k-multimodal"].spaces[2]
    vectors = aligned_vectors(planted, space, train, seed=0)
    features = dict(planted.features)
    values = features["plot"].values.copy()
    values[test] = 7.0
    features["plot"] = replace(features["plot"], values=values)
    changed = aligned_vectors(replace(planted, features=features), space, train, seed=0)
    np.testing.assert_array_equal(changed["plot"][train], vectors["plot"][train])
    assert not np.allclose(changed["plot"][test], vectors["plot"][test])
    assert np.isnan(vectors["poster"][::10]).all()


def test_results_that_exist_are_not_measured_again_and_make_the_page(planted, tmp_path, monkeypatch):
    command = ["--results", str(tmp_path), "--docs", str(tmp_path), "--seeds", "0", "1"]
    script.main(command)
    readings = [
        json.loads(line) for line in (tmp_path / "test-readings.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert {line["for"] for line in readings} == {"alignment"}
    assert [line["seed"] for line in readings] == [0, 1] * 6
    page = (tmp_path / "benchmarks-alignment.md").read_text(encoding="utf-8")

    monkeypatch.setattr(script, "measure", None)  # not called again
    script.main(command)
    script.main([*command[:4], "--draw"])
    assert (tmp_path / "benchmarks-alignment.md").read_text(encoding="utf-8") == page
    entries = json.loads((tmp_path / "alignment" / "stamps.json").read_text(encoding="utf-8"))
    assert list(entries) == [NONE, CLOSED_FORM, DEFAULT]
    one = entries[CLOSED_FORM]["directions"]["described_en → picture"]
    lines = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    times = f"{one['recall'][0] / one['chance']:.1f}"
    assert any(line[0] == "described_en → picture" and times in line for line in lines)
    names = ["alignment", "alignment-map"]
    pictures = [f"images/{names[0]}-{name}.png" for name in BENCHMARKS]
    pictures += [f"images/{names[1]}-{name}-{when}.png" for name in BENCHMARKS for when in ("before", "after")]
    pictures.append("images/alignment-stamps-directions.png")
    for picture in pictures:
        assert f"({picture})" in page
        assert (tmp_path / picture).stat().st_size > 5_000


def test_weak_pairs_are_named():
    at_chance = {"recall": [0.1], "chance": 0.1, "queries": 9, "above chance": {"low": -0.1}}
    low = {"recall": [0.2], "chance": 0.1, "queries": 70, "above chance": {"low": 0.05}}
    good = {"recall": [0.6], "chance": 0.1, "queries": 70, "above chance": {"low": 0.4}}
    text = script._weak({"directions": {"sound → picture": at_chance, "voice → name": low, "name → picture": good}})
    assert "2 of 3 directions are above chance." in text
    assert "chance (queries in brackets): sound → picture (9)." in text
    assert "below five times chance: voice → name (70)." in text


def test_every_objective_is_measured_from_both_starts():
    spaces = {space.name: space.config for space in BENCHMARKS["ml-100k-multimodal"].spaces}
    for name in OBJECTIVES:
        assert dict(spaces[name].objectives) == {name: 1.0}
        assert spaces[f"{name}, random start"].start == "random"
