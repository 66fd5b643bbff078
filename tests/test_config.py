import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnnrec.config import from_dict, read_config, suggest, to_dict, write_config
from gnnrec.errors import ConfigError, StorageError
from gnnrec.presets import PRESETS, RecommenderConfig, preset
from gnnrec.rankers import RANKERS


@dataclass(frozen=True)
class Inner:
    depth: int = 2
    rate: float = 0.5
    kind: Literal["cosine", "dot"] = "dot"


@dataclass(frozen=True)
class Outer:
    name: str = "x"
    flag: bool = False
    limit: int | None = None
    scale: float | str = 1.0
    widths: tuple[int, ...] = (1, 2)
    pair: tuple[str, float] = ("a", 0.0)
    weights: Mapping[str, float] = field(default_factory=dict)
    tables: dict[str, Inner] = field(default_factory=dict)
    anything: Any = None
    inner: Inner = Inner()
    optional: Inner | None = None


# TOML has no way to write lone surrogates.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
numbers = st.floats(allow_nan=False, allow_infinity=False, width=64)
integers = st.integers(-(2**63), 2**63 - 1)
inners = st.builds(Inner, depth=integers, rate=numbers, kind=st.sampled_from(["cosine", "dot"]))
outers = st.builds(
    Outer,
    name=texts,
    flag=st.booleans(),
    limit=st.none() | integers,
    scale=numbers | texts,
    widths=st.lists(integers, max_size=3).map(tuple),
    pair=st.tuples(texts, numbers),
    weights=st.dictionaries(texts, numbers, max_size=3),
    tables=st.dictionaries(texts, inners, max_size=2),
    anything=st.none() | st.booleans() | integers | st.lists(texts),
    inner=inners,
    optional=st.none() | inners,
)


@given(outers)
def test_options_survive_plain_values_and_json(options: Outer) -> None:
    plain = to_dict(options)
    assert from_dict(Outer, plain) == options
    assert from_dict(Outer, json.loads(json.dumps(plain))) == options


@given(outers)
def test_options_survive_a_file(tmp_path_factory: pytest.TempPathFactory, options: Outer) -> None:
    file = tmp_path_factory.getbasetemp() / "options.toml"
    write_config(options, file)
    assert read_config(Outer, file) == options
    first = file.read_bytes()
    write_config(read_config(Outer, file), file)
    assert file.read_bytes() == first


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_survives_a_file(name: str, tmp_path: Path) -> None:
    write_config(PRESETS[name], tmp_path / "run.toml")
    assert read_config(RecommenderConfig, tmp_path / "run.toml") == PRESETS[name]
    assert from_dict(RecommenderConfig, to_dict(PRESETS[name])) == PRESETS[name]


def test_an_option_by_its_own_name_belongs_to_one_group() -> None:
    """But those of ``alignment``, which share names with model and training and are given as a group."""
    given_alone = [group for group in fields(RecommenderConfig) if group.name != "alignment"]
    groups = [getattr(RecommenderConfig(), group.name) for group in given_alone]
    names = [option.name for group in groups if is_dataclass(group) for option in fields(group)]
    names += [group.name for group in fields(RecommenderConfig)]
    assert len(names) == len(set(names))
    assert preset("ease").with_options({"l2": 9.0}).ease.l2 == 9
    assert preset("graph-filter").with_options({"factors": 3}).graph_filter.factors == 3
    assert preset("item-knn").with_options({"neighbours": 4}).item_knn.neighbours == 4
    changed = RecommenderConfig().with_options({"epochs": 7, "alignment": {"epochs": 2}})
    assert (changed.training.epochs, changed.alignment.epochs) == (7, 2)


@pytest.mark.parametrize("name", RANKERS)
def test_every_ranker_is_an_option_and_a_preset_unless_neural(name: str) -> None:
    assert RecommenderConfig().with_options({"ranker": name}).ranker == name
    assert name == "neural" or PRESETS[name].ranker == name


def test_every_option_is_written_defaults_included(tmp_path: Path) -> None:
    write_config(Outer(), tmp_path / "options.toml")
    text = (tmp_path / "options.toml").read_text()
    for option in fields(Outer):
        assert (option.name in text) == (getattr(Outer(), option.name) is not None)
    assert 'kind = "dot"' in text


def test_plain_values_are_plain() -> None:
    plain = to_dict(Outer(widths=(3,), tables={"a": Inner(depth=1)}))
    assert plain["widths"] == [3]
    assert plain["tables"] == {"a": {"depth": 1, "rate": 0.5, "kind": "dot"}}
    assert plain["inner"] == {"depth": 2, "rate": 0.5, "kind": "dot"}
    assert plain["optional"] is None


def test_missing_options_keep_their_default() -> None:
    assert from_dict(Outer, {"inner": {"depth": 7}}) == Outer(inner=Inner(depth=7))
    assert from_dict(Outer, {}) == Outer()


def test_a_whole_number_will_do_for_a_real_one() -> None:
    inner = from_dict(Inner, {"rate": 3})
    assert inner.rate == 3.0
    assert type(inner.rate) is float
    assert type(from_dict(Outer, {"pair": ["b", 1]}).pair[1]) is float
    assert type(from_dict(Outer, {"weights": {"a": 1}}).weights["a"]) is float


def test_options_that_are_dataclasses_already_are_taken_as_they_are() -> None:
    inner = Inner(depth=9)
    assert from_dict(Outer, {"inner": inner, "optional": inner}) == Outer(inner=inner, optional=inner)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nmae": "y"}, r"unknown option 'nmae'; did you mean 'name'\?"),
        ({"zzz": 1}, "unknown option 'zzz'; choose from anything, flag, inner"),
        ({"depth": 1}, r"unknown option 'depth'; it belongs under \[inner\]"),
        ({"inner": {"dpeth": 1}}, r"unknown option 'inner\.dpeth'; did you mean 'depth'\?"),
        ({"optional": {"depth": "1"}}, "'optional' cannot be"),
        ({"name": 3}, "'name' cannot be 3; expected str"),
        ({"flag": 1}, "'flag' cannot be 1; expected bool"),
        ({"limit": True}, "'limit' cannot be True"),
        ({"limit": 2**63}, "'limit' cannot be 9223372036854775808"),
        ({"inner": {"depth": -(2**63) - 1}}, "a whole number has at most 64 bits"),
        ({"limit": 1.0}, r"'limit' cannot be 1\.0"),
        ({"widths": [1, True]}, "'widths' cannot be True; expected int"),
        ({"widths": 3}, "'widths' cannot be 3"),
        ({"widths": "12"}, "'widths' cannot be '12'"),
        ({"pair": ["a"]}, "'pair' needs 2 values, got 1"),
        ({"weights": {"a": "b"}}, "'weights' cannot be 'b'; expected float"),
        ({"weights": [1]}, "'weights' cannot be"),
        ({"inner": 3}, "'inner' is a table of options, not 3"),
        ({"inner": {"depth": True}}, r"'inner\.depth' cannot be True; expected int"),
        ({"inner": {"rate": True}}, r"'inner\.rate' cannot be True; expected float"),
        ({"inner": {"rate": "0.5"}}, r"'inner\.rate' cannot be '0\.5'; expected float"),
        ({"inner": {"rate": float("inf")}}, r"'inner\.rate' cannot be inf; expected float"),
        ({"inner": {"rate": None}}, r"'inner\.rate' cannot be None"),
        ({"inner": {"kind": "cosin"}}, r"'inner\.kind' cannot be 'cosin'; did you mean 'cosine'\?"),
        ({"inner": {"kind": 7}}, r"'inner\.kind' cannot be 7; choose from cosine, dot"),
        ({"tables": {"a": {"depth": "x"}}}, "'tables.*depth' cannot be 'x'"),
    ],
)
def test_errors_name_the_option_and_what_it_takes(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(Outer, values)


def test_the_nearest_name_is_suggested() -> None:
    assert suggest("recal", ["ndcg", "recall"]) == "; did you mean 'recall'?"
    assert suggest("zzz", ["ndcg", "recall", "mrr"]) == "; choose from mrr, ndcg, recall"


def test_json_files_are_read_too(tmp_path: Path) -> None:
    options = Outer(limit=3, inner=Inner(rate=0.25))
    file = tmp_path / "options.json"
    file.write_text(json.dumps(to_dict(options)), encoding="utf-8")
    assert read_config(Outer, file) == options


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("broken.toml", b"name = "),
        ("broken.json", b"{"),
        ("list.json", b"[1]"),
        ("text.json", b'"name"'),
        ("latin.toml", b'name = "\xe9"'),
    ],
)
def test_files_that_hold_no_options_are_named(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=name):
        read_config(Outer, tmp_path / name)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        read_config(Outer, tmp_path / "nowhere.toml")


def test_mistakes_in_a_file_are_named(tmp_path: Path) -> None:
    file = tmp_path / "options.toml"
    file.write_text("[inner]\ndept = 3\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"'inner\.dept'; did you mean 'depth'"):
        read_config(Outer, file)


def test_a_configuration_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"absent.*c\.toml"):
        write_config(RecommenderConfig(), tmp_path / "absent" / "c.toml")


def test_whole_numbers_of_numpy_are_taken() -> None:
    width = RecommenderConfig().with_options({"embedding_dim": np.int64(16)}).model.embedding_dim
    assert (width, type(width)) == (16, int)
