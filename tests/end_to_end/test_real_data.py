"""The default model on published data sets; skipped without ``GNNREC_DATA_DIR``.

Validation pairs only: test sets are read by the benchmarks, which log each reading.
"""

import pytest

import gnnrec as gr


@pytest.mark.data
@pytest.mark.slow
def test_tiktok_reaches_the_published_range(data_dir):
    data = gr.datasets.load("tiktok", data_dir=data_dir)
    train, valid, _ = data.split(gr.split.column("x_label"))
    rec = gr.Recommender(device="cpu").fit(train, valid=valid, progress=False)
    values = rec.evaluate(valid, mask="train").values
    assert values["recall@20"] >= 0.114
    assert values["ndcg@20"] >= 0.048


@pytest.mark.data
def test_tiktok_learns_more_than_popularity_in_three_epochs(data_dir):
    data = gr.datasets.load("tiktok", data_dir=data_dir)
    train, valid, _ = data.split(gr.split.column("x_label"))
    popular = gr.Recommender.preset("popularity").fit(train, valid=valid, progress=False)
    assert popular.evaluate(valid, mask="train").values["recall@20"] == pytest.approx(0.0626, abs=0.0005)  # as measured
    rec = gr.Recommender(device="cpu", epochs=4, learning_rate=0.01).fit(train, valid=valid, progress=False)
    assert rec.evaluate(valid, mask="train").values["recall@20"] > 0.09
