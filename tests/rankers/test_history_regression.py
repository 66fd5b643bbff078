from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from gnnrec.data.pairs import without_places
from gnnrec.evaluation.validation import ValidationPairs
from gnnrec.rankers.history_regression import HistoryRegression
from gnnrec.rankers.serving import ServingTensors

NUM_USERS, NUM_ITEMS, DIM = 300, 40, 6


@pytest.fixture(scope="module")
def world() -> tuple[ServingTensors, sp.csr_matrix, torch.Tensor]:
    """People's vectors are a fixed rotation of the mean direction of what they chose."""
    rng = np.random.default_rng(0)
    item = F.normalize(torch.from_numpy(rng.normal(size=(NUM_ITEMS, DIM))).float())
    taste = rng.normal(size=(NUM_USERS, DIM))
    chosen = np.argsort(-(taste @ item.numpy().T + 0.3 * rng.normal(size=(NUM_USERS, NUM_ITEMS))), axis=1)[:, :12]
    pairs = np.repeat(np.arange(NUM_USERS), 12), chosen.ravel()
    interactions = sp.csr_matrix((np.ones(12 * NUM_USERS, dtype=np.float32), pairs), shape=(NUM_USERS, NUM_ITEMS))
    rotation = torch.linalg.qr(torch.from_numpy(rng.normal(size=(DIM, DIM))).float())[0]
    user = F.normalize(torch.from_numpy(np.asarray(interactions @ item.numpy()))) @ rotation
    serving = ServingTensors(
        user=user,
        item=item @ rotation,
        user_base=torch.zeros_like(user),
        item_messages=item,
        item_propagated=item,
        item_degree=torch.from_numpy(np.bincount(interactions.indices, minlength=NUM_ITEMS)),
        user_taste=torch.zeros(NUM_USERS, 0),
        item_content=torch.zeros(NUM_ITEMS, 0),
        content_weight=torch.zeros(NUM_ITEMS),
        item_is_new=torch.zeros(NUM_ITEMS, dtype=torch.bool),
        told=torch.zeros(0, dtype=torch.int64),
        told_item=torch.zeros(0, DIM),
    )
    return serving, interactions, item


def fold_in_by(serving: ServingTensors, direction: torch.Tensor) -> Callable[..., torch.Tensor]:
    def fold_in(tried: HistoryRegression, histories: sp.csr_matrix) -> torch.Tensor:
        return tried(without_places(histories), serving, direction) @ serving.item.T

    return fold_in


def best_unseen(scores: torch.Tensor, seen: sp.csr_matrix) -> NDArray[np.int64]:
    return scores.masked_fill(torch.from_numpy(seen.toarray() > 0), -torch.inf).argmax(dim=1).numpy()


def one_of_each(item_index: NDArray[np.int64], num_people: int) -> sp.csr_matrix:
    pairs = np.arange(num_people), item_index[:num_people]
    return sp.csr_matrix((np.ones(num_people, dtype=np.float32), pairs), (NUM_USERS, NUM_ITEMS))


def test_what_identities_add_is_learned(world: tuple) -> None:
    serving, interactions, direction = world
    half = HistoryRegression.fit(serving, interactions[: NUM_USERS // 2], direction)
    assert half.prior == 3
    predicted = replace(half, prior=0.0)(interactions[NUM_USERS // 2 :], serving, direction)
    assert F.cosine_similarity(predicted, serving.user[NUM_USERS // 2 :]).mean() > 0.98
    untold = F.normalize(torch.from_numpy(np.asarray(interactions[NUM_USERS // 2 :] @ direction.numpy())))
    assert F.cosine_similarity(untold, serving.user[NUM_USERS // 2 :]).mean() < 0.9


def test_the_average_counts_as_so_many_events(world: tuple) -> None:
    serving, interactions, direction = world
    fitted = HistoryRegression.fit(serving, interactions, direction)
    one = sp.csr_matrix((np.ones(1, dtype=np.float32), ([0], [7])), shape=(2, NUM_ITEMS))
    alone = replace(fitted, prior=0.0)(one, serving, direction)
    shrunk = replace(fitted, prior=3.0)(one, serving, direction)
    torch.testing.assert_close(shrunk[0], (alone[0] + 3 * fitted.average) / 4)
    torch.testing.assert_close(shrunk[1], fitted.average)  # no history
    torch.testing.assert_close(fitted.average, serving.user.mean(dim=0))


@pytest.mark.parametrize("loves_the_average", [False, True])
def test_validation_chooses_the_prior(world: tuple, loves_the_average: bool) -> None:
    serving, interactions, direction = world
    fitted = HistoryRegression.fit(serving, interactions, direction)
    scores = (
        (fitted.average @ serving.item.T).repeat(NUM_USERS, 1) if loves_the_average else serving.user @ serving.item.T
    )
    unseen = scores.masked_fill(torch.from_numpy(interactions.toarray() > 0), -torch.inf)
    wanted = unseen.topk(2).indices.numpy()
    pairs = sp.csr_matrix(
        (np.ones(2 * NUM_USERS, dtype=np.float32), (np.repeat(np.arange(NUM_USERS), 2), wanted.ravel())),
        shape=interactions.shape,
    )
    validation = ValidationPairs(pairs, interactions, ("recall@2",))
    chosen = fitted.with_best_prior(validation, fold_in_by(serving, direction), "recall@2")
    assert chosen.prior == 10 if loves_the_average else chosen.prior <= 3
    again = HistoryRegression.restore(chosen.tensors())
    assert again.prior == chosen.prior
    assert torch.equal(again(interactions, serving, direction), chosen(interactions, serving, direction))


def test_a_smaller_prior_has_to_be_surely_better(world: tuple) -> None:
    serving, interactions, direction = world
    fitted = HistoryRegression.fit(serving, interactions, direction)
    wanted = best_unseen(serving.user @ serving.item.T, interactions)
    prior = {}
    for people in (4, NUM_USERS):
        validation = ValidationPairs(one_of_each(wanted, people), interactions, ("recall@2",))
        prior[people] = fitted.with_best_prior(validation, fold_in_by(serving, direction), "recall@2").prior
    assert prior == {4: 10, NUM_USERS: 3}  # 3 finds more of either


def test_new_people_come_with_their_first_events(world: tuple) -> None:
    """Everybody's first events say nothing of the taste, so people who have no others are best taken for average."""
    serving, interactions, direction = world
    rng = np.random.default_rng(1)
    chance = sp.csr_matrix((rng.random(interactions.shape) < 0.08).astype(np.float32))
    chance = sp.csr_matrix(chance - chance.multiply(interactions))
    chance.eliminate_zeros()
    order = sp.csr_matrix(interactions * 100 + chance)  # by chance first, by taste later
    fitted = HistoryRegression.fit(serving, interactions, direction)
    wanted = best_unseen(serving.user @ serving.item.T, order)
    validation = ValidationPairs(one_of_each(wanted, NUM_USERS), order.sign(), ("recall@5",))
    prior = {}
    for name, places in {"timed": order, "untimed": None}.items():
        timed = replace(validation, order=places)
        prior[name] = fitted.with_best_prior(timed, fold_in_by(serving, direction), "recall@5").prior
    assert prior["timed"] > prior["untimed"]


@pytest.mark.parametrize("prior", [0.0, 3.0])
def test_an_empty_history_gets_the_average(world: tuple, prior: float) -> None:
    serving, interactions, direction = world
    fitted = replace(HistoryRegression.fit(serving, interactions, direction), prior=prior)
    nobody = sp.csr_matrix((1, NUM_ITEMS), dtype=np.float32)
    torch.testing.assert_close(fitted(nobody, serving, direction)[0], fitted.average)
