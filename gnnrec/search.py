"""Turns queries of words, pictures and sounds into ranked items."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from gnnrec.answers import allowed_items, ranked_frame
from gnnrec.errors import ConfigError
from gnnrec.matching import Match, Matcher
from gnnrec.modalities.query import Medium, QueryEncoders
from gnnrec.state import RecommenderState

__all__ = ["Queries", "Searcher"]


@dataclass(frozen=True, eq=False)
class Queries:
    """What is searched for: one or many queries, each in one medium or several.

    Attributes:
        media: Medium → one entry per query.
        labels: ``[num_queries]`` what the answers are labelled with: the texts, or positions where there are none.
    """

    media: Mapping[Medium, Sequence[Any]]
    labels: pd.Series

    @classmethod
    def read(cls, text: Any = None, image: Any = None, audio: Any = None) -> "Queries":
        """Reads single queries and lists of them; a single one stands beside each of a list.

        Args:
            text: A string.
            image: A path, a PIL picture or an array ``[height, width, 3]``.
            audio: A path or a pair (waveform, samples per second).

        Raises:
            ConfigError: No query at all, or lists of unlike lengths.
        """
        given: dict[Medium, Any] = {"text": text, "image": image, "audio": audio}
        given = {medium: value for medium, value in given.items() if value is not None}
        lists = {medium: list(value) for medium, value in given.items() if _is_list(medium, value)}
        lengths = {medium: len(values) for medium, values in lists.items()}
        if not given or 0 in lengths.values():
            raise ConfigError("there is no query; give text=, image= or audio=, or a list that is not empty")
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{count} of {medium}" for medium, count in lengths.items())
            raise ConfigError(f"lists of queries must be equally long, not {shown}")
        num_queries = next(iter(lengths.values()), 1)
        media = {medium: lists.get(medium, [value] * num_queries) for medium, value in given.items()}
        labels = pd.Series(np.arange(num_queries) if text is None else media["text"], dtype=object)
        return cls(media, labels)


class Searcher:
    """Searches fitted states. It keeps the encoders that it loaded and, until the state changes, the item vectors.

    Args:
        device: Where encoders compute.
    """

    def __init__(self, device: str = "cpu") -> None:
        self._encoders = QueryEncoders(device)
        self._matcher: Matcher | None = None

    def search(
        self,
        state: RecommenderState,
        queries: Queries,
        k: int = 10,
        *,
        within: str | None = None,
        weights: Mapping[str, float] | None = None,
        user: Any = None,
        include_items: Iterable[Any] | None = None,
        exclude_items: Iterable[Any] | None = None,
    ) -> pd.DataFrame:
        """Ranks items for queries; see :meth:`gnnrec.Recommender.search`."""
        parts = [*queries.media, *([] if user is None else ["user"])]
        shares = _shares(parts, weights)
        taste = None if user is None else state.ranker.score(state.users.index_of([user]))
        matcher = self._matcher  # which another thread may replace by that of another state
        if matcher is None or matcher.state is not state:
            matcher = self._matcher = Matcher(state, self._encoders)
        matches = [matcher.match(medium, media, within) for medium, media in queries.media.items()]
        found = torch.stack([match.items.present for match in matches]).any(dim=0)

        def score(rows: NDArray[np.int64]) -> Tensor:
            if len(parts) == 1:
                return _cosines(matches[0], rows).masked_fill(~found, -math.inf)
            scores = [_standardised(_cosines(match, rows), match.items.present) for match in matches]
            if taste is not None:
                scores.append(_standardised(taste, found).expand(len(rows), -1))
            mixed = torch.stack([share * part for share, part in zip(shares, scores, strict=True)]).sum(dim=0)
            return mixed.masked_fill(~found, -math.inf)

        allowed = allowed_items(state.items, state.removed, include_items, exclude_items)
        return ranked_frame(score, queries.labels.infer_objects(), "query", state.items, k, allowed=allowed)


def _is_list(medium: Medium, value: Any) -> bool:
    """Says whether a value is many queries: a pair (waveform, samples per second) is one, an array of texts is many."""
    if isinstance(value, np.ndarray):
        return value.ndim > {"text": 0, "image": 3, "audio": 2}[medium]
    if medium == "audio" and isinstance(value, tuple):
        return not (len(value) == 2 and isinstance(value[0], np.ndarray))
    return isinstance(value, Iterable) and not isinstance(value, str | Path) and not _is_picture(value)


def _is_picture(value: Any) -> bool:
    return hasattr(value, "getbands")  # a PIL image; Pillow itself need not be installed


def _shares(parts: Sequence[str], weights: Mapping[str, float] | None) -> list[float]:
    """Returns the weight of each part of a query, which sum to 1.

    Raises:
        ConfigError: A weight of what was not given, none of what was, a negative one, or all zero.
    """
    if weights is None:
        return [1 / len(parts)] * len(parts)
    if set(weights) != set(parts):
        raise ConfigError(f"weights are given for {_listed(weights)}, but the query has {_listed(parts)}")
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, Real) or not 0 <= weight < math.inf:
            raise ConfigError(f"the weight of {name!r} must be a number of 0 or more, not {weight!r}")
    total = sum(weights.values())
    if total == 0:
        raise ConfigError("all weights are 0; at least one must be more")
    return [weights[part] / total for part in parts]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "nothing"


def _cosines(match: Match, rows: NDArray[np.int64]) -> Tensor:
    """Returns ``[len(rows), num_items]``."""
    return match.queries[torch.from_numpy(rows)] @ match.items.values.T


def _standardised(scores: Tensor, present: Tensor) -> Tensor:
    """Brings the scores of each row to mean 0 and deviation 1 over the items that have one; the others get 0."""
    known = scores[:, present]
    if known.shape[1] == 0:
        return torch.zeros_like(scores)
    spread = known.std(dim=1, correction=0, keepdim=True)
    noise = 1e-6 * known.abs().amax(dim=1, keepdim=True)  # what rounding makes of equal scores
    standardised = (scores - known.mean(dim=1, keepdim=True)) / spread.clamp(min=torch.finfo(scores.dtype).tiny)
    return standardised.masked_fill(~present | (spread <= noise), 0.0)
