import pytest

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
        ({"auxiliary": {"alignement": 1.0}}, "'alignement'; did you mean 'alignment'"),
        ({"auxiliary": {"alignment": -1.0}}, "'alignment'.*negative"),
    ],
)
def test_impossible_options_are_named(options: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        TrainingConfig(**options)


@pytest.mark.parametrize("name", AUXILIARY_LOSSES)
def test_every_auxiliary_loss_can_be_chosen(name: str) -> None:
    assert TrainingConfig(auxiliary={name: 0.1}).auxiliary == {name: 0.1}


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
