"""Brings media in hand and the items of a fitted state into one space, where their cosine says how well they match."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gnnrec.config import suggest
from gnnrec.data.schema import Vectors
from gnnrec.errors import ConfigError, UnsupportedError
from gnnrec.modalities.features import Features, mean_per_owner
from gnnrec.modalities.query import Medium, QueryEncoders
from gnnrec.state import RecommenderState

__all__ = ["ItemVectors", "Match", "Matcher"]


@dataclass(frozen=True, eq=False)
class ItemVectors:
    """The items of a catalogue in one space.

    Attributes:
        values: ``[num_items, dim]`` rows of length 1, or zeros for an item that has no vector there.
        present: ``[num_items]`` bool: items that have one and were not removed.
    """

    values: Tensor
    present: Tensor


@dataclass(frozen=True, eq=False)
class Match:
    """Queries and items in one space.

    Attributes:
        queries: ``[num_queries, dim]`` rows of length 1.
        items: Where the items lie.
    """

    queries: Tensor
    items: ItemVectors


class Matcher:
    """Matches media with the items of one state; the item vectors are computed when first needed, and kept.

    Where the two meet, in order of preference:

    1. A query of the kind that a modality holds meets its items in the prepared vectors of that modality.
    2. A modality whose encoder is a joint one (CLIP, SigLIP, CLAP) meets the other kind of query in the raw vectors
       of that model, as it was trained.
    3. Everything else meets in the learned space of the state. Several modalities of the query's kind all read it;
       their unit vectors are averaged.

    Args:
        state: The fitted state.
        encoders: Who reads queries.
    """

    def __init__(self, state: RecommenderState, encoders: QueryEncoders) -> None:
        self.state = state
        self._encoders = encoders
        self._items: dict[tuple[str, str], ItemVectors] = {}
        self._features = {name: feature for name, feature in state.features.items() if feature.of == "item"}

    def match(self, medium: Medium, media: Sequence[Any], within: str | None = None) -> Match:
        """Encodes queries and finds the items to compare them with.

        Args:
            medium: What the queries are.
            media: The queries, as :meth:`gnnrec.modalities.query.QueryEncoders.encode` takes them.
            within: The modality to be matched; ``None``: the whole item, which is the mean of its modalities in the
                learned space.

        Raises:
            ConfigError: There is no such modality of items.
            MediaError: A query cannot be read.
            UnsupportedError: The fit left no space in which both could meet.
        """
        if within is not None:
            return self._within(medium, media, within)
        readers = self._readers(medium)
        space = self.state.space
        if space is not None and any(name in space.modalities for name in readers):
            return Match(self._in_space(readers, media), self._kept("space", "", self._whole_items))
        candidates = readers or [name for name in self._features if self._is_joint(name, medium)]
        if len(candidates) == 1:
            return self._within(medium, media, candidates[0])
        if candidates:
            raise UnsupportedError(
                f"this model has no common space of its modalities; say which one a query of {medium} is to match: "
                f"within={' or '.join(map(repr, candidates))}"
            )
        raise self._unreadable(medium)

    def _within(self, medium: Medium, media: Sequence[Any], name: str) -> Match:
        feature = self._feature(name)
        if name in self._readers(medium):
            return Match(self._prepared(name, media), self._kept("prepared", name, lambda: self._spread(feature)))
        if feature.encoder is not None and self._is_joint(name, medium):
            joint = self._encoders.encode_jointly(feature.encoder, medium, media)
            return Match(_unit(joint), self._kept("raw", name, lambda: self._spread(self._raw(feature))))
        readers, space = self._readers(medium), self.state.space
        if not readers:
            raise self._unreadable(medium)
        if space is None or name not in space.modalities or not any(reader in space.modalities for reader in readers):
            made_by = "vectors without an encoder" if feature.encoder is None else f"{feature.encoder.name!r}"
            raise UnsupportedError(
                f"a query of {medium} cannot be compared with modality {name!r} ({made_by}): their vectors come from "
                "different models, and this model learned no space that holds both. Fit again with encoders for both "
                "(gnnrec then aligns them), or use a joint encoder such as CLIP"
            )
        return Match(
            self._in_space(readers, media), self._kept("space", name, lambda: self._spread(self._projected(feature)))
        )

    def _feature(self, name: str) -> Features:
        if not isinstance(name, str):
            raise ConfigError(f"within is the name of a modality, not {name!r}")
        if name not in self._features:
            kind = "a modality of the users" if name in self.state.features else "no modality of this model"
            raise ConfigError(f"within: {name!r} is {kind}{suggest(name, self._features) if self._features else ''}")
        return self._features[name]

    def _readers(self, medium: Medium) -> list[str]:
        """Returns the modalities of items whose encoder takes such queries."""
        return [
            name
            for name, feature in self._features.items()
            if feature.encoder is not None and feature.encoder.modality == medium
        ]

    def _is_joint(self, name: str, medium: Medium) -> bool:
        card = self._features[name].encoder
        return card is not None and self._encoders.is_joint(card, medium)

    def _prepared(self, name: str, media: Sequence[Any]) -> Tensor:
        """Encodes and scales queries as the media of a modality were, ``[num_queries, dim]``."""
        card, spec = self._features[name].encoder, self.state.catalogue.modalities[name]
        assert card is not None
        assert not isinstance(spec, Vectors)
        raw = self._encoders.encode(name, spec, card, media)
        return _unit(self.state.preparation.scalers[name].transform(raw))

    def _in_space(self, readers: Sequence[str], media: Sequence[Any]) -> Tensor:
        """Returns the mean of what the modalities of the space that can read the queries make of them."""
        space = self.state.space
        assert space is not None
        read = [space.project(name, self._prepared(name, media)) for name in readers if name in space.modalities]
        return F.normalize(torch.stack(read).mean(dim=0))

    def _kept(self, space: str, name: str, make: Callable[[], ItemVectors]) -> ItemVectors:
        if (space, name) not in self._items:
            self._items[space, name] = make()
        return self._items[space, name]

    def _raw(self, feature: Features) -> Features:
        """Undoes the scaling: a joint encoder compares its vectors as they left it."""
        return replace(feature, values=self.state.preparation.scalers[feature.name].inverse(feature.values))

    def _projected(self, feature: Features) -> Features:
        assert self.state.space is not None
        return replace(feature, values=self.state.space.project(feature.name, feature.values).numpy())

    def _spread(self, feature: Features) -> ItemVectors:
        """Returns one row per item of the catalogue: the mean direction of the item's rows."""
        means, owners = mean_per_owner(feature)
        values = torch.zeros(len(self.state.items), feature.dim)
        values[owners] = F.normalize(means)
        return self._item_vectors(values, owners)

    def _whole_items(self) -> ItemVectors:
        """Returns the mean of each item's modalities in the learned space."""
        assert self.state.space is not None
        parts = [self._spread(self._projected(self._features[name])) for name in self.state.space.modalities]
        total = torch.stack([part.values for part in parts]).sum(dim=0)
        return self._item_vectors(F.normalize(total), torch.stack([part.present for part in parts]).any(dim=0))

    def _item_vectors(self, values: Tensor, there: Tensor) -> ItemVectors:
        """Hides removed items.

        Args:
            values: ``[num_items, dim]``.
            there: The items that have a vector: their positions, or ``[num_items]`` booleans.
        """
        present = torch.zeros(len(values), dtype=torch.bool)
        present[there] = True
        present[torch.from_numpy(self.state.removed)] = False
        return ItemVectors(values, present)

    def _unreadable(self, medium: Medium) -> UnsupportedError:
        read = sorted({feature.encoder.modality for feature in self._features.values() if feature.encoder is not None})
        given = [name for name, spec in self.state.catalogue.modalities.items() if spec.of == "item"]
        if given and not self._features:
            return UnsupportedError(
                f"no query of {medium}: this model learns from no media, so it read none of its items' "
                f"({', '.join(given)}). Fit one that does, such as the preset 'gnnrec' or 'content-knn'"
            )
        if not self._features:
            why = "was fitted without media of items"
        elif not read:
            why = f"knows its items by vectors alone ({', '.join(self._features)}), and no encoder that made them"
        else:
            why = f"reads {' and '.join(read)}"
        return UnsupportedError(
            f"no query of {medium}: this model {why}. Fit with a modality of {medium} that has an encoder"
        )


def _unit(values: NDArray[np.float32]) -> Tensor:
    return F.normalize(torch.from_numpy(values))
