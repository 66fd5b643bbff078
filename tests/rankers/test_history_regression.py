from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
import torch.nn.functional as F

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
    chosen = fitted.with_best_prior(serving, direction, ValidationPairs(pairs, interactions, ("recall@2",)), "recall@2")
    assert chosen.prior == 30 if loves_the_average else chosen.prior <= 3
    again = HistoryRegression.restore(chosen.tensors())
    assert again.prior == chosen.prior
    assert torch.equal(again(interactions, serving, direction), chosen(interactions, serving, direction))


def test_new_people_come_with_their_first_events(world: tuple) -> None:
    """Everybody's first events say nothing of the taste, so people who have no others are best taken for average."""
    serving, interactions, direction = world
    rng = np.random.default_rng(1)
    chance = sp.csr_matrix((rng.random(interactions.shape) < 0.2).astype(np.float32))
    chance = sp.csr_matrix(chance - chance.multiply(interactions))
    chance.eliminate_zeros()
    order = sp.csr_matrix(interactions * 100 + chance)  # by chance first, by taste later
    fitted = HistoryRegression.fit(serving, interactions, direction)
    wanted = sp.csr_matrix(
        (np.ones(NUM_USERS), (np.arange(NUM_USERS), np.asarray(chance.argmax(axis=1)).ravel())), interactions.shape
    )
    validation = ValidationPairs(wanted.astype(np.float32), order.sign(), ("recall@5",))
    prior = {}
    for name, places in {"timed": order, "untimed": None}.items():
        timed = replace(validation, order=places)
        prior[name] = fitted.with_best_prior(serving, direction, timed, "recall@5").prior
    assert prior["timed"] > prior["untimed"]
