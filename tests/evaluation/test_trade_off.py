"""Both recalls of a list at every offset, against rankings that are made with the offset."""

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gnnrec.errors import DataError
from gnnrec.evaluation import TradeOff, evaluate_rankings, plot_trade_off, trade_off

NUM_USERS, NUM_ITEMS = 6, 9


def booleans(share: str) -> st.SearchStrategy[np.ndarray]:
    shape = {"pair": (NUM_USERS, NUM_ITEMS), "item": (NUM_ITEMS,)}[share]
    return hnp.arrays(np.bool_, shape)


def sparse(pairs: np.ndarray) -> sp.csr_matrix:
    return sp.csr_matrix(pairs.astype(np.float32))


def recalls(scores, pairs, new, mask, k, offset) -> tuple[float, float]:
    """By rankings, a list of its own for each person."""
    moved = scores + np.where(new, offset, 0)
    found = []
    for side in (~new, new):
        measured = evaluate_rankings(
            lambda users: torch.from_numpy(moved)[users],
            sparse(pairs & side),
            mask=sparse(mask),
            metrics=(f"recall@{k}",),
        )
        found.append(measured.values[f"recall@{k}"] if measured.num_users else 0.0)
    return found[0], found[1]


@settings(deadline=None, max_examples=60)
@given(
    order=st.permutations(range(NUM_USERS * NUM_ITEMS)),
    pairs=booleans("pair"),
    mask=booleans("pair"),
    new=booleans("item"),
    k=st.integers(1, 12),
)
def test_both_recalls_are_those_of_rankings_at_any_offset(order, pairs, mask, new, k):
    # Different whole numbers, and offsets between them, so that nothing is a tie.
    scores = np.array(order, dtype=np.float32).reshape(NUM_USERS, NUM_ITEMS)
    trade = trade_off(
        lambda users: torch.from_numpy(scores)[users], sparse(pairs), new, mask=sparse(mask), k=k, block_size=4
    )
    for offset in (-99.5, -20.5, -3.5, -0.5, 0.5, 4.5, 17.5, 99.5):
        known, unknown = recalls(scores, pairs, new, mask, k, offset)
        assert trade.known_recall(offset) == pytest.approx(known)
        assert trade.new_recall(offset) == pytest.approx(unknown)
    most = trade.known_recall(-np.inf)
    for share in (1.0, 0.7, 0.3):
        largest = trade.largest_offset(share * most)
        assert trade.known_recall(largest) >= share * most - 1e-9
        if share > 0 and (np.isfinite(trade.known_limit) & (trade.known_limit > largest)).any():
            # Little more is too much: by how far an offset stays below its limit, and as much beyond it.
            assert trade.known_recall(largest + 3e-6 * max(1.0, abs(largest))) < share * most - 1e-9
    between = np.arange(-len(order), len(order) + 1) + 0.5  # limits are whole numbers
    known = np.array([trade.known_recall(offset) for offset in between])
    unknown = np.array([trade.new_recall(offset) for offset in between])
    lost, found_after = -np.diff(known, append=0), np.append(unknown[1:], unknown[-1])
    # A pair may be lost and another found between the same two offsets: before or after one another.
    assert lost @ unknown - 1e-9 <= trade.area() <= lost @ found_after + 1e-9
    frame = trade.to_frame(5)
    assert (frame["known"].diff().dropna() <= 1e-9).all()
    assert (frame["new"].diff().dropna() >= -1e-9).all()


def test_the_mean_of_several_lists_has_the_mean_of_both_recalls_at_any_offset():
    generator = np.random.default_rng(0)

    def one_list(num_new: int) -> TradeOff:
        scores = torch.from_numpy(generator.normal(size=(NUM_USERS, NUM_ITEMS)))
        pairs = sparse(generator.random((NUM_USERS, NUM_ITEMS)) < 0.4)
        nothing = sparse(np.zeros((NUM_USERS, NUM_ITEMS)))
        return trade_off(lambda users: scores[users], pairs, np.arange(NUM_ITEMS) < num_new, mask=nothing, k=2)

    parts = [one_list(3), one_list(4)]
    mean = TradeOff.mean(parts)
    assert mean.k == 2
    for offset in np.linspace(-3, 3, 25):
        assert mean.known_recall(offset) == pytest.approx(np.mean([part.known_recall(offset) for part in parts]))
        assert mean.new_recall(offset) == pytest.approx(np.mean([part.new_recall(offset) for part in parts]))


def test_of_equal_items_only_those_that_have_a_place_are_found():
    """Four new items score alike for everybody, and two fit into the list."""
    new = np.arange(8) >= 4
    pairs, mask = sparse(np.tile(new, (3, 1))), sp.csr_matrix((3, 8))
    scores = torch.cat([torch.arange(4.0), torch.zeros(4)]).repeat(3, 1)
    trade = trade_off(lambda users: scores[users], pairs, new, mask=mask, k=2)
    assert [trade.new_recall(offset) for offset in (1.5, 2.5, 9.0)] == pytest.approx([0, 0.25, 0.5])


def test_the_largest_offset_lies_below_the_first_limit_that_may_not_be_passed():
    trade = TradeOff(1, np.array([1.0, 2.0, 2.0, 4.0]), np.full(4, 0.25), np.array([0.0, 3.0]), np.array([0.5, 0.25]))
    assert trade.known_recall(-np.inf) == 1
    assert trade.largest_offset(2.0) == pytest.approx(1, abs=1e-5)  # more than there is: no limit is passed
    assert trade.largest_offset(0.75) == pytest.approx(2, abs=1e-5)
    assert trade.largest_offset(0.5) == pytest.approx(2, abs=1e-5)  # both pairs at 2 go together
    assert trade.largest_offset(0.25) == pytest.approx(4, abs=1e-5)
    assert trade.largest_offset(0.25) < 4
    assert trade.largest_offset(0.0) == 5  # beyond the limits of both kinds
    assert [trade.new_recall(offset) for offset in (0.0, 0.1, 3.5)] == [0, 0.5, 0.75]
    # Of equal items the one that comes later in the catalogue has its limit a rounding lower: they go together too.
    tie = TradeOff(1, np.array([1.0, np.nextafter(1, 2)]), np.full(2, 0.5), np.zeros(0), np.zeros(0))
    assert tie.known_recall(tie.largest_offset(0.5)) == 1
    nothing = np.zeros(0)
    assert TradeOff(1, nothing, nothing, nothing, nothing).largest_offset(0.9) == 0
    places_for_all = TradeOff(9, np.array([np.inf]), np.ones(1), np.array([-2.0, 3.0]), np.full(2, 0.5))
    assert places_for_all.largest_offset(0.98) == 4  # known items lose nothing, however far new ones are raised
    frame = trade.to_frame(3)
    np.testing.assert_allclose(frame, [[1, 1, 0.5], [2, 0.75, 0.5], [5, 0, 0.75]], atol=1e-5)
    assert (trade.known_recall(np.inf), trade.new_recall(np.inf)) == (0, 0.75)
    assert trade.area() == 0.25 * (0.5 + 0.5 + 0.5 + 0.75)
    assert places_for_all.area() == 1  # nothing is lost before all is found
    assert tie.area() == 0


def test_a_picture_shows_every_model(tmp_path: Path):
    rng = np.random.default_rng(0)
    limits = np.sort(rng.normal(size=(2, 50)), axis=1)
    curves = {
        name: TradeOff(20, limits[0], np.full(50, 0.02), limits[1] + shift, np.full(50, 0.02))
        for name, shift in (("one", 0.0), ("another", 1.0))
    }
    plot_trade_off(curves, tmp_path / "trade-off.png")
    assert (tmp_path / "trade-off.png").stat().st_size > 10_000
    with pytest.raises(DataError, match="no model"):
        plot_trade_off({}, tmp_path / "none.png")
    other = TradeOff(5, limits[0], np.full(50, 0.02), limits[1], np.full(50, 0.02))
    with pytest.raises(DataError, match=r"\[5, 20\]"):
        plot_trade_off({**curves, "shorter": other}, tmp_path / "none.png")


def test_of_a_known_and_a_new_item_that_score_alike_the_first_in_the_catalogue_has_the_place():
    for new in ([False, True], [True, False]):
        trade = trade_off(
            lambda users: torch.ones(len(users), 2), sp.csr_matrix(np.ones((1, 2))), np.array(new),
            mask=sp.csr_matrix((1, 2)), k=1,
        )  # fmt: skip
        assert (trade.known_recall(0), trade.new_recall(0)) == (new[1], new[0])
