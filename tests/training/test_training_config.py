import pandas as pd
import pytest

import gnnrec as gr
from gnnrec.errors import ConfigError
from gnnrec.training.auxiliary import AUXILIARY_LOSSES
from gnnrec.training.config import TrainingConfig


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"negatives": 0}, "negatives"),
        ({"epochs": 0}, "epochs"),
        ({"batch_size": -1}, "batch_size"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"patience": 0}, "patience"),
        ({"edge_dropout": 1.0}, "edge_dropout"),
        ({"sampled_neighbours": (10, 0)}, "sampled_neighbours.*positive numbers, or -1"),
        ({"sampled_neighbours": (10,), "loss": "bpr"}, "sampled_neighbours.*needs loss='sampled-softmax'"),
        ({"auxiliary": {"alignment": -1.0}}, "'alignment'.*negative"),
    ],
)
def test_impossible_options_are_named(options: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        TrainingConfig(**options)


@pytest.mark.parametrize("name", AUXILIARY_LOSSES)
def test_every_auxiliary_loss_can_be_chosen(name: str) -> None:
    TrainingConfig(auxiliary={name: 0.1}).check_auxiliary()


def test_a_misspelt_auxiliary_loss_is_named_when_a_fit_begins() -> None:
    log = pd.DataFrame({"user_id": [1], "item_id": [1]})
    rec = gr.Recommender(auxiliary={"alignement": 1.0})
    with pytest.raises(ConfigError, match="'alignement'; did you mean 'alignment'"):
        rec.fit(gr.Dataset.from_frames(log))


def test_a_model_answers_where_the_loss_it_was_trained_with_is_unknown(monkeypatch, tmp_path) -> None:
    shop = gr.synthetic.shop(num_users=20, num_items=15, seed=0)
    data = gr.Dataset.from_frames(shop.interactions)
    with monkeypatch.context() as here:
        here.setitem(AUXILIARY_LOSSES, "mine", lambda embeddings, batch: embeddings.item.square().mean())
        rec = gr.Recommender(embedding_dim=8, epochs=1, auxiliary={"mine": 0.1}).fit(data, progress=False)
    rec.save(tmp_path / "model")
    loaded = gr.load(tmp_path / "model")
    user = shop.users["user_id"][:1]
    pd.testing.assert_frame_equal(loaded.recommend(user), rec.recommend(user))
    with pytest.raises(ConfigError, match="unknown auxiliary loss 'mine'"):
        loaded.fit(data, progress=False)


@pytest.mark.parametrize(
    ("num_edges", "expected"),
    [(10, 64), (1_920, 64), (3_000, 100), (3_001, 101), (60_000, 2_000), (10**5, 2_048), (10**7, 10**5)],
)
def test_batches_follow_the_size_of_the_log(num_edges: int, expected: int) -> None:
    assert TrainingConfig().pairs_per_step(num_edges) == expected
    assert TrainingConfig(batch_size=32).pairs_per_step(num_edges) == 32


def test_a_given_batch_is_not_enlarged() -> None:
    assert TrainingConfig(batch_size=2048).pairs_per_step(10**7) == 2048


def test_batches_of_samples_do_not_grow_with_the_log() -> None:
    assert TrainingConfig(sampled_neighbours=(5,)).pairs_per_step(10**7) == 2048
    assert TrainingConfig(sampled_neighbours=(5,)).pairs_per_step(3_000) == 100


def test_a_metric_that_is_none_is_refused_before_anything_is_read() -> None:
    with pytest.raises(ConfigError, match="option 'select_by': unknown metric 'recal@20'; did you mean 'recall'"):
        TrainingConfig(select_by="recal@20")
