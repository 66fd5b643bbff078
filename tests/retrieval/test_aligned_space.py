"""One space for all modalities: what it finds, what it refuses, and that it comes back as it was."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gnnrec.config import from_dict, to_dict
from gnnrec.errors import ConfigError, DataError
from gnnrec.modalities.features import Features
from gnnrec.nn.alignment import OBJECTIVES
from gnnrec.retrieval.aligned_space import AlignedSpace, AlignmentConfig
from gnnrec.retrieval.common_directions import correlated_projections

WIDTHS = {"plot": 20, "poster": 30, "sound": 12}
SHORT = AlignmentConfig(dim=8, epochs=3, batch_size=64)


def shop(num_items: int = 300, noise: float = 0.3, seed: int = 0) -> dict[str, Features]:
    """Returns three modalities that are different linear maps of one hidden vector of 6 entries, and noise."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(num_items, 6))
    owner_index = np.arange(num_items)
    return {
        name: Features(
            name,
            "item",
            (hidden @ rng.normal(size=(6, width)) + noise * rng.normal(size=(num_items, width))).astype(np.float32),
            owner_index,
        )
        for name, width in WIDTHS.items()
    }


def recall_at_1(space: AlignedSpace, features: dict[str, Features], items: NDArray[Any]) -> list[float]:
    """Returns the recall of each ordered pair of modalities among some items that have all."""
    z = {name: space.project(name, part.values[items]) for name, part in features.items()}
    truth = torch.arange(len(items))
    return [
        ((z[source] @ z[target].T).argmax(dim=1) == truth).float().mean().item()
        for source in z
        for target in z
        if source != target
    ]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_modalities_find_each_other_on_held_out_items(name: str) -> None:
    features = shop()
    items, held_out = np.arange(240), np.arange(240, 300)
    labels = {"kind": np.arange(300) % 3}
    config = replace(SHORT, objectives={name: 1.0}, start="random", epochs=0)
    before = AlignedSpace.fit(features, config, owners=items, labels=labels)
    assert max(recall_at_1(before, features, held_out)) < 0.15
    space = AlignedSpace.fit(features, replace(config, start="correlation", epochs=5), owners=items, labels=labels)
    assert min(recall_at_1(space, features, held_out)) > 0.8


@pytest.mark.parametrize(
    "name",
    ["distance", "infonce", "concatenation", "cross-attention", "generative", "optimal-transport", "co-training"],
)
def test_objectives_that_know_pairs_align_from_a_random_start(name: str) -> None:
    features = shop()
    config = AlignmentConfig(
        {name: 1.0}, dim=8, epochs=40, learning_rate=0.01, batch_size=120, dropout=0, start="random"
    )
    space = AlignedSpace.fit(features, config, owners=np.arange(240))
    assert np.mean(recall_at_1(space, features, np.arange(240, 300))) > (0.3 if name == "generative" else 0.6)


def test_what_all_vectors_of_a_modality_share_has_no_part_in_the_space() -> None:
    features = {name: replace(part, values=part.values + 2) for name, part in shop().items()}
    space = AlignedSpace.fit(features, replace(SHORT, epochs=0))
    for name, part in features.items():
        assert space.project(name, part.values).mean(dim=0).norm() < 0.1  # directions go every way


def test_an_absent_modality_lies_at_the_centre_where_correlations_are_sought(monkeypatch: pytest.MonkeyPatch) -> None:
    features, seen = shop(), []

    def watched(coordinates: list[torch.Tensor], dim: int) -> list[torch.Tensor]:
        seen.extend(coordinates)
        return correlated_projections(coordinates, dim)

    monkeypatch.setattr("gnnrec.retrieval.aligned_space.correlated_projections", watched)
    sound = features["sound"]
    features["sound"] = replace(sound, values=sound.values[100:] + 5, owner_index=sound.owner_index[100:])
    AlignedSpace.fit(features, replace(SHORT, epochs=0))
    assert [bool(y[:100].any()) for y in seen] == [True, True, False]
    assert all(y[100:].any(dim=1).all() for y in seen)


def test_vectors_have_unit_length_and_count_by_direction() -> None:
    features = shop()
    space = AlignedSpace.fit(features, SHORT)
    values = features["plot"].values[:5]
    z = space.project("plot", values)
    assert z.shape == (5, space.dim)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(space.project("plot", torch.from_numpy(7 * values)), z)
    assert space.modalities == ("plot", "poster", "sound")


def test_equal_seeds_give_equal_spaces_and_leave_the_global_randomness_alone() -> None:
    features = shop()
    config = replace(SHORT, objectives={"infonce": 1, "concatenation": 0.5}, start="random")
    torch.manual_seed(5)
    first = AlignedSpace.fit(features, config, seed=1)
    drawn = torch.rand(3)
    torch.manual_seed(6)
    second, third = AlignedSpace.fit(features, config, seed=1), AlignedSpace.fit(features, config, seed=2)
    for name, tensor in first.tensors().items():
        assert torch.equal(tensor, second.tensors()[name])
    assert not torch.equal(
        first.tensors()["alignment.projections.0.0.weight"], third.tensors()["alignment.projections.0.0.weight"]
    )
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_restored_space_projects_to_the_same_bits(name: str) -> None:
    features = shop(60)
    config = replace(SHORT, objectives={name: 1.0, "infonce": 0.5})
    space = AlignedSpace.fit(features, config, labels={"kind": np.arange(60) % 3})
    again = AlignedSpace.restore(space.tensors(), json.loads(json.dumps(space.facts())))
    assert again.config == space.config
    assert again.modalities == space.modalities
    for modality, part in features.items():
        assert torch.equal(again.project(modality, part.values), space.project(modality, part.values))


def test_held_out_owners_teach_nothing() -> None:
    features = shop()
    items = np.arange(200)
    changed = {
        name: replace(part, values=np.where(np.arange(300)[:, None] < 200, part.values, -5 * part.values[::-1]))
        for name, part in features.items()
    }
    first, second = AlignedSpace.fit(features, SHORT, owners=items), AlignedSpace.fit(changed, SHORT, owners=items)
    assert all(torch.equal(tensor, second.tensors()[name]) for name, tensor in first.tensors().items())


def test_several_rows_of_an_owner_enter_with_their_mean_direction() -> None:
    features = shop(80)
    poster = features["poster"]
    unit = poster.values / np.linalg.norm(poster.values, axis=1, keepdims=True)
    off = 0.2 * np.random.default_rng(1).normal(size=unit.shape).astype(np.float32)
    off -= (off * unit).sum(axis=1, keepdims=True) * unit
    # Two rows, mirrored about the vector: their mean has its direction.
    rows = np.stack([3 * (unit + off), 3 * (unit - off)], axis=1).reshape(160, -1)
    twice = Features("poster", "item", rows, np.repeat(np.arange(80), 2))
    one, two = AlignedSpace.fit(features, SHORT), AlignedSpace.fit({**features, "poster": twice}, SHORT)
    cosine = (one.project("poster", poster.values) * two.project("poster", poster.values)).sum(dim=1)
    assert cosine.min() > 0.999


def test_owners_with_one_modality_do_not_break_it_and_are_left_out() -> None:
    features = shop(120)
    extra = replace(
        features["plot"],
        values=np.concatenate([features["plot"].values, np.full((30, 20), 9, dtype=np.float32)]),
        owner_index=np.arange(150),
    )
    first = AlignedSpace.fit(features, SHORT)
    second = AlignedSpace.fit({**features, "plot": extra}, SHORT)
    assert all(torch.equal(tensor, second.tensors()[name]) for name, tensor in first.tensors().items())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_nobody_with_two_modalities(name: str, caplog: pytest.LogCaptureFixture) -> None:
    features = shop(60)
    apart = {
        "plot": replace(features["plot"], values=features["plot"].values[:30], owner_index=np.arange(30)),
        "poster": replace(features["poster"], values=features["poster"].values[30:], owner_index=np.arange(30, 60)),
    }
    config = replace(SHORT, objectives={name: 1.0})
    space = AlignedSpace.fit(apart, config, labels={"kind": np.arange(60) % 3})
    assert all(space.project(modality, part.values).isfinite().all() for modality, part in apart.items())
    assert "no vectors among the 0 owners to learn from" in caplog.text


@pytest.mark.parametrize("start", ["correlation", "random"])
def test_tiny_and_constant_modalities(start: str) -> None:
    values = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    features = {
        "narrow": Features("narrow", "item", values, np.arange(5)),
        "constant": Features("constant", "item", np.ones((5, 3), dtype=np.float32), np.arange(5)),
    }
    space = AlignedSpace.fit(features, AlignmentConfig(dim=16, start=start))
    assert all(space.project(name, part.values).isfinite().all() for name, part in features.items())


def test_labels_of_every_kind_are_learned_from() -> None:
    features = shop(90)
    rng = np.random.default_rng(0)
    labels = {
        "category": rng.integers(-1, 4, size=90),
        "rating": np.where(rng.random(90) < 0.2, np.nan, rng.normal(3, 1, size=90)),
        "genres": (rng.random((90, 5)) < 0.3).astype(float),
        "seen": rng.random(90) < 0.5,
    }
    config = replace(SHORT, objectives={"infonce": 1.0, "multi-task": 0.5})
    space = AlignedSpace.fit(features, config, labels=labels)
    assert space.tasks == {"category": 4, "rating": 1, "genres": 5, "seen": 1}
    other = AlignedSpace.fit(features, config, labels={**labels, "genres": 1 - labels["genres"]})
    name = "alignment.projections.0.0.weight"
    assert not torch.equal(space.tensors()[name], other.tensors()[name])


def test_a_number_that_all_share_is_known_whatever_it_is() -> None:
    """Its deviation is 0: it is what everybody is predicted to have, and not unknown."""
    features = shop(90)
    config = replace(SHORT, objectives={"infonce": 1.0, "multi-task": 0.5})
    three, seven, unknown = (
        AlignedSpace.fit(features, config, labels={"rating": np.full(90, rating)}).project("plot", np.eye(20))
        for rating in (3.0, 7.0, np.nan)
    )
    assert torch.equal(three, seven)
    assert not torch.equal(three, unknown)


def test_options_come_back_from_plain_values() -> None:
    config = AlignmentConfig({"distance": 2.0}, dim=16, start="random")
    assert from_dict(AlignmentConfig, to_dict(config)) == config


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objectives": {"infonse": 1.0}}, "did you mean 'infonce'"),
        ({"objectives": {"infonce": -1.0}}, "0 or more"),
        ({"objectives": {}}, "weight above 0"),
        ({"dim": 1}, "'dim' must be at least 2"),
        ({"batch_size": 1}, "'batch_size' must be at least 2"),
        ({"directions": 0}, "'directions' must be at least 1"),
        ({"epochs": -1}, "'epochs' must not be negative"),
        ({"ridge": -0.1}, "'ridge' must not be negative"),
        ({"weight_decay": -0.1}, "'weight_decay' must not be negative"),
        ({"learning_rate": 0.0}, "'learning_rate' must be positive"),
        ({"dropout": 1.0}, r"'dropout' must lie in \[0, 1\)"),
        ({"start": "zero"}, "'correlation' or 'random', not 'zero'"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AlignmentConfig(**options)


def test_what_cannot_be_learned_from_is_refused() -> None:
    features = shop(20)
    with pytest.raises(DataError, match="at least one modality"):
        AlignedSpace.fit({})
    empty = Features("sound", "item", np.empty((0, 4), dtype=np.float32), np.empty(0, dtype=np.int64))
    with pytest.raises(DataError, match="'sound' has no vectors"):
        AlignedSpace.fit({**features, "sound": empty})
    with pytest.raises(ConfigError, match="'multi-task' predicts labels"):
        AlignedSpace.fit(features, AlignmentConfig({"multi-task": 1.0}))
    with pytest.raises(DataError, match="labels 'kind' must be"):
        AlignedSpace.fit(features, SHORT, labels={"kind": np.array(["a"] * 20)})
    with pytest.raises(DataError, match="labels 'kind' must be"):
        AlignedSpace.fit(features, SHORT, labels={"kind": np.arange(19)})


def test_what_does_not_fit_the_space_is_refused() -> None:
    space = AlignedSpace.fit(shop(20), SHORT)
    with pytest.raises(DataError, match="no modality 'postr'; did you mean 'poster'"):
        space.project("postr", np.ones((2, 30)))
    with pytest.raises(DataError, match=r"'poster' are \[rows, 30\] in this space, these \(2, 20\)"):
        space.project("poster", np.ones((2, 20)))
    assert space.project("poster", np.empty((0, 30))).shape == (0, 8)
