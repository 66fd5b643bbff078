from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from gnnrec.evaluation import validation as validation_module
from gnnrec.evaluation.validation import ValidationPairs
from gnnrec.rankers import calibration as calibration_module
from gnnrec.rankers.calibration import (
    Predicted,
    best_content_taste,
    best_known_content_taste,
    best_new_item_offset,
    best_popularity_weight,
)
from gnnrec.rankers.ease import EaseRanker
from gnnrec.rankers.linear_part import LinearPart

NUM = 50
ALL = np.ones(NUM, dtype=np.bool_)
NO_CONTENT = torch.zeros(NUM, 0)


def all_known(left_out: torch.Tensor) -> Predicted:
    """No item is new, and these are what would be predicted of them."""
    return Predicted(known=torch.arange(NUM), left_out=left_out, new=torch.arange(0), placed=left_out[:0])


@pytest.fixture
def validation() -> ValidationPairs:
    """Each of 50 users wants the item of the same number."""
    nothing = sp.csr_matrix((NUM, NUM), dtype=np.float32)
    return ValidationPairs(sp.identity(NUM, format="csr", dtype=np.float32), nothing, ("recall@1", "recall@20"))


def test_popularity_counts_as_validation_says(validation: ValidationPairs) -> None:
    user = torch.cat([torch.eye(NUM), torch.ones(NUM, 1)], dim=1)
    # The right item leads by 1; biases of other items up to 1.5 hide it at weight 1, not at .5.
    misled = torch.cat([torch.eye(NUM), torch.linspace(0, 1.5, NUM)[:, None]], dim=1)
    assert best_popularity_weight(validation, user, misled, ALL, "recall@1") in (0.0, 0.25, 0.5)
    # Where it makes no difference it counts as in training.
    alike = torch.cat([torch.eye(NUM), torch.zeros(NUM, 1)], dim=1)
    assert best_popularity_weight(validation, user, alike, ALL, "recall@1") == 1


def test_items_without_interactions_have_no_say_in_popularity(validation: ValidationPairs) -> None:
    """Nobody has learned their biases: large ones would hide every known item, at any weight but 0."""
    user = torch.cat([torch.eye(NUM), torch.ones(NUM, 1)], dim=1)
    known = np.arange(NUM) < 40
    bias = torch.where(torch.from_numpy(known), 0.0, 100.0)
    item = torch.cat([torch.eye(NUM), bias[:, None]], dim=1)
    assert best_popularity_weight(validation, user, item, known, "recall@1") == 1
    assert best_popularity_weight(validation, user, item, ALL, "recall@1") == 0


def test_new_items_get_as_much_room_as_the_price_allows(validation: ValidationPairs) -> None:
    """Known items score 1 for their user; a new one scores its offset for everybody, so from 1 on it hides them."""
    user = torch.cat([torch.eye(NUM), torch.ones(NUM, 1)], dim=1)
    item = torch.cat([torch.eye(NUM), torch.zeros(NUM, 1)], dim=1)
    predicted = all_known(torch.zeros(NUM, NUM + 1))

    def offset(price: float, linear: LinearPart | None = None) -> float:
        how = {"linear": linear, "price": price, "select_by": "recall@1"}
        return best_new_item_offset(validation, user, item, NO_CONTENT, predicted, **how)

    assert offset(0.02) < 1
    assert offset(1.0) == pytest.approx(2)  # 1 beyond the last limit
    # A linear part that adds .5 to the item of each person leaves as much more room.
    linear = LinearPart("ease", EaseRanker(torch.eye(NUM), sp.identity(NUM, format="csr")), 0.5)
    assert offset(1.0, linear) == pytest.approx(2.5)


def test_the_room_grows_with_the_price(validation: ValidationPairs) -> None:
    """The item that a person wants scores as much as the person's number says."""
    user = torch.cat([torch.diag(torch.arange(NUM) / NUM + 1), torch.ones(NUM, 1)], dim=1)
    item = torch.cat([torch.eye(NUM), torch.zeros(NUM, 1)], dim=1)
    predicted = all_known(torch.zeros(NUM, NUM + 1))
    scores = torch.arange(NUM) / NUM + 1
    quarters = torch.randperm(NUM, generator=torch.Generator().manual_seed(0)).tensor_split(4)

    def lost(offset: float) -> float:
        """Who plays no new item, and has less than the offset, finds nothing: the mean over the quarters."""
        left = [scores[[one for one in range(NUM) if one not in quarter.tolist()]] for quarter in quarters]
        return float(np.mean([(others <= offset).float().mean() for others in left]))

    for price in (0.1, 0.5):
        how = {"linear": None, "price": price, "select_by": "recall@1"}
        offset = best_new_item_offset(validation, user, item, NO_CONTENT, predicted, **how)
        assert lost(offset) <= price < lost(offset + 1 / NUM)


def test_nobody_has_chosen_an_item_that_plays_new(validation: ValidationPairs) -> None:
    """Where everybody has chosen them they are candidates all the same, and nobody's taste is made of them."""
    content = torch.ones(NUM, 1)
    user, item = torch.eye(NUM), torch.cat([torch.zeros(NUM, 1), torch.eye(NUM)], dim=1)
    left_out = torch.cat([0.5 * content, torch.zeros(NUM, NUM)], dim=1)  # as new ones they compare with tastes
    playing = torch.arange(10)
    chosen = np.zeros((NUM, NUM), dtype=np.float32)
    chosen[:, :10] = 1
    hidden = replace(validation, mask=sp.csr_matrix(chosen))
    how = {"linear": None, "price": 0.0, "select_by": "recall@1"}
    predicted = replace(all_known(left_out[:10]), known=playing)
    offset = best_new_item_offset(hidden, user, item, content, predicted, **how)
    assert offset == pytest.approx(1, abs=1e-5)  # what known items lead by, with no taste and no item hidden


@pytest.mark.parametrize("num_new", [2, 10], ids=["few", "enough"])
def test_new_items_of_the_catalogue_compete_where_there_are_enough_of_them(
    validation: ValidationPairs, num_new: int
) -> None:
    """Known items lead by 1; a new item scores 5 less, one that plays new as much as nothing but the offset."""
    user = torch.cat([torch.eye(NUM), torch.ones(NUM, 1)], dim=1)
    known, new = torch.arange(NUM - num_new), torch.arange(NUM - num_new, NUM)
    bias = torch.where(torch.arange(NUM) < NUM - num_new, 0.0, 100.0)  # what training made of new ones does not count
    item = torch.cat([torch.eye(NUM), bias[:, None]], dim=1)
    placed = torch.zeros(num_new, NUM + 1)
    placed[:, -1] = -5
    predicted = Predicted(known=known, left_out=torch.zeros(len(known), NUM + 1), new=new, placed=placed)
    how = {"linear": None, "price": 0.02, "select_by": "recall@1"}
    offset = best_new_item_offset(validation, user, item, NO_CONTENT, predicted, **how)
    assert offset == pytest.approx(1 if num_new == 2 else 6, abs=1e-4)


def test_some_users_are_enough_to_choose_an_epoch(validation: ValidationPairs, monkeypatch: pytest.MonkeyPatch) -> None:
    assert validation.for_epochs() is validation
    monkeypatch.setattr(validation_module, "_MOST_USERS", 20)
    chosen = validation.for_epochs().pairs
    assert np.count_nonzero(np.diff(chosen.indptr)) == 20
    assert (chosen != validation.pairs.multiply(chosen)).nnz == 0
    assert (chosen != validation.for_epochs().pairs).nnz == 0  # always the same ones
    monkeypatch.setattr(validation_module, "_MOST_SCORES", 7 * validation.pairs.shape[1])
    assert (np.diff(validation.for_epochs().pairs.indptr) > 0).sum() == 7


def test_what_is_settled_needs_the_rows_of_some_users(
    validation: ValidationPairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_pairs = np.flatnonzero(np.diff(validation.pairs.indptr))
    monkeypatch.setattr(validation_module, "_MOST_USERS_TO_SETTLE", 20)
    users, chosen = validation.for_settling()
    assert len(users) == 20
    assert np.isin(users, with_pairs).all()
    assert (np.diff(users) > 0).all()
    assert (chosen.pairs != validation.pairs[users]).nnz == 0
    assert (chosen.mask != validation.mask[users]).nnz == 0
    monkeypatch.setattr(validation_module, "_MOST_SCORES_TO_SETTLE", 7 * validation.pairs.shape[1])
    assert len(validation.for_settling()[0]) == 7


@pytest.mark.parametrize("told", ["by content", "by the vectors", "by both"])
def test_content_counts_where_it_tells_what_vectors_do_not(told: str) -> None:
    """Items come in pairs of one content; people had the first of a pair, and validation is the second."""
    had = sp.csr_matrix((np.ones(NUM // 2, np.float32), (np.arange(NUM // 2), np.arange(0, NUM, 2))), (NUM // 2, NUM))
    wanted = sp.csr_matrix(
        (np.ones(NUM // 2, np.float32), (np.arange(NUM // 2), np.arange(1, NUM, 2))), (NUM // 2, NUM)
    )
    told_by_content, told_by_vectors = torch.eye(NUM // 2).repeat_interleave(2, 0), torch.eye(NUM // 2)
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=(NUM, NUM // 2))).float()
    content = noise if told == "by the vectors" else told_by_content
    vectors = noise if told == "by content" else told_by_content
    weight = best_content_taste(
        ValidationPairs(wanted, had, ("recall@1",)),
        told_by_vectors,
        content,
        had,
        all_known(0.1 * vectors),
        "recall@1",
    )
    assert (weight > 0) == (told == "by content")


def test_what_people_had_of_items_that_play_new_is_no_part_of_their_taste(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has had a new item: where all of them play new at once, nobody has a taste."""
    monkeypatch.setattr(calibration_module, "_GROUPS", 1)
    people, half = np.arange(NUM // 2), NUM // 2
    had = sp.csr_matrix((np.ones(half, np.float32), (people, 2 * people)), (half, NUM))
    wanted = sp.csr_matrix((np.ones(half, np.float32), (people, 2 * people + 1)), (half, NUM))
    weight = best_content_taste(
        ValidationPairs(wanted, had, ("recall@1",)),
        torch.eye(half),
        torch.eye(half).repeat_interleave(2, 0),
        had,
        all_known(torch.from_numpy(np.random.default_rng(0).normal(size=(NUM, half))).float()),
        "recall@1",
    )
    assert weight == 0


@pytest.mark.parametrize("told", ["by content alone", "by the vectors too", "by the linear part too"])
def test_content_of_known_items_counts_where_it_tells_what_nothing_else_does(told: str) -> None:
    """Items come in pairs of one content; people had the first of a pair, and want the second."""
    half = NUM // 2
    people = np.arange(half)
    had = sp.csr_matrix((np.ones(half, np.float32), (people, 2 * people)), (half, NUM))
    wanted = sp.csr_matrix((np.ones(half, np.float32), (people, 2 * people + 1)), (half, NUM))
    pairs = torch.eye(half).repeat_interleave(2, 0)
    noise = torch.from_numpy(np.random.default_rng(0).random((NUM, half))).float() - 0.5
    # What goes together, as EASE would know it: from the first of a pair to the second.
    other = torch.eye(NUM).index_select(0, torch.arange(NUM) ^ 1)
    linear = LinearPart("ease", EaseRanker(other, had), 1.0) if told == "by the linear part too" else None
    weight = best_known_content_taste(
        ValidationPairs(wanted, had, ("recall@1",)),
        torch.eye(half),
        pairs if told == "by the vectors too" else 0.1 * noise,
        torch.eye(half),
        pairs,
        torch.ones(NUM, dtype=torch.bool),
        linear=linear,
        select_by="recall@1",
    )
    assert (weight > 0) == (told == "by content alone")


def test_how_content_of_known_items_counts_does_not_hang_on_unknown_ones() -> None:
    """Unknown items would win every list: content tells which known item is wanted all the same."""
    half = NUM // 2
    people = np.arange(half)
    had = sp.csr_matrix((np.ones(half, np.float32), (people, 2 * people)), (half, NUM + 1))
    wanted = sp.csr_matrix((np.ones(half, np.float32), (people, 2 * people + 1)), (half, NUM + 1))
    weight = best_known_content_taste(
        ValidationPairs(wanted, had, ("recall@1",)),
        torch.ones(half, 1),
        torch.cat([torch.zeros(NUM, 1), torch.full((1, 1), 100.0)]),
        torch.eye(half),
        torch.cat([torch.eye(half).repeat_interleave(2, 0), torch.zeros(1, half)]),
        torch.arange(NUM + 1) < NUM,
        linear=None,
        select_by="recall@1",
    )
    assert weight > 0


@pytest.mark.parametrize("enough", [True, False])
def test_pairs_on_new_items_tell_how_content_counts_if_there_are_enough(
    enough: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Content tells what people want of known items, and misleads about new ones, of which vectors tell all."""
    people, half = np.arange(NUM // 2), NUM // 2
    monkeypatch.setattr(calibration_module, "_ENOUGH_PAIRS_ON_NEW_ITEMS", half if enough else half + 1)
    # Items: first halves of pairs, which everybody had one of; known second halves; new second halves.
    had = sp.csr_matrix((np.ones(half, np.float32), (people, people)), (half, 3 * half))
    wanted = sp.csr_matrix(
        (np.ones(NUM, np.float32), (np.tile(people, 2), np.arange(half, 3 * half))), (half, 3 * half)
    )
    eye = torch.eye(half)
    predicted = Predicted(
        known=torch.arange(2 * half),
        left_out=torch.zeros(2 * half, half),
        new=torch.arange(2 * half, 3 * half),
        placed=0.05 * eye,
    )
    weight = best_content_taste(
        ValidationPairs(wanted, had, ("recall@1",)),
        eye,
        torch.cat([eye, eye, eye.roll(1, dims=0)]),
        had,
        predicted,
        "recall@1",
    )
    assert (weight == 0) == enough


def test_candidates_are_ranked_among_themselves(validation: ValidationPairs) -> None:
    chosen = np.array([3, 30, 40])
    among = validation.among(chosen)
    user, item = torch.eye(NUM), torch.eye(NUM)
    item[10] += 2  # everybody's favourite is no candidate
    assert validation(user, item)["recall@1"] < 0.1
    assert among.pairs.nnz == 3
    assert among(user, item[chosen])["recall@1"] == 1


def test_a_sample_of_the_known_items_plays_new_beside_all_of_them(validation: ValidationPairs) -> None:
    """Predictions of a few are enough, but the others are in the list, and as many as there are compete with it."""
    user = torch.cat([torch.diag(torch.arange(NUM) / NUM + 1), torch.ones(NUM, 1)], dim=1)
    item = torch.cat([torch.eye(NUM), torch.zeros(NUM, 1)], dim=1)
    how = {"linear": None, "price": 0.5, "select_by": "recall@1"}
    predicted = all_known(torch.zeros(10, NUM + 1))
    examples = replace(predicted, known=torch.arange(10))  # with the lowest scores
    offset = best_new_item_offset(validation, user, item, NO_CONTENT, examples, **how)
    scores = (torch.arange(NUM) / NUM + 1)[10:]
    assert (scores <= offset).sum() == 20
