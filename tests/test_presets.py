from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import gnnrec as gr
from gnnrec.errors import ConfigError
from gnnrec.nn.align import LogMelProjection
from gnnrec.nn.architectures import ARCHITECTURES
from gnnrec.nn.model_config import ModelConfig
from gnnrec.presets import PRESETS, RecommenderConfig, preset

# A value of each option with which a model that reads it answers otherwise.
OTHERWISE: Mapping[str, Any] = {
    "embedding_dim": 6,
    "hops": 4,
    "fusion": "mean",
    "modality_alignment": {"infonce": 1.0},
    "content": "none",
    "content_scale": 5.0,
    "relation_weight": 1.0,
    "identity_dropout": 0.8,
    "feature_dropout": 0.5,
    "initialisation": "spectral",
    "decoder": "cosine",
    "item_bias": False,
    "popularity_weight": 3.0,
    "content_taste": 1.5,
    "known_content_taste": 1.5,
    "new_item_offset": 0.7,
    "new_item_price": 0.5,
    "new_user_prior": 7.0,
    "linear_part": "ease",
    "linear_weight": 2.0,
    "linear_decay": 0.5,
    "projections": {"sound": "log-mel-cnn"},
    "item_hops": 2,
    "modality_shares": {"look": 0.9},
    "sequence_encoder": "gru",
    "sequence_length": 2,
    "fine_tune_features": True,
}
PRESET_OF = {config.model.architecture: name for name, config in reversed(PRESETS.items())}
PUBLISHED = [name for name in ARCHITECTURES if name != "multimodal"]
READ = [(name, option) for name in PUBLISHED for option in sorted(ARCHITECTURES[name].reads)]


@pytest.fixture(scope="module")
def data() -> gr.Dataset:
    """A log with time, media of two kinds, and six items that are new."""
    shop = gr.synthetic.shop(num_users=60, num_items=40, seed=0)
    look, log = shop.vectors(), shop.interactions
    sound = np.random.default_rng(0).normal(size=(len(look.ids), 4 * LogMelProjection.bands)).astype(np.float32)
    return gr.Dataset.from_frames(
        log[log["item_id"].isin(look.ids[:-6])],
        modalities={"look": look, "sound": gr.Vectors(sound, ids=look.ids)},
    )


def model_of(architecture: str, **options: Any) -> RecommenderConfig:
    start = preset(PRESET_OF[architecture]).with_options({"embedding_dim": 8, "epochs": 2})
    return replace(start, model=replace(start.model, **options))  # whether they are read or not


def answers(config: RecommenderConfig, data: gr.Dataset) -> pd.DataFrame:
    """Of known people and of a new one."""
    rec = gr.Recommender(config=config).fit(*gr.split.holdout(data, fraction=0.2, seed=0), progress=False)
    newcomer = rec.recommend_for({"new": list(data.items.ids[:3])}, k=40)
    return pd.concat([rec.recommend(list(data.users.ids), k=40), newcomer], ignore_index=True)


def test_every_option_of_a_model_is_tried_here() -> None:
    assert {"architecture", *OTHERWISE} == {option.name for option in fields(ModelConfig)}


@pytest.mark.parametrize(("architecture", "option"), READ, ids=[" ".join(one) for one in READ])
def test_what_a_model_reads_changes_what_it_answers(architecture: str, option: str, data: gr.Dataset) -> None:
    start = model_of(architecture, fine_tune_features=False)
    changed = model_of(architecture, **{"fine_tune_features": False, option: OTHERWISE[option]})
    assert not answers(changed, data).equals(answers(start, data))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_a_model_does_not_read_changes_nothing(architecture: str, data: gr.Dataset) -> None:
    idle = {name: OTHERWISE[name] for name in ARCHITECTURES[architecture].idle_options()}
    start = model_of(architecture)
    if start.model.content == "none":
        idle = {name: idle[name] for name in idle if name not in ("modality_alignment", "projections")}  # of media
    without_bias = {name: idle.pop(name) for name in ("item_bias",) if name in idle}  # an offset needs one
    for changed in (idle, without_bias):
        pd.testing.assert_frame_equal(
            answers(model_of(architecture, **changed), data), answers(start, data), check_exact=True
        )


@pytest.mark.parametrize(
    ("name", "option", "value", "because"),
    [
        ("bm3", "relation_weight", 0.5, "architecture='bm3'"),
        ("lightgcn", "sequence_encoder", "gru", "architecture='lightgcn'"),
        ("freedom", "initialisation", "spectral", "architecture='freedom'"),
        ("gnnrec", "item_hops", 2, "architecture='multimodal'"),
        ("mf-bpr", "edge_dropout", 0.2, "hops=0"),
        ("lightgcn", "view_dropout", 0.2, "loss='bpr' and these auxiliary losses"),
        ("bm3", "temperature", 0.5, "loss='bootstrap'"),
        ("gnnrec", "negatives", 5, "loss='auto'"),
        ("ease", "epochs", 5, "ranker='ease'"),
        ("gnnrec", "l2", 5.0, "ranker='neural'"),
        ("ease", "factors", 5, "ranker='ease'"),
    ],
)
def test_an_option_that_changes_nothing_is_refused(name: str, option: str, value: Any, because: str) -> None:
    with pytest.raises(ConfigError, match=f"option '{option}' changes nothing with {because}; leave it out"):
        gr.Recommender.preset(name, **{option: value})


def test_an_option_that_another_one_makes_idle_is_refused() -> None:
    with pytest.raises(ConfigError, match="option 'sequence_length' changes nothing with sequence_encoder='none'"):
        preset("gnnrec").with_options({"sequence_encoder": "none", "sequence_length": 5})
    assert preset("gnnrec").with_options({"sequence_length": 5}).model.sequence_length == 5
    with pytest.raises(ConfigError, match="option 'new_user_prior' changes nothing with hops=0"):
        preset("gnnrec").with_options({"hops": 0, "new_user_prior": 2.0})
    for option in ("popularity_weight", "new_item_price"):
        with pytest.raises(ConfigError, match=f"option '{option}' changes nothing with item_bias=False"):
            preset("gnnrec").with_options({"item_bias": False, option: 0.5})


def test_an_option_that_stays_as_it_was_is_no_mistake() -> None:
    assert preset("mgcn").with_options({"hops": 0, "edge_dropout": 0.5}).training.edge_dropout == 0.5
    assert preset("bm3").with_options({"relation_weight": 0.1, "select_by": "ndcg@10"}).model == preset("bm3").model
    assert preset("ease").with_options({"select_by": "ndcg@10", "epochs": 60}).training.select_by == "ndcg@10"
