import numpy as np
import pandas as pd
import pytest

import gnnrec as gr
from gnnrec.errors import ConfigError, DataError
from gnnrec.evaluation import compare, evaluate_lists

METRICS = ("recall@5", "ndcg@10", "mrr@3")


@pytest.fixture(scope="module")
def parts():
    log = gr.synthetic.shop(num_users=40, num_items=30, seed=0).interactions
    return gr.Dataset.from_frames(log).split(gr.split.random(valid=0, test=0.3, seed=1))


@pytest.mark.parametrize("column", ["rank", "score"])
def test_lists_of_a_model_measure_as_the_model_does(parts, column: str) -> None:
    train, _, test = parts
    rec = gr.Recommender.preset("popularity").fit(train, progress=False)
    expected = rec.evaluate(test, METRICS)
    lists = rec.recommend(rec.state.users.ids, k=10)[["user_id", "item_id", column]]
    shuffled = lists.sample(frac=1, random_state=0) if column == "rank" else lists
    evaluation = evaluate_lists(shuffled, test, METRICS)
    for metric in METRICS:
        np.testing.assert_array_equal(evaluation.per_user[metric], expected.per_user[metric])
    assert evaluation.user_ids.tolist() == expected.user_ids.tolist()
    assert compare(evaluation, expected, "ndcg@10").p_value == 1


LOG = pd.DataFrame({"user_id": ["a", "a", "b", "c"], "item_id": ["x", "y", "x", "z"]})
TEST = gr.Dataset.from_frames(LOG)


def test_what_is_in_a_list_takes_its_place() -> None:
    """An item that the test set lacks is a miss, a missing list finds nothing, and strangers do not count."""
    lists = pd.DataFrame(
        {
            "user_id": ["a", "a", "a", "b", "stranger"],
            "item_id": ["new", "x", "y", "x", "x"],
            "score": [3.0, 2.0, 2.0, -1.0, 5.0],
        }
    )
    evaluation = evaluate_lists(lists, TEST, ("recall@1", "recall@2", "recall@3"))
    assert evaluation.user_ids.tolist() == ["a", "b", "c"]
    assert evaluation.top_items.tolist() == [[3, 0, 1], [0, -1, -1], [-1, -1, -1]]
    assert evaluation.per_user["recall@1"].tolist() == [0, 1, 0]
    assert evaluation.per_user["recall@2"].tolist() == [0.5, 1, 0]
    assert evaluation.per_user["recall@3"].tolist() == [1, 1, 0]


def test_lists_that_cannot_be_measured() -> None:
    lists = pd.DataFrame({"user_id": ["a", "a"], "item_id": ["x", "y"], "rank": [1, 2]})
    with pytest.raises(DataError, match="no column 'item_id', 'score'; there are user_id"):
        evaluate_lists(lists[["user_id"]], TEST)
    with pytest.raises(DataError, match="1 items are twice in a list, such as 'x'"):
        evaluate_lists(lists.assign(item_id="x"), TEST)
    with pytest.raises(DataError, match="'rank' holds 1 values that are no numbers"):
        evaluate_lists(lists.assign(rank=[1, np.nan]), TEST)
    with pytest.raises(DataError, match="none of the users is in the test set"):
        evaluate_lists(lists.assign(user_id=[1, 1]), TEST)
    with pytest.raises(DataError, match="new item ids must be strings"):
        evaluate_lists(lists.assign(item_id=[1, 2]), TEST)
    with pytest.raises(ConfigError, match="'auc' judges whole rankings"):
        evaluate_lists(lists, TEST, "auc")
    with pytest.raises(DataError, match=r"test= takes a gnnrec\.Dataset"):
        evaluate_lists(lists, LOG)  # type: ignore[arg-type]
