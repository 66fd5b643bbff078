import errno
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import gnnrec as gr
from gnnrec import storage
from gnnrec.data.storage import load_dataset
from gnnrec.errors import UnsupportedError

SHOP = gr.synthetic.shop(num_users=60, num_items=40, seed=8)


@pytest.fixture(scope="module")
def data():
    return gr.Dataset.from_frames(
        SHOP.interactions,
        SHOP.items,
        SHOP.users,
        modalities={"look": SHOP.vectors()},
        relations={"follows": SHOP.follows},
    )


@pytest.fixture(scope="module")
def fitted(data):
    return gr.Recommender(embedding_dim=8, epochs=2, scaling="whiten").fit(data, progress=False)


@pytest.mark.parametrize(
    "preset",
    [
        *("gnnrec", "lightgcn", "mf-bpr", "vbpr", "freedom", "bm3", "mgcn", "pgl"),
        *("dropoutnet", "clcrec", "generative"),
        *("ease", "graph-filter", "item-knn", "content-knn", "popularity"),
    ],
)
def test_every_preset_answers_bit_for_bit_after_loading(data, tmp_path, preset):
    trained = {"embedding_dim": 8, "epochs": 2} if gr.Recommender.preset(preset).config.ranker == "neural" else {}
    rec = gr.Recommender.preset(preset, **trained).fit(data, progress=False)
    rec.save(tmp_path / "model")
    loaded = gr.load(tmp_path / "model")
    everybody = data.users.ids
    pd.testing.assert_frame_equal(rec.recommend(everybody, k=7), loaded.recommend(everybody, k=7), check_exact=True)
    for user in everybody[:5]:  # one row at a time takes another path through the matrix product
        pd.testing.assert_frame_equal(rec.recommend([user], k=7), loaded.recommend([user], k=7), check_exact=True)
    histories = [list(data.items.ids[:3]), list(data.items.ids[5:9])]
    pd.testing.assert_frame_equal(rec.recommend_for(histories), loaded.recommend_for(histories), check_exact=True)
    assert loaded.config == rec.config
    pd.testing.assert_frame_equal(loaded.history, rec.history)


def test_a_loaded_recommender_grows_like_the_original(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    new = {"look": gr.Vectors(SHOP.vectors().matrix[:2] + 0.1, ["x", "y"])}
    answers = []
    for rec in (gr.load(tmp_path / "model"), gr.load(tmp_path / "model")):
        rec.add_items(vectors=new).update(pd.DataFrame({"user_id": ["z", "z"], "item_id": ["x", "i01"]}))
        answers.append(rec.recommend(["z", "u01"], k=9))
    pd.testing.assert_frame_equal(*answers, check_exact=True)
    rec.save(tmp_path / "grown")
    again = gr.load(tmp_path / "grown")
    pd.testing.assert_frame_equal(again.recommend(["z", "u01"], k=9), answers[0], check_exact=True)
    assert again.state.version == 2


def test_who_saves_while_another_loads_mixes_nothing(fitted, data, tmp_path, monkeypatch):
    fitted.save(tmp_path / "model")
    other = gr.Recommender.preset("popularity").fit(data, progress=False)

    def load_while_saved(folder):
        monkeypatch.undo()
        other.save(tmp_path / "model")
        return load_dataset(folder)

    monkeypatch.setattr("gnnrec.state.load_dataset", load_while_saved)
    assert gr.load(tmp_path / "model").state.ranker.name == "popularity"


def test_no_pickle_in_the_folder(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    kinds = {file.suffix for file in (tmp_path / "model").rglob("*") if file.is_file()}
    assert kinds == {".json", ".parquet", ".safetensors"}


def test_save_without_fit(tmp_path):
    with pytest.raises(gr.errors.NotFittedError):
        gr.Recommender().save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


class TestDamage:
    @pytest.fixture
    def folder(self, fitted, tmp_path):
        fitted.save(tmp_path / "model")
        return tmp_path / "model"

    def test_truncated_tensors(self, folder):
        file = folder / "tensors.safetensors"
        file.write_bytes(file.read_bytes()[:-100])
        with pytest.raises(gr.errors.StorageError, match=r"tensors\.safetensors"):
            gr.load(folder)

    def test_one_flipped_bit(self, folder):
        file = folder / "tensors.safetensors"
        content = bytearray(file.read_bytes())
        content[-5] ^= 1
        file.write_bytes(content)
        with pytest.raises(gr.errors.StorageError, match=r"tensors\.safetensors"):
            gr.load(folder)

    def test_tampered_manifest(self, folder):
        file = folder / storage.MANIFEST
        manifest = json.loads(file.read_text())
        manifest["facts"]["ranker"] = "popularity"
        file.write_text(json.dumps(manifest))
        with pytest.raises(gr.errors.StorageError):
            gr.load(folder)

    def test_missing_file_and_missing_folder(self, folder):
        (folder / "catalogue" / "item_ids.parquet").unlink()
        with pytest.raises(gr.errors.StorageError, match=r"item_ids\.parquet"):
            gr.load(folder)
        with pytest.raises(gr.errors.StorageError):
            gr.load(folder / "nowhere")

    def test_newer_format(self, fitted, tmp_path, monkeypatch):
        from gnnrec import state

        monkeypatch.setattr(state, "FORMAT_VERSION", 99)
        fitted.save(tmp_path / "newer")
        monkeypatch.undo()
        with pytest.raises(gr.errors.StorageError, match="upgrade"):
            gr.load(tmp_path / "newer")

    def test_a_full_disk_leaves_the_old_model(self, folder, fitted, monkeypatch):
        before = gr.load(folder).recommend(["u01"], k=5)
        from gnnrec import state

        def full(*args, **kwargs):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(state, "save_file", full)
        with pytest.raises(gr.errors.StorageError, match="No space left"):
            fitted.save(folder)
        monkeypatch.undo()
        pd.testing.assert_frame_equal(gr.load(folder).recommend(["u01"], k=5), before, check_exact=True)
        assert [path.name for path in folder.parent.iterdir()] == ["model"]

    def test_folder_that_cannot_be_written(self, fitted, tmp_path):
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(gr.errors.StorageError, match="cannot write"):
            fitted.save(tmp_path / "file" / "model")

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
    def test_folder_without_permission(self, fitted, tmp_path):
        locked = tmp_path / "locked"
        locked.mkdir(mode=0o500)
        with pytest.raises(gr.errors.StorageError, match="cannot write"):
            fitted.save(locked / "model")

    def test_nothing_but_a_model_is_overwritten(self, fitted, tmp_path):
        precious = tmp_path / "precious"
        precious.mkdir()
        (precious / "thesis.txt").write_text("years of work")
        with pytest.raises(gr.errors.StorageError):
            fitted.save(precious)
        assert (precious / "thesis.txt").read_text() == "years of work"


def test_seen_and_popularity(fitted):
    state = fitted.state
    assert state.seen.nnz == state.train.nnz + state.valid.nnz
    np.testing.assert_array_equal(state.popularity, np.asarray(state.train.sum(axis=0)).ravel())


def test_a_model_of_format_1_still_loads_and_answers(tmp_path):
    """Saved by gnnrec 0.1.0. Whoever changes the format keeps this file and this test, and adds another."""
    golden = Path(__file__).parent / "golden"
    expected = pd.read_parquet(golden / "recommender-1-answers.parquet")
    rec = gr.load(golden / "recommender-1")
    answer = rec.recommend(expected["user_id"].unique(), k=3)
    assert list(answer["item_id"]) == list(expected["item_id"])
    np.testing.assert_allclose(answer["score"], expected["score"], atol=1e-5)
    with pytest.raises(UnsupportedError, match="saved before"):
        rec.add_items(vectors={"look": gr.Vectors(np.ones((1, 4)), ["new"])})
    rec.save(tmp_path / "as-newest")
    again = gr.load(tmp_path / "as-newest")
    pd.testing.assert_frame_equal(
        again.recommend(expected["user_id"].unique()), rec.recommend(expected["user_id"].unique())
    )


def test_a_model_of_format_2_still_loads_and_answers():
    """Format 2 added removed items, the newest timestamp, the policy for missing media and what places new items."""
    golden = Path(__file__).parent / "golden"
    expected = pd.read_parquet(golden / "recommender-2-answers.parquet")
    rec = gr.load(golden / "recommender-2")
    answer = rec.recommend(expected["user_id"].unique(), k=3)
    assert list(answer["item_id"]) == list(expected["item_id"])
    np.testing.assert_allclose(answer["score"], expected["score"], atol=1e-5)
    assert list(rec.state.items.ids_of(rec.state.removed)) == ["i03"]
    assert rec.state.last_event == 1_729_000_000
    assert rec.state.preparation.missing == "mean"
    rec.add_items(vectors={"look": gr.Vectors(np.ones((1, 4)), ["new"])})
    assert len(rec.recommend_for([["new"]], k=3)) == 3


def test_a_model_of_format_3_still_loads_and_answers():
    """Format 3 added the space of search, and the content that new items are compared by."""
    golden = Path(__file__).parent / "golden"
    expected = pd.read_parquet(golden / "recommender-3-answers.parquet")
    rec = gr.load(golden / "recommender-3")
    answer = rec.recommend(expected["user_id"].unique(), k=3)
    assert list(answer["item_id"]) == list(expected["item_id"])
    np.testing.assert_allclose(answer["score"], expected["score"], atol=1e-5)
    assert "new" in set(answer["item_id"])
    found = pd.read_parquet(golden / "recommender-3-found.parquet")
    searched = rec.search(text=["harbour at night", "green"], k=3)
    assert list(searched["item_id"]) == list(found["item_id"])
    np.testing.assert_allclose(searched["score"], found["score"], atol=1e-5)


def test_a_model_of_format_4_still_loads_and_answers():
    """Format 4 compared content in directions of taste and kept biases as trained. No relation described new items."""
    golden = Path(__file__).parent / "golden"
    expected = pd.read_parquet(golden / "recommender-4-answers.parquet")
    rec = gr.load(golden / "recommender-4")
    answer = rec.recommend(expected["user_id"].unique(), k=21)
    assert list(answer["item_id"]) == list(expected["item_id"])
    np.testing.assert_allclose(answer["score"], expected["score"], atol=1e-5)
    assert "new" in set(answer["item_id"])
    assert rec.state.ranker.relations == {}
    rec.add_items(vectors={"look": gr.Vectors(np.ones((1, 6)), ["newer"])})
    with pytest.raises(UnsupportedError, match="knows none between items"):
        rec.update(
            pd.DataFrame({"user_id": ["eve"], "item_id": ["newest"]}),
            vectors={"look": gr.Vectors(np.ones((1, 6)), ["newest"])},
            relations={"sequel": pd.DataFrame({"source_id": ["newest"], "target_id": ["i01"]})},
        )


def test_a_model_of_format_5_still_loads_and_answers(tmp_path):
    """Format 5 let relations describe new items, and events tell them. Content of known items was not compared."""
    golden = Path(__file__).parent / "golden"
    expected = pd.read_parquet(golden / "recommender-5-answers.parquet")
    rec = gr.load(golden / "recommender-5")
    rec.save(tmp_path / "as-newest")
    for model in (rec, gr.load(tmp_path / "as-newest")):
        answer = model.recommend(expected["user_id"].unique(), k=22)
        assert list(answer["item_id"]) == list(expected["item_id"])
        np.testing.assert_allclose(answer["score"], expected["score"], atol=1e-5)
        assert {"new", "chosen"} <= set(answer["item_id"])
        folded_in = pd.read_parquet(golden / "recommender-5-folded-in.parquet")
        np.testing.assert_allclose(model.recommend_for([["i03", "new"]], k=5)["score"], folded_in["score"], atol=1e-5)


@pytest.mark.parametrize(
    ("version", "decay", "exponents"), [(6, 0.0, (0.5, 1.0)), (7, 0.1, (0.5, 1.0)), (8, 0.1, (0.125, 0.75))]
)
def test_models_of_formats_6_to_8_still_load_and_answer(version, decay, exponents, tmp_path):
    """In format 6 the linear part knew no order of events, and up to 7 its graph filter was a random walk.

    Up to 8 the average taste was not saved.
    """
    golden = Path(__file__).parent / "golden"
    expected = pd.read_parquet(golden / f"recommender-{version}-answers.parquet")
    folded_in = pd.read_parquet(golden / f"recommender-{version}-folded-in.parquet")
    rec = gr.load(golden / f"recommender-{version}")
    linear = rec.state.ranker.linear
    config = linear.ranker.config
    assert (linear.decay, (config.linear_exponent, config.user_exponent)) == (decay, exponents)
    rec.save(tmp_path / "as-newest")
    for model in (rec, gr.load(tmp_path / "as-newest")):
        answer = model.recommend(expected["user_id"].unique(), k=22)
        assert list(answer["item_id"]) == list(expected["item_id"])
        np.testing.assert_allclose(answer["score"], expected["score"], atol=1e-5)
        np.testing.assert_allclose(model.recommend_for([["i03", "new"]], k=5)["score"], folded_in["score"], atol=1e-5)
