"""Turns item texts into short profiles that a local language model writes: what an item is, and for whom."""

import contextlib
import json
import logging
import sqlite3
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.progress import track

from gnnrec.data.frames import to_library
from gnnrec.errors import ConfigError, EncoderError
from gnnrec.modalities.hub import HubModel, load_hub_model
from gnnrec.modalities.item_texts import read_item_texts
from gnnrec.storage import default_cache_dir

__all__ = ["PROMPT", "item_profiles"]

logger = logging.getLogger(__name__)

_SPARE_TOKENS = 8  # a text that was cut may be a few tokens longer when it is read again

PROMPT = """Here is what a catalogue says about one of its items:

{text}

Write two sentences: what the item is and how it feels, and what kind of person would like it. Use only what is said \
above."""


def item_profiles(
    items: Any,
    columns: str | Sequence[str],
    model: str,
    *,
    prompt: str = PROMPT,
    max_new_tokens: int = 96,
    max_text_tokens: int = 512,
    batch_size: int = 8,
    device: str = "cpu",
    cache_dir: str | Path | None = None,
    progress: bool = False,
) -> Any:
    """Lets a causal language model write a profile of each item, always the most probable next token (greedy).

    No other part of gnnrec calls this: look at the profiles, then add them to the item table as a text column. They are
    kept in ``profiles.sqlite`` of the cache folder under the digest of weights, prompt and text, batch by batch.

    Args:
        items: A frame or path with ``item_id`` and the text columns.
        columns: One text column or several, which are joined.
        model: Any causal transformers model, by hub name or folder.
        prompt: What is asked; ``{text}`` in it stands for the item's text. It goes through the model's chat template
            if the model has one.
        max_new_tokens: The longest profile.
        max_text_tokens: Longer texts are cut, and the log says how many were.
        batch_size: Items at a time. Items of like length share a batch, since padding costs time.
        device: Where the model computes.
        cache_dir: The cache folder; ``GNNREC_CACHE_DIR`` or ``~/.cache/gnnrec`` when not given.
        progress: Show a progress bar where standard error is a terminal.

    Returns:
        A frame ``item_id, profile`` of the library of ``items``. Items without text have no row.

    Raises:
        ConfigError: A number is below 1, the prompt does not hold ``{text}`` once, or leaves no room for it.
        DataError: A column is absent.
        EncoderError: The model cannot be loaded.
        MissingPackageError: transformers is not installed.
    """
    for name, value in (
        ("max_new_tokens", max_new_tokens),
        ("max_text_tokens", max_text_tokens),
        ("batch_size", batch_size),
    ):
        if value < 1:
            raise ConfigError(f"item_profiles: option {name!r} is at least 1, not {value}")
    if prompt.count("{text}") != 1:
        raise ConfigError("item_profiles: the prompt holds {text} once, in the place of the item's text")
    given = read_item_texts(items, columns, "profiles")
    writer = _Writer(model, device, max_new_tokens)
    questions = writer.questions(given.texts, prompt, max_text_tokens)
    keys = pd.Series([writer.key(question) for question in questions], dtype=object)
    cache = _ProfileCache(Path(cache_dir) if cache_dir is not None else default_cache_dir())
    profiles = cache.get(keys.tolist())
    num_cached = int(keys.isin(profiles).sum())

    # Each different question once, like lengths together.
    pending = np.flatnonzero(~keys.isin(profiles) & ~keys.duplicated())
    pending = pending[np.argsort([len(questions[i]) for i in pending], kind="stable")]
    console = Console(stderr=True)
    shown = progress and console.is_terminal
    batches = np.split(pending, range(batch_size, len(pending), batch_size)) if len(pending) else []
    for batch in track(batches, "profiles", console=console, disable=not shown):
        written = dict(zip(keys.iloc[batch], writer.write([questions[i] for i in batch]), strict=True))
        cache.put(written)
        profiles |= written
    logger.info("%d profiles, %d of them from the cache; %d items without text", len(keys), num_cached, given.missing)
    return to_library(pd.DataFrame({"item_id": given.item_id, "profile": keys.map(profiles)}), given.library)


class _Writer:
    """A language model that answers questions, greedily and in batches."""

    def __init__(self, name: str, device: str, max_new_tokens: int) -> None:
        # Padding on the left: a causal model goes on from the last place.
        options = {"extra": "text", "model_class": "AutoModelForCausalLM", "padding_side": "left"}
        try:
            self._loaded: HubModel = load_hub_model(name, "AutoTokenizer", device=device, **options)
        except EncoderError as error:
            raise EncoderError(
                f"no language model {name!r}: name one of the Hugging Face hub, or the folder of one where there is no "
                f"network ({str(error).partition('. Without a network')[0]})"
            ) from error
        self._model, self._tokenizer = self._loaded.model, self._loaded.preprocessor
        if self._tokenizer.pad_token is None:  # language models are trained without padding
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._device, self._max_new_tokens = device, max_new_tokens

    def questions(self, texts: Sequence[str], prompt: str, max_text_tokens: int) -> list[str]:
        """Returns the prompt with each text, cut to the allowed length and to what the model can hold."""
        before, _, after = self._templated(prompt).partition("{text}")
        room = max_text_tokens
        positions = getattr(self._model.config, "max_position_embeddings", None)
        if positions is not None:
            taken = self._max_new_tokens + len(self._tokens(before)) + len(self._tokens(after)) + _SPARE_TOKENS
            room = min(room, positions - taken)
        if room < 1:
            raise ConfigError(
                f"the prompt and max_new_tokens={self._max_new_tokens} fill the {positions} tokens that "
                f"{self._loaded.name!r} can hold; shorten them"
            )
        cut = [self._cut(text, room) for text in texts]
        num_cut = sum(short != text for short, text in zip(cut, texts, strict=True))
        if num_cut:
            logger.info("%d of %d texts cut to %d tokens", num_cut, len(texts), room)
        return [before + text + after for text in cut]

    def key(self, question: str) -> str:
        """Returns the key of an answer: everything that it depends on."""
        return sha256(json.dumps([self._loaded.sha256, self._max_new_tokens, question]).encode()).hexdigest()

    @torch.inference_mode()
    def write(self, questions: list[str]) -> list[str]:
        """Returns the answers, without the questions."""
        tokens = self._tokenizer(questions, padding=True, add_special_tokens=False, return_tensors="pt")
        ids, mask = tokens["input_ids"].to(self._device), tokens["attention_mask"].to(self._device)
        answers = self._model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=self._max_new_tokens,
            do_sample=False,
            num_beams=1,
            pad_token_id=self._tokenizer.pad_token_id,
        )
        answers = self._tokenizer.batch_decode(answers[:, ids.shape[1] :], skip_special_tokens=True)
        return [answer.strip() for answer in answers]

    def _templated(self, prompt: str) -> str:
        """Returns the prompt as the model was trained to read one, special tokens written out."""
        if self._tokenizer.chat_template is None:
            return (self._tokenizer.bos_token or "") + prompt + "\n\n"
        chat = [{"role": "user", "content": prompt}]
        return cast(str, self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))

    def _tokens(self, text: str) -> list[int]:
        return cast(list[int], self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _cut(self, text: str, num_tokens: int) -> str:
        """Returns the text itself if it is short enough, else the beginning of it."""
        tokens = self._tokens(text)
        return text if len(tokens) <= num_tokens else self._tokenizer.decode(tokens[:num_tokens])


class _ProfileCache:
    """Profiles in an SQLite file; where it cannot be used a warning says so and nothing is kept."""

    def __init__(self, folder: Path) -> None:
        self._file, self._usable = folder / "profiles.sqlite", True
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with self._connection() as connection:
                connection.execute("CREATE TABLE IF NOT EXISTS profiles (key TEXT PRIMARY KEY, profile TEXT NOT NULL)")
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)

    def get(self, keys: list[str]) -> dict[str, str]:
        """Returns the profiles that are there."""
        query = "SELECT profiles.key, profile FROM json_each(?) AS wanted JOIN profiles ON profiles.key = wanted.value"
        if self._usable:
            try:
                with self._connection() as connection:
                    return dict(connection.execute(query, (json.dumps(keys),)))
            except sqlite3.Error as error:
                self._give_up(error)
        return {}

    def put(self, profiles: dict[str, str]) -> None:
        """Adds profiles for good."""
        if self._usable:
            try:
                with self._connection() as connection:
                    connection.executemany("INSERT OR REPLACE INTO profiles VALUES (?, ?)", profiles.items())
                    connection.commit()
            except sqlite3.Error as error:
                self._give_up(error)

    def _connection(self) -> contextlib.closing[sqlite3.Connection]:
        return contextlib.closing(sqlite3.connect(self._file, timeout=60))

    def _give_up(self, error: Exception) -> None:
        logger.warning("item profiles are not cached in %s: %s", self._file, error)
        self._usable = False
