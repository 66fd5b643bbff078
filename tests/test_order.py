"""People walk from item to item: who hears of the order in which they came knows where they go next."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch

import gnnrec as gr
from gnnrec.cold_start_report import few_shot_people
from gnnrec.errors import DataError
from gnnrec.evaluation import evaluate_rankings
from gnnrec.fitting import fit_state
from gnnrec.held_out import take_in
from gnnrec.state import RecommenderState
from gnnrec.training.loop import EpochRecord
from gnnrec.training.objective import Objective

NUM_USERS, NUM_ITEMS, LENGTH = 250, 60, 9
OPTIONS = {"similar_items": 0, "epochs": 5, "learning_rate": 0.01, "device": "cpu"}


def walks(seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Returns a log in which most events are on the one successor of the item before, and the successors."""
    rng = np.random.default_rng(seed)
    successor = np.roll(rng.permutation(NUM_ITEMS), 1)
    at, seen, steps = rng.integers(NUM_ITEMS, size=NUM_USERS), np.zeros((NUM_USERS, NUM_ITEMS), dtype=bool), []
    for _ in range(LENGTH):
        steps.append(at)
        seen[np.arange(NUM_USERS), at] = True
        onward = successor[at]
        jumps = (rng.random(NUM_USERS) > 0.8) | seen[np.arange(NUM_USERS), onward]
        at = np.where(jumps, np.where(seen, -1, rng.random(seen.shape)).argmax(axis=1), onward)
    user = np.repeat(np.arange(NUM_USERS), LENGTH)
    time = np.tile(np.arange(LENGTH), NUM_USERS)
    log = pd.DataFrame({"user_id": user, "item_id": np.stack(steps, axis=1).ravel(), "timestamp": time})
    return log.sample(frac=1, random_state=seed), successor


LOG, SUCCESSOR = walks()
TRAIN, VALID, TEST = gr.Dataset.from_frames(LOG).split(gr.split.leave_last(1, 1))


@pytest.fixture(scope="module", params=["gru", "transformer"])
def fitted(request: pytest.FixtureRequest) -> gr.Recommender:
    return gr.Recommender(24, sequence_encoder=request.param, **OPTIONS).fit(TRAIN, VALID, progress=False)


@pytest.fixture(scope="module")
def unordered() -> gr.Recommender:
    return gr.Recommender(24, **OPTIONS, sequence_encoder="none").fit(TRAIN, VALID, progress=False)


def next_after(recommender: gr.Recommender, histories: list[list[int]]) -> list[int]:
    return recommender.recommend_for(histories, k=1)["item_id"].tolist()


def test_order_tells_what_comes_next(fitted: gr.Recommender, unordered: gr.Recommender) -> None:
    found, without = (one.evaluate(TEST, ("recall@3",)).values["recall@3"] for one in (fitted, unordered))
    assert found > 0.5
    assert found > without + 0.15


def test_a_history_of_a_stranger_is_read_in_its_order(fitted: gr.Recommender, unordered: gr.Recommender) -> None:
    starts = list(range(0, NUM_ITEMS, 3))
    far = [[int(SUCCESSOR[SUCCESSOR[SUCCESSOR[SUCCESSOR[start]]]]), start] for start in starts]
    expected = [int(SUCCESSOR[start]) for start in starts]
    assert np.mean(np.equal(next_after(fitted, far), expected)) > 0.5
    turned = [history[::-1] for history in far]
    assert np.mean(np.equal(next_after(fitted, turned), expected)) < 0.3
    assert next_after(unordered, far) == next_after(unordered, turned)


def test_an_update_comes_last(fitted: gr.Recommender, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model")
    grown = gr.load(tmp_path / "model")
    start = 7
    away = int(SUCCESSOR[SUCCESSOR[SUCCESSOR[SUCCESSOR[start]]]])
    events = pd.DataFrame({"user_id": [900, 900], "item_id": [start, away], "timestamp": [99, 98]})
    grown.update(events)
    scores = grown.recommend([900], k=NUM_ITEMS)
    by_history = fitted.recommend_for([[away, start]], k=NUM_ITEMS)
    assert scores["item_id"].tolist() == by_history["item_id"].tolist()
    np.testing.assert_allclose(scores["score"], by_history["score"], atol=1e-5)
    # Another event of the same person lies behind those, although it says that it is older.
    grown.update(pd.DataFrame({"user_id": [900], "item_id": [40], "timestamp": [1]}))
    by_history = fitted.recommend_for([[away, start, 40]], k=NUM_ITEMS)
    np.testing.assert_allclose(grown.recommend([900], k=NUM_ITEMS)["score"], by_history["score"], atol=1e-5)


def test_an_update_of_a_known_person_goes_on_from_the_fitted_history(fitted: gr.Recommender) -> None:
    user = int(TEST.users.ids[TEST.events.user_index[0]])
    state = fitted.state
    assert state.order is not None
    row = state.users.find(np.array([user]))[0]
    history = LOG[(LOG["user_id"] == user) & (LOG["timestamp"] < LENGTH - 2)].sort_values("timestamp")["item_id"]
    places = state.order[row].toarray().ravel()[state.items.index_of(history.to_numpy())]
    assert (np.diff(places) > 0).all()
    # What the fit left is what an update makes of the same events.
    again = state.ranker.update(state.order, np.array([row]))
    torch.testing.assert_close(again.score(np.array([row])), state.ranker.score(np.array([row])), atol=1e-4, rtol=1e-4)


def test_order_is_saved(fitted: gr.Recommender, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model")
    loaded = gr.load(tmp_path / "model")
    assert (loaded.state.order != fitted.state.order).nnz == 0
    people = TEST.users.ids[:20].tolist()
    pd.testing.assert_frame_equal(loaded.recommend(people, k=5), fitted.recommend(people, k=5))


def test_the_few_shot_curve_tells_events_in_order(fitted: gr.Recommender) -> None:
    walkers, _ = walks(seed=0)
    strangers = gr.Dataset.from_frames(walkers.assign(user_id=walkers["user_id"] + 5_000))
    curve = few_shot_people(fitted.state, strangers, shots=(0, LENGTH - 1), k=3)
    assert curve[LENGTH - 1].values["recall@3"] > curve[0].values["recall@3"] + 0.3


class TestTheChoiceByValidation:
    """``sequence_encoder="auto"``, as it comes."""

    OPTIONS: ClassVar[dict[str, Any]] = {**OPTIONS, "select_by": "recall@3"}

    def test_order_is_read_where_it_tells_what_comes_next(self) -> None:
        chosen = gr.Recommender(24, **self.OPTIONS).fit(TRAIN, VALID, progress=False)
        given = gr.Recommender(24, **self.OPTIONS, sequence_encoder="gru").fit(TRAIN, VALID, progress=False)
        assert chosen.state.ranker.config.model.sequence_encoder == "gru"
        torch.testing.assert_close(chosen.state.ranker.score(np.arange(9)), given.state.ranker.score(np.arange(9)))
        pd.testing.assert_frame_equal(chosen.history.drop(columns="seconds"), given.history.drop(columns="seconds"))

    def test_order_that_tells_nothing_is_left_out(self, caplog: pytest.LogCaptureFixture) -> None:
        shuffled = LOG.assign(timestamp=np.random.default_rng(0).permutation(len(LOG)))
        train, valid, _ = gr.Dataset.from_frames(shuffled).split(gr.split.leave_last(1, 1))
        with caplog.at_level(logging.INFO):
            chosen = gr.Recommender(24, **self.OPTIONS, linear_decay=0.0).fit(train, valid, progress=False)
        assert "sequence_encoder='gru', which is left out" in caplog.text
        given = gr.Recommender(24, **self.OPTIONS, linear_decay=0.0, sequence_encoder="none")
        given.fit(train, valid, progress=False)
        assert chosen.state.order is None
        torch.testing.assert_close(chosen.state.ranker.score(np.arange(9)), given.state.ranker.score(np.arange(9)))

    @pytest.mark.parametrize(
        ("options", "split"),
        [
            ({}, gr.split.random(0.1, 0.1)),
            ({"architecture": "lightgcn"}, gr.split.leave_last(1, 1)),
            ({"loss": "sampled-softmax", "sampled_neighbours": (3, 3)}, gr.split.leave_last(1, 1)),
        ],
        ids=["random pairs", "another architecture", "samples of the graph"],
    )
    def test_nothing_is_tried_where_it_cannot_pay(
        self, options: dict[str, Any], split: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        train, valid, _ = gr.Dataset.from_frames(LOG).split(split)
        with caplog.at_level(logging.INFO):
            one = gr.Recommender(8, **{**self.OPTIONS, "epochs": 2, **options}).fit(train, valid, progress=False)
        assert not one.state.ranker.model.reads_order
        assert [record.getMessage().startswith("epoch") for record in caplog.records].count(True) == 2

    def test_events_of_one_time_have_no_order(self, caplog: pytest.LogCaptureFixture) -> None:
        train, valid, _ = gr.Dataset.from_frames(LOG.assign(timestamp=5)).split(gr.split.leave_last(1, 1))
        with caplog.at_level(logging.INFO):
            gr.Recommender(8, **{**self.OPTIONS, "epochs": 1}).fit(train, valid, progress=False)
        assert "sequence_encoder" not in caplog.text

    def test_a_refit_reads_the_validation_events_too(self) -> None:
        final = gr.Recommender(24, **self.OPTIONS).fit(TRAIN, VALID, refit=True, progress=False)
        chosen = gr.Recommender(24, **self.OPTIONS).fit(TRAIN, VALID, progress=False)
        assert final.state.ranker.model.reads_order
        assert len(final.history) == chosen.state.best_epoch
        assert final.state.valid.nnz == 0
        assert (final.state.train != TRAIN.with_events_of(VALID).interaction_matrix()).nnz == 0
        assert final.state.order is not None
        assert (final.state.order != TRAIN.with_events_of(VALID).order_matrix()).nnz == 0
        found, before = (one.evaluate(TEST, ("recall@3",)).values["recall@3"] for one in (final, chosen))
        assert found > before + 0.1  # who has heard of the step before knows the next

    def test_a_refit_that_cannot_be_is_refused_before_training(self) -> None:
        timeless = VALID.with_events(replace(VALID.events, timestamp=None))

        def trained(record: EpochRecord) -> None:
            raise AssertionError("an epoch was trained")

        with pytest.raises(DataError, match="one part of the log has the column 'timestamp', and the other has none"):
            fit_state(TRAIN, timeless, gr.Recommender(8, **self.OPTIONS).config, refit=True, on_epoch=trained)

    def test_a_search_compares_first_trainings_alone(self) -> None:
        options = {**self.OPTIONS, "epochs": 3}
        report = gr.tune(TRAIN, VALID, trials=1, embedding_dim=24, **options)
        chosen = gr.Recommender(24, **options).fit(TRAIN, VALID, progress=False)
        assert chosen.state.ranker.model.reads_order
        assert report.trials["trained_epochs"].tolist() == [3]
        pairs, mask = chosen.state.valid, chosen.state.train
        reached = evaluate_rankings(
            lambda u: chosen.state.ranker.score(u.numpy()), pairs, mask=mask, metrics=("recall@3",)
        )
        assert report.trials["recall@3"].tolist() == [pytest.approx(reached.values["recall@3"])]

    def test_fewer_candidates_are_drawn_for_the_one_that_reads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        draws: list[int] = []

        class Spy(Objective):
            def draw_candidates(self, generator: torch.Generator) -> torch.Tensor:
                draws.append(self.draws)
                return super().draw_candidates(generator)

        monkeypatch.setattr("gnnrec.training.loop.Objective", Spy)
        gr.Recommender(8, **{**self.OPTIONS, "epochs": 1}, loss="sampled-softmax").fit(TRAIN, VALID, progress=False)
        assert sorted(set(draws), key=draws.index) == [4_096, 1_024]

    @pytest.mark.parametrize("before", ["none", "gru"])
    def test_a_warm_start_keeps_what_the_earlier_fit_had(self, before: Any, caplog: pytest.LogCaptureFixture) -> None:
        recommender = gr.Recommender(8, **{**self.OPTIONS, "epochs": 1}, sequence_encoder=before)
        recommender.fit(TRAIN, VALID, progress=False)
        recommender.config = recommender.config.with_options({"sequence_encoder": "auto"})
        with caplog.at_level(logging.INFO):
            recommender.fit(TRAIN, VALID, progress=False, warm_start=True)
        assert recommender.state.ranker.config.model.sequence_encoder == before
        assert "sequence_encoder" not in caplog.text
        timeless = gr.Dataset.from_frames(LOG[["user_id", "item_id"]])
        if before == "gru":
            with pytest.raises(DataError, match="the log has no time"):
                recommender.fit(timeless, progress=False, warm_start=True)

    def test_a_warm_start_goes_on_reading(self, fitted: gr.Recommender, tmp_path: Path) -> None:
        fitted.save(tmp_path / "model")
        again = gr.load(tmp_path / "model")
        again.config = again.config.with_options({"sequence_encoder": "auto", "epochs": 1})
        again.fit(TRAIN, progress=False, warm_start=True)
        encoder = fitted.state.ranker.config.model.sequence_encoder
        assert again.state.ranker.config.model.sequence_encoder == encoder

    def test_an_interrupted_second_training_goes_on(self, tmp_path: Path) -> None:
        class Killed(Exception):
            pass

        seen: list[int] = []

        def note(record: EpochRecord) -> None:
            seen.append(int(record["epoch"]))
            if len(seen) == 7:
                raise Killed

        config = gr.Recommender(24, **self.OPTIONS).config
        whole, _ = fit_state(TRAIN, VALID, config)
        with pytest.raises(Killed):
            fit_state(TRAIN, VALID, config, run_dir=tmp_path, on_epoch=note)
        resumed, _ = fit_state(TRAIN, VALID, config, run_dir=tmp_path, resume=True, on_epoch=note)
        assert seen == [1, 2, 3, 4, 5] * 2  # of each training, none of them twice
        torch.testing.assert_close(resumed.ranker.score(np.arange(9)), whole.ranker.score(np.arange(9)))


class TestCheckpointsOfLaterTrainings:
    OPTIONS: ClassVar[dict[str, Any]] = {**OPTIONS, "epochs": 2, "select_by": "recall@3"}

    def test_those_of_an_earlier_run_are_not_met(self, tmp_path: Path) -> None:
        fit_state(TRAIN, VALID, gr.Recommender(8, **self.OPTIONS).config, run_dir=tmp_path, refit=True)
        assert (tmp_path / "with-order" / "checkpoint").exists()
        assert (tmp_path / "refit" / "checkpoint").exists()
        other = gr.Recommender(8, **self.OPTIONS, seed=1).config

        def killed(record: EpochRecord) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fit_state(TRAIN, VALID, other, run_dir=tmp_path, on_epoch=killed)
        resumed, _ = fit_state(TRAIN, VALID, other, run_dir=tmp_path, resume=True, refit=True)
        whole, _ = fit_state(TRAIN, VALID, other, refit=True)
        torch.testing.assert_close(resumed.ranker.score(np.arange(9)), whole.ranker.score(np.arange(9)))

    def test_a_refit_begins_anew_where_more_epochs_chose_for_it(self, tmp_path: Path) -> None:
        fit_state(TRAIN, VALID, gr.Recommender(8, **self.OPTIONS).config, run_dir=tmp_path, refit=True)
        longer = gr.Recommender(8, **{**self.OPTIONS, "epochs": 4}).config

        def resume() -> tuple[RecommenderState, list[float]]:
            epochs: list[float] = []
            state, _ = fit_state(
                TRAIN,
                VALID,
                longer,
                run_dir=tmp_path,
                resume=True,
                refit=True,
                on_epoch=lambda record: epochs.append(record["epoch"]),
            )
            return state, epochs

        resumed, epochs = resume()
        whole, _ = fit_state(TRAIN, VALID, longer, refit=True)
        torch.testing.assert_close(resumed.ranker.score(np.arange(9)), whole.ranker.score(np.arange(9)))
        assert epochs[:4] == [3, 4, 3, 4]  # of both trainings the further epochs, then the refit
        _, epochs = resume()
        assert not epochs


def test_a_log_without_time_is_refused() -> None:
    timeless = gr.Dataset.from_frames(LOG[["user_id", "item_id"]])
    with pytest.raises(DataError, match="the log has no time; give it a column 'timestamp'"):
        gr.Recommender(8, sequence_encoder="gru").fit(timeless, progress=False)


def test_a_refit_reads_all_events(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        recommender = gr.Recommender(8, sequence_encoder="gru", **OPTIONS | {"epochs": 1})
        recommender.fit(TRAIN, refit=True, progress=False)
    assert recommender.state.order is not None
    assert recommender.state.order.nnz == len(TRAIN.events) == recommender.state.train.nnz


@pytest.fixture(scope="module")
def moods() -> tuple[pd.DataFrame, gr.Recommender]:
    """Everybody likes five items of one kind, then five of another; known are all but the last two events."""
    rng = np.random.default_rng(1)
    kinds = np.argsort(rng.random((200, 4)), axis=1)[:, :2]
    item = 8 * np.repeat(kinds, 5, axis=1) + np.argsort(rng.random((200, 2, 8)), axis=2)[:, :, :5].reshape(200, 10)
    log = pd.DataFrame({"user_id": np.repeat(np.arange(200), 10), "item_id": item.ravel()})
    log["timestamp"] = np.tile(np.arange(10), 200)
    train, valid, _ = gr.Dataset.from_frames(log).split(gr.split.leave_last(1, 1))
    options = {**OPTIONS, "co_occurring_items": 0, "linear_part": "ease", "linear_weight": 0.8, "select_by": "recall@3"}
    return log, gr.Recommender(16, **options).fit(train, valid, progress=False)


def of_kind(answer: pd.DataFrame, kind: int) -> float:
    return float((answer["item_id"] // 8 == kind).mean())


def test_the_default_hears_what_came_last_where_validation_finds_that_it_tells(moods, tmp_path: Path) -> None:
    log, recommender = moods
    assert recommender.state.ranker.config.model.linear_decay > 0
    assert "order" in recommender.state.ranker.capabilities
    first, second = [0, 1, 2, 3], [16, 17, 18, 19]
    answer = recommender.recommend_for([first + second, second + first], k=4)
    assert [of_kind(rows, 2) for _, rows in answer.groupby("query")] == [1.0, 0.0]
    recommender.save(tmp_path / "model")
    loaded = gr.load(tmp_path / "model")
    people = log["user_id"].unique()[:30].tolist()
    pd.testing.assert_frame_equal(loaded.recommend(people, k=5), recommender.recommend(people, k=5))
    loaded.update(pd.DataFrame({"user_id": 900, "item_id": second + first, "timestamp": [5, 6, 7, 8, 1, 2, 3, 4]}))
    pd.testing.assert_frame_equal(
        loaded.recommend([900], k=9)[["item_id"]], recommender.recommend_for([first + second], k=9)[["item_id"]]
    )


def test_a_refit_keeps_the_decay(moods) -> None:
    log, recommender = moods
    data = gr.Dataset.from_frames(log)
    decay = recommender.state.ranker.config.model.linear_decay
    again = gr.Recommender(config=recommender.config.with_options({"linear_decay": decay, "epochs": 2}))
    again.fit(data, refit=True, progress=False)
    assert again.state.ranker.linear.decay == decay
    assert (again.state.order.indices == data.order_matrix().indices).all()


def test_a_warm_start_chooses_anew_how_much_order_counts(moods, tmp_path: Path) -> None:
    log, recommender = moods
    recommender.save(tmp_path / "model")
    again = gr.load(tmp_path / "model")
    again.fit(gr.Dataset.from_frames(log.drop(columns="timestamp")), warm_start=True, progress=False)
    assert again.state.ranker.linear.decay == 0
    assert again.state.order is None


def test_an_order_that_is_not_read_is_not_kept(moods) -> None:
    log, _ = moods
    options = {**OPTIONS, "epochs": 1, "linear_part": "graph-filter", "linear_weight": 0.1}
    alike = gr.Recommender(8, linear_decay=0.0, **options).fit(gr.Dataset.from_frames(log), progress=False)
    assert alike.state.order is None
    assert "order" not in alike.state.ranker.capabilities
    timeless = gr.Dataset.from_frames(log.drop(columns="timestamp"))
    with pytest.raises(DataError, match="the log has no time"):
        gr.Recommender(8, linear_decay=0.1, **options).fit(timeless, progress=False)


def test_a_history_with_unknown_items_is_folded_in_by_time(fitted: gr.Recommender) -> None:
    """What is left of it keeps its times."""
    log = pd.DataFrame({"user_id": 900, "item_id": [NUM_ITEMS, 7, NUM_ITEMS + 1, 8], "timestamp": [1, 99, 2, 98]})
    state = take_in(fitted.state, TEST, gr.Dataset.from_frames(log), device="cpu").state
    assert state.order is not None
    places = state.order[state.users.index_of([900])].toarray().ravel()
    assert places[state.items.index_of([8, 7])].tolist() == [1, 2]
    assert state.last_event == 99
