"""Turns the texts of events into weights: how favourable each is, from 0 to 1."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from gnnrec.errors import EncoderError, MissingPackageError
from gnnrec.modalities.hub import load_hub_model

__all__ = ["NEUTRAL", "sentiment_weights"]

NEUTRAL = 0.5  # what a text without any sentiment weighs, and an event without text

_WORST, _BEST = ("negative", "neg", "very negative", "1 star"), ("positive", "pos", "very positive", "5 stars")


def sentiment_weights(
    texts: Any, model: str = "vader", *, max_tokens: int = 256, device: str = "cpu", batch_size: int = 32
) -> NDArray[np.float32]:
    """Weighs texts by their sentiment, to be the ``weight`` column of a log.

    Args:
        texts: ``[num_events]`` a column of texts; empty cells are neutral.
        model: ``vader``, rules and a lexicon for English (Hutto & Gilbert 2014), without weights to load; or a
            transformers classifier by hub name or folder, whose labels run from negative to positive or count stars.
        max_tokens: A classifier reads so much of a text.
        device: Where a classifier computes.
        batch_size: Texts that a classifier reads at a time.

    Returns:
        ``[num_events]`` from 0 (wholly negative) by 0.5 (neutral, or no text) to 1 (wholly positive): VADER's compound
        score moved from [-1, 1]; of a classifier the expected label, the labels being evenly spaced.

    Raises:
        EncoderError: The classifier cannot be loaded, or its labels are no sentiments.
        MissingPackageError: A package is not installed.
    """
    column = pd.Series(texts, dtype=object)
    there = (column.notna() & (column.astype(str).str.strip() != "")).to_numpy()
    weights = np.full(len(column), NEUTRAL, dtype=np.float32)
    # Short texts together: a batch is padded to its longest. Equal texts are read once.
    codes, distinct = pd.factorize(column[there].astype(str))
    order = np.argsort([len(text) for text in distinct], kind="stable")
    ordered = [distinct[position] for position in order]
    scores = np.empty(len(distinct), dtype=np.float32)
    scores[order] = _vader(ordered) if model == "vader" else _classified(ordered, model, max_tokens, device, batch_size)
    weights[there] = scores[codes]
    return weights


def _vader(texts: Sequence[str]) -> NDArray[np.float32]:
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    except ImportError as error:
        raise MissingPackageError("the sentiment 'vader' needs a package: pip install 'gnnrec[language]'") from error

    analyzer = SentimentIntensityAnalyzer()
    compound = np.array([analyzer.polarity_scores(text)["compound"] for text in texts], dtype=np.float32)
    return ((1 + compound) / 2).astype(np.float32)


@torch.inference_mode()
def _classified(texts: Sequence[str], name: str, max_tokens: int, device: str, batch_size: int) -> NDArray[np.float32]:
    loaded = load_hub_model(
        name, "AutoTokenizer", device=device, extra="text", model_class="AutoModelForSequenceClassification"
    )
    steps = torch.linspace(0, 1, len(_sentiments(name, loaded.model.config.id2label)))
    scores = np.empty(len(texts), dtype=np.float32)
    for start in range(0, len(texts), batch_size):
        batch = list(texts[start : start + batch_size])
        tokens = loaded.preprocessor(
            batch, padding=True, truncation=True, max_length=max_tokens, return_tensors="pt"
        ).to(device)
        share = loaded.model(**tokens).logits.float().softmax(dim=1).cpu()
        scores[start : start + len(batch)] = (share @ steps).numpy()
    return scores


def _sentiments(name: str, labels: dict[int, str]) -> list[str]:
    """Returns the labels of a classifier from worst to best, or refuses them."""
    ordered = [labels[number] for number in sorted(labels)]
    if ordered[0].lower() not in _WORST or ordered[-1].lower() not in _BEST:
        raise EncoderError(
            f"the labels of {name!r} are {', '.join(ordered)}; sentiment needs a classifier whose labels run from "
            f"negative to positive or from '1 star' to '5 stars'"
        )
    return ordered
