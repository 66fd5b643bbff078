"""Invents a shop whose customers' tastes are known, with real pictures, sounds and texts that show them."""

import colorsys
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gnnrec.data.dataset import Dataset
from gnnrec.data.schema import Audio, Image, ModalitySpec, Text, Vectors
from gnnrec.errors import ConfigError, MissingPackageError

__all__ = ["Shop", "shop"]

# Each taste has words of its own, real ones, so that pretrained text encoders tell the tastes apart.
_VOCABULARY = {
    "kitchen": "oven recipe butter flour whisk saucepan simmer garlic roasted pastry",
    "garden": "rose seed soil tulip hedge pruning compost blossom trowel greenhouse",
    "music": "guitar melody concert drum rhythm violin chord orchestra album piano",
    "ocean": "whale sailing coral wave harbour anchor dolphin tide captain reef",
    "space": "rocket planet orbit astronaut galaxy comet telescope lunar satellite meteor",
    "sport": "football goal stadium referee sprint tennis championship coach marathon racket",
    "winter": "snow ski sledge glacier frost mitten avalanche igloo blizzard icicle",
    "finance": "bank loan interest dividend budget broker mortgage invoice audit pension",
}
_COMMON = ("the", "a", "new", "old", "best", "little", "great", "simple", "second", "original")

_PICTURE_SIZE = 48  # pixels
_SAMPLE_RATE = 16_000  # Hz
_SOUND_SECONDS = 0.5
_NAMES = tuple(_VOCABULARY)


@dataclass(frozen=True, eq=False)
class Shop:
    """A shop with planted tastes.

    Attributes:
        interactions: ``user_id, item_id, rating, timestamp``; ratings are 4–5 where the item has the
            user's taste, else 1–3.
        items: ``item_id, title, description``; some descriptions are missing.
        users: ``user_id, bio``.
        follows: ``source_id, target_id``: who follows whom, mostly within a taste.
        user_taste: ``[num_users]`` the taste of each user.
        item_taste: ``[num_items]`` the taste of each item.
        popularity: ``[num_items]`` how strongly an item is chosen among those of its taste; a power law.
        focus: Share of a user's events that follow the own taste; the others follow any.
        missing: Share of items that lack a description, a picture or a sound, each independently.
        seed: Seed of everything, media included.
    """

    interactions: pd.DataFrame
    items: pd.DataFrame
    users: pd.DataFrame
    follows: pd.DataFrame
    user_taste: NDArray[np.int64]
    item_taste: NDArray[np.int64]
    popularity: NDArray[np.float64]
    focus: float
    missing: float
    seed: int

    def scores(self) -> NDArray[np.float64]:
        """Returns the probability ``[num_users, num_items]`` that an event of a user is about an item.

        The rows and columns are in the order of ``users`` and ``items``; no ranker can know better.
        """
        num_tastes = int(self.item_taste.max()) + 1
        of_taste = np.bincount(self.item_taste, weights=self.popularity, minlength=num_tastes)
        within_taste = self.popularity / of_taste[self.item_taste]
        return _taste_shares(self.user_taste, num_tastes, self.focus)[:, self.item_taste] * within_taste

    def vectors(self, dim: int = 16, noise: float = 0.5) -> Vectors:
        """Returns item vectors ``[num_items, dim]``: a random centre for each taste plus normal noise."""
        rng = np.random.default_rng([self.seed, 1])
        centres = rng.normal(size=(len(_NAMES), dim))
        values = centres[self.item_taste] + noise * rng.normal(size=(len(self.items), dim))
        return Vectors(values.astype(np.float32), self.items["item_id"].to_numpy())

    def dataset(self, media: str | Path | None = None, **options: Any) -> Dataset:
        """Builds a data set with the texts and, from a folder, with pictures and sounds.

        Args:
            media: Folder to write the media into; without it there are only texts.
            options: Further arguments of :meth:`Dataset.from_frames`.
        """
        specs: dict[str, ModalitySpec] = {"text": Text(("title", "description"))}
        items = self.items
        if media is not None:
            items = self.write_media(media)
            specs |= {"picture": Image("picture"), "sound": Audio("sound")}
        given: dict[str, Any] = {"items": items, "users": self.users, "modalities": specs, "media_root": media}
        return Dataset.from_frames(self.interactions, **{**given, **options})

    def write_media(self, folder: str | Path) -> pd.DataFrame:
        """Writes a PNG, a WAV and a text file for most items.

        The hue and the direction of the stripes, the chord and the words show the taste, under noise.

        Returns:
            ``items`` with the further columns ``picture``, ``sound`` and ``text_file``: paths relative to
            ``folder``, or ``None`` where the item lacks the medium.

        Raises:
            MissingPackageError: Pillow is not installed.
        """
        folder = Path(folder)
        rng = np.random.default_rng([self.seed, 2])
        items = self.items.copy()
        lacks = rng.random((2, len(items))) < self.missing
        items["picture"] = _names(items["item_id"], "pictures", "png").where(~lacks[0], None)
        items["sound"] = _names(items["item_id"], "sounds", "wav").where(~lacks[1], None)
        items["text_file"] = _names(items["item_id"], "texts", "txt").where(items["description"].notna(), None)
        for name in ("pictures", "sounds", "texts"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        media = items[["picture", "sound", "text_file", "description"]].to_numpy()
        for taste, (picture, sound, text_file, description) in zip(self.item_taste.tolist(), media, strict=True):
            if picture is not None:
                _write_picture(folder / picture, taste, rng)
            if sound is not None:
                _write_sound(folder / sound, taste, rng)
            if text_file is not None:
                (folder / text_file).write_text(f"{description}\n", encoding="utf-8")
        return items


def shop(
    num_users: int = 300,
    num_items: int = 120,
    num_tastes: int = 4,
    events_per_user: int = 20,
    seed: int = 0,
    *,
    focus: float = 0.85,
    missing: float = 0.1,
    popularity_exponent: float = 0.8,
) -> Shop:
    """Invents a shop; the same arguments give the same shop.

    Args:
        num_users: Number of users.
        num_items: Number of items, at least one for each taste.
        num_tastes: Number of tastes, 2 to 8.
        events_per_user: Mean number of draws per user (Poisson, at least 2); a pair drawn again is one event.
        seed: Seed of everything.
        focus: Share of a user's events that follow the own taste.
        missing: Share of items that lack a medium.
        popularity_exponent: The r-th most popular item of a taste has popularity ``r ** -exponent``.

    Raises:
        ConfigError: A number is out of range.
    """
    if not 2 <= num_tastes <= len(_NAMES):
        raise ConfigError(f"num_tastes must be 2 to {len(_NAMES)}, not {num_tastes}")
    if num_items < num_tastes or num_users < num_tastes:
        raise ConfigError(f"{num_tastes} tastes need at least as many users and items")
    rng = np.random.default_rng([seed, 0])
    user_taste = rng.permutation(np.arange(num_users) % num_tastes)
    item_taste = rng.permutation(np.arange(num_items) % num_tastes)
    popularity = (1.0 + _rank_within(item_taste, rng)) ** -popularity_exponent
    items = pd.DataFrame({"item_id": _ids("i", num_items)})
    items["title"] = _texts(item_taste, 2, rng)
    items["description"] = _texts(item_taste, 12, rng).where(rng.random(num_items) >= missing, None)
    users = pd.DataFrame({"user_id": _ids("u", num_users), "bio": _texts(user_taste, 6, rng)})
    return Shop(
        interactions=_interactions(user_taste, item_taste, popularity, events_per_user, focus, rng),
        items=items,
        users=users,
        follows=_follows(user_taste, rng),
        user_taste=user_taste,
        item_taste=item_taste,
        popularity=popularity,
        focus=focus,
        missing=missing,
        seed=seed,
    )


def _interactions(
    user_taste: NDArray[np.int64],
    item_taste: NDArray[np.int64],
    popularity: NDArray[np.float64],
    events_per_user: int,
    focus: float,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Draws for each event a user, then a taste, then an item of that taste."""
    num_tastes = int(item_taste.max()) + 1
    user = np.repeat(np.arange(len(user_taste)), np.maximum(rng.poisson(events_per_user, len(user_taste)), 2))
    taste = np.where(rng.random(len(user)) < focus, user_taste[user], rng.integers(num_tastes, size=len(user)))
    # Items side by side in the order of their tastes: a draw inside a taste's stretch is an item of it.
    by_taste = np.argsort(item_taste, kind="stable")
    ends = np.cumsum(popularity[by_taste])
    taste_ends = ends[np.cumsum(np.bincount(item_taste)) - 1]
    taste_starts = np.concatenate([[0.0], taste_ends[:-1]])
    draw = taste_starts[taste] + rng.random(len(user)) * (taste_ends - taste_starts)[taste]
    item = by_taste[np.minimum(np.searchsorted(ends, draw, side="right"), len(ends) - 1)]
    liked = item_taste[item] == user_taste[user]
    frame = pd.DataFrame(
        {
            "user_id": _ids("u", len(user_taste))[user],
            "item_id": _ids("i", len(item_taste))[item],
            "rating": np.where(liked, rng.integers(4, 6, len(user)), rng.integers(1, 4, len(user))),
            "timestamp": rng.integers(1_700_000_000, 1_730_000_000, len(user)),
        }
    )
    return frame.drop_duplicates(["user_id", "item_id"]).sort_values("timestamp", kind="stable", ignore_index=True)


def _follows(user_taste: NDArray[np.int64], rng: np.random.Generator) -> pd.DataFrame:
    """Lets users follow four others, three times of four somebody of the same taste."""
    source = np.repeat(np.arange(len(user_taste)), 4)
    anybody = rng.integers(len(user_taste), size=len(source))
    # Users in the order of their tastes: a random member of the same stretch has the same taste.
    by_taste, size = np.argsort(user_taste, kind="stable"), np.bincount(user_taste)
    start = np.cumsum(size) - size
    own = user_taste[source]
    alike = by_taste[start[own] + (rng.random(len(source)) * size[own]).astype(np.int64)]
    target = np.where(rng.random(len(source)) < 0.75, alike, anybody)
    ids = _ids("u", len(user_taste))
    frame = pd.DataFrame({"source_id": ids[source], "target_id": ids[target]})
    distinct: pd.DataFrame = frame[source != target].drop_duplicates(ignore_index=True)
    return distinct


def _taste_shares(user_taste: NDArray[np.int64], num_tastes: int, focus: float) -> NDArray[np.float64]:
    """Returns the probability ``[num_users, num_tastes]`` that an event of a user follows a taste."""
    shares = np.full((len(user_taste), num_tastes), (1.0 - focus) / num_tastes)
    shares[np.arange(len(user_taste)), user_taste] += focus
    return shares


def _rank_within(taste: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Returns a random rank 0, 1, … of every item among those of its taste."""
    shuffled = pd.Series(taste).sample(frac=1.0, random_state=rng)
    return np.asarray(shuffled.groupby(shuffled).cumcount().sort_index(), dtype=np.float64)


def _texts(taste: NDArray[np.int64], words: int, rng: np.random.Generator) -> pd.Series:
    """Writes a text for each taste: half of the words are its own, half are common."""
    own = np.array([text.split() for text in _VOCABULARY.values()])
    drawn = own[taste[:, None], rng.integers(own.shape[1], size=(len(taste), words))]
    common = np.array(_COMMON)[rng.integers(len(_COMMON), size=(len(taste), words))]
    common[:, 0] = drawn[:, 0]  # at least one word tells
    chosen = np.where(rng.random((len(taste), words)) < 0.5, drawn, common)
    return pd.Series([" ".join(row) for row in chosen.tolist()], dtype=object)


def _ids(letter: str, number: int) -> NDArray[Any]:
    width = len(str(number - 1))
    return np.array([f"{letter}{index:0{width}}" for index in range(number)], dtype=object)


def _names(ids: pd.Series, folder: str, extension: str) -> pd.Series:
    return (folder + "/" + ids + "." + extension).astype(object)


def _write_picture(path: Path, taste: int, rng: np.random.Generator) -> None:
    """Draws stripes in the hue and the direction of the taste."""
    try:
        from PIL import Image as PillowImage
    except ImportError as error:
        raise MissingPackageError("pictures need Pillow: pip install 'gnnrec[image]'") from error
    angle = np.pi * taste / len(_NAMES)
    row, column = np.mgrid[:_PICTURE_SIZE, :_PICTURE_SIZE]
    stripes = np.sin(0.6 * (column * np.cos(angle) + row * np.sin(angle)) + rng.uniform(0, 2 * np.pi))
    colour = np.array(colorsys.hsv_to_rgb(taste / len(_NAMES), 0.8, 0.8))
    pixels = colour * (0.75 + 0.25 * stripes[..., None]) + rng.normal(0, 0.08, (_PICTURE_SIZE, _PICTURE_SIZE, 3))
    PillowImage.fromarray((pixels.clip(0, 1) * 255).astype(np.uint8)).save(path)


def _write_sound(path: Path, taste: int, rng: np.random.Generator) -> None:
    """Plays the major chord on the taste's own root, under noise, as 16-bit mono."""
    time = np.arange(int(_SOUND_SECONDS * _SAMPLE_RATE)) / _SAMPLE_RATE
    root = 220.0 * 2 ** (taste / 4)
    chord = sum(np.sin(2 * np.pi * root * ratio * time + rng.uniform(0, 2 * np.pi)) for ratio in (1, 5 / 4, 3 / 2))
    signal = 0.2 * chord + rng.normal(0, 0.05, len(time))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_SAMPLE_RATE)
        file.writeframes((signal.clip(-1, 1) * 32767).astype("<i2").tobytes())
