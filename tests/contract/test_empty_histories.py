"""Every preset answers people without a history by what people like on average."""

import numpy as np
import pandas as pd
import pytest

import gnnrec as gr
from gnnrec.presets import PRESETS

NUM_USERS, NUM_ITEMS = 60, 20
SHORT = {"embedding_dim": 16, "epochs": 15, "learning_rate": 0.02, "batch_size": 256}


@pytest.fixture(scope="module")
def data() -> gr.Dataset:
    """The later an item comes in the catalogue, the more people chose it; one user is in the user table alone."""
    rng = np.random.default_rng(0)
    chance = np.linspace(0.05, 0.8, NUM_ITEMS)
    users, items = np.nonzero(rng.random((NUM_USERS, NUM_ITEMS)) < chance)
    log = pd.DataFrame({"user_id": users, "item_id": items}).astype(str)
    ids = [str(item) for item in range(NUM_ITEMS)]
    content = gr.Vectors(rng.normal(size=(NUM_ITEMS, 8)).astype(np.float32), ids=ids)
    people = pd.DataFrame({"user_id": [*map(str, range(NUM_USERS)), "nobody"]})
    return gr.Dataset.from_frames(log, users=people, modalities={"image": content})


@pytest.mark.parametrize("name", PRESETS)
def test_an_empty_history_leans_to_popular_items(name: str, data: gr.Dataset) -> None:
    options = SHORT if PRESETS[name].ranker == "neural" else {}
    rec = gr.Recommender.preset(name, **options).fit(data, progress=False)
    popularity = pd.Series(rec.state.popularity, rec.state.items.ids)
    stranger = rec.recommend_for([[]], k=NUM_ITEMS)
    known = rec.recommend(["nobody"], k=NUM_ITEMS)
    for answer in (stranger, known):
        scores = answer.set_index("item_id")["score"]
        assert scores[popularity.idxmax()] > scores[popularity.idxmin()]
        if PRESETS[name].ranker != "neural":
            assert scores.to_dict() == popularity.astype(float).to_dict()
