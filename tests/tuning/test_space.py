"""Where options are searched: the declared ranges, and those that are given."""

from dataclasses import fields, is_dataclass
from typing import Any

import pytest
import torch

import gnnrec as gr
from gnnrec.config import Choices, Range, searched
from gnnrec.errors import ConfigError
from gnnrec.graph.build import build_graph
from gnnrec.presets import PRESETS, preset
from gnnrec.rankers import NeuralRanker, RankingTask
from gnnrec.rankers.neural_config import NeuralConfig
from gnnrec.testing import PlantedGraph, planted_graph
from gnnrec.tuning.space import at_point, resolve_space, search_space

GROUPS = [
    field.name for field in fields(gr.RecommenderConfig) if is_dataclass(getattr(gr.RecommenderConfig(), field.name))
]


@pytest.fixture(scope="module")
def planted() -> PlantedGraph:
    return planted_graph()


@pytest.mark.parametrize("group", GROUPS)
def test_every_default_lies_in_the_range_beside_it(group: str) -> None:
    options = getattr(gr.RecommenderConfig(), group)
    for field in fields(options):
        space, default = field.metadata.get("search"), getattr(options, field.name)
        if isinstance(space, Choices):
            assert default in space.values, field.name
        elif space is not None and not isinstance(default, dict):
            assert space.low <= default <= space.high, field.name
            assert isinstance(default, int | float), field.name


@pytest.mark.parametrize("name", PRESETS)
def test_both_ends_of_every_range_are_possible_values(name: str) -> None:
    config = preset(name)
    for option, where in search_space(config).items():
        for value in where.values if isinstance(where, Choices) else (where.low, where.high):
            at_point(config, {option: value})


@pytest.mark.parametrize("name", sorted(set(PRESETS) - {"popularity"}))
def test_every_preset_starts_inside_its_space(name: str) -> None:
    config = preset(name)
    space, start = resolve_space(config)
    assert set(start) == set(space)
    assert at_point(config, start) == config


def test_what_a_preset_switches_off_stays_off() -> None:
    space = search_space(preset("mf-bpr"))
    assert not {"hops", "similar_items", "co_occurring_items"} & set(space)
    assert "learning_rate" in space
    assert "edge_dropout" not in space  # without propagation there is nothing to leave out
    assert "edge_dropout" in search_space(preset("lightgcn"))  # 0 is a value of its range


@pytest.mark.parametrize("name", [name for name, config in PRESETS.items() if config.ranker == "neural"])
def test_every_searched_option_changes_the_model(name: str, planted: PlantedGraph) -> None:
    def vectors(point: dict[str, Any]) -> torch.Tensor:
        config = at_point(preset(name).with_options({"epochs": 2, "embedding_dim": 8}), point)
        graph = build_graph(planted.train, planted.features, config=config.graph)
        options = NeuralConfig(config.model, config.training, config.graph.similar_items, config.graph.item_graph)
        return NeuralRanker.fit(RankingTask(graph, planted.train), options)[0].vectors("item")

    as_it_comes = vectors({})
    for option, where in search_space(preset(name)).items():
        at_ends = where.values if isinstance(where, Choices) else (where.low, where.high)
        assert any(not torch.equal(vectors({option: value}), as_it_comes) for value in at_ends), option


def test_what_concerns_media_is_left_out_without_media() -> None:
    media = {"content_scale", "feature_dropout"}
    assert media <= set(search_space(gr.RecommenderConfig()))
    assert not media & set(search_space(gr.RecommenderConfig().with_options({"content": "none"})))


def test_the_weights_of_auxiliary_losses_are_searched() -> None:
    config = preset("lightgcn")
    assert search_space(config)["auxiliary.regularisation"] == Range(1e-6, 1.0, log=True)
    both = config.with_options({"auxiliary": {"regularisation": 1e-3, "alignment": 0.1}})
    assert at_point(both, {"auxiliary.alignment": 0.2}).training.auxiliary == {"regularisation": 1e-3, "alignment": 0.2}
    assert not [name for name in search_space(gr.RecommenderConfig()) if name.startswith("auxiliary")]


def test_each_ranker_has_its_own_options() -> None:
    assert list(search_space(preset("item-knn"))) == ["neighbours", "shrinkage"]
    with pytest.raises(ConfigError, match="nothing to search: the ranker 'popularity'"):
        resolve_space(preset("popularity"))


def test_a_declared_range_is_widened_to_hold_the_start() -> None:
    config = gr.RecommenderConfig().with_options({"learning_rate": 1e-5, "hops": 6})
    space, start = resolve_space(config)
    assert space["learning_rate"].low == 1e-5
    assert space["hops"] == Range(1, 6)
    assert start["hops"] == 6


def test_given_ranges_are_kept_and_alone() -> None:
    given = {"temperature": (0.3, 0.5), "hops": [1, 3], "batch_size": (128, 512), "edge_dropout": None}
    space, start = resolve_space(gr.RecommenderConfig(), given)
    assert space == {
        "temperature": Range(0.3, 0.5, log=True),  # declared as logarithmic
        "hops": Choices((1, 3)),
        "batch_size": Range(128, 512),
        "edge_dropout": Range(0.0, 0.9),
    }
    assert start == {
        "temperature": 0.3,
        "hops": 1,
        "batch_size": 128,  # which follows from the data by default
        "edge_dropout": 0.5,
    }  # the nearest to the default


def test_names_mean_declared_ranges() -> None:
    assert resolve_space(gr.RecommenderConfig(), ["hops"]) == ({"hops": Range(1, 4)}, {"hops": 2})
    assert resolve_space(preset("mf-bpr"), ["hops"]) == ({"hops": Range(1, 4)}, {"hops": 1})


def test_the_search_starts_at_the_nearest_choice() -> None:
    given = {"hops": [4, 3], "loss": ["softmax", "bpr"]}  # the defaults are 2 and "auto"
    assert resolve_space(gr.RecommenderConfig(), given)[1] == {"hops": 3, "loss": "softmax"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"temperture": (0.1, 0.2)}, "'temperture' is no option of the ranker 'neural'; did you mean 'temperature'?"),
        ({"neighbours": (5, 10)}, "'neighbours' is no option of the ranker 'neural'"),
        ({"temperature": (0.5, 0.1)}, "not from 0.5 to 0.1"),
        ({"temperature": (-1.0, 0.1)}, "'temperature' must be positive"),
        ({"hops": (1.5, 3)}, "'model.hops' cannot be 1.5"),
        ({"loss": ["bpr", "brp"]}, "'training.loss' cannot be 'brp'"),
        ({"loss": None}, "'loss' declares no range"),
        ({"loss": ("bpr", "softmax")}, "takes \\(low, high\\)"),
        ({"temperature": ("a", 2)}, "takes \\(low, high\\)"),
        ({"hops": 3}, "takes \\(low, high\\)"),
        ({"hops": []}, "choices are"),
        ([], "nothing to search"),
    ],
)
def test_what_is_wrong_with_a_space(given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_space(gr.RecommenderConfig(), given)


def test_a_mapping_as_default_is_not_shared() -> None:
    first, second = gr.RecommenderConfig().training, gr.RecommenderConfig().with_options({"epochs": 3}).training
    assert first.auxiliary is not second.auxiliary
    with pytest.raises(ConfigError, match="positive number"):
        searched(1.0, Range(0, 1, log=True))
