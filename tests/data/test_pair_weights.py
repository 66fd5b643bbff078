import numpy as np
import pandas as pd
import pytest

import gnnrec as gr


def log(weights: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        {"user_id": [1, 1, 1, 2], "item_id": ["a", "a", "b", "b"], "weight": weights, "timestamp": range(4)}
    )


def test_a_pair_weighs_what_its_events_weigh_on_average() -> None:
    weights = gr.Dataset.from_frames(log([1.0, 4.0, 2.0, 5.0])).pair_weights()
    np.testing.assert_array_equal(weights.toarray(), [[2.5, 2.0], [0.0, 5.0]])


def test_weights_that_cannot_weigh_edges_are_named() -> None:
    with pytest.raises(gr.errors.DataError, match=r"1 events do not, e\.g\. -2"):
        gr.Dataset.from_frames(log([1.0, 4.0, -2.0, 5.0])).pair_weights()
    with pytest.raises(gr.errors.DataError, match="no weights"):
        gr.Dataset.from_frames(log([1.0] * 4).drop(columns="weight")).pair_weights()


def test_people_hear_items_by_their_weights() -> None:
    """Everybody has five items of one kind, meant, and five of the other, hardly meant; nothing is trained."""
    rng = np.random.default_rng(0)
    kind = np.arange(40) % 2
    pairs = [
        (user, 2 * item + of_kind, 1.0 if of_kind == kind[user] else 0.01)
        for user in range(40)
        for of_kind in (0, 1)
        for item in rng.choice(20, 5, replace=False)
    ]
    data = gr.Dataset.from_frames(pd.DataFrame(pairs, columns=["user_id", "item_id", "weight"]))
    lead = {}
    for weighted in (False, True):
        rec = gr.Recommender(
            epochs=1, learning_rate=1e-9, co_occurring_items=0, item_bias=False, weighted_interactions=weighted
        )
        rec.fit(data, progress=False)
        (users, user), (items, item) = rec.embeddings("user"), rec.embeddings("item")
        same = kind[users.astype(int)][:, None] == (items.astype(int) % 2)
        had = data.interaction_matrix().toarray() > 0
        scores = user @ item.T
        lead[weighted] = scores[had & same].mean() - scores[had & ~same].mean()
    assert abs(lead[False]) < 0.05
    assert lead[True] > 0.2
