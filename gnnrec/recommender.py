"""The recommender: from a data set to ranked items, for known and new people and items."""

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gnnrec.config import from_dict, to_dict
from gnnrec.data.build import build_dataset
from gnnrec.data.cleaning import Cleaning
from gnnrec.data.dataset import Dataset
from gnnrec.data.frames import to_library
from gnnrec.data.ids import IdArray
from gnnrec.data.schema import Vectors
from gnnrec.errors import ConfigError, DataError, NotFittedError
from gnnrec.evaluation.protocol import DEFAULT_METRICS, Evaluation
from gnnrec.export.parquet import export_parquet
from gnnrec.fitting import FitReport, fit_state, resolve_device
from gnnrec.growth import positive_events, with_events, with_new_items, without_items
from gnnrec.held_out import evaluate_state
from gnnrec.presets import RecommenderConfig, preset
from gnnrec.ranking import rank_beside_items, rank_for_histories, rank_for_users
from gnnrec.search import Queries, Searcher
from gnnrec.state import RecommenderState, load_state, save_state
from gnnrec.training.distributed import ALONE, joined
from gnnrec.training_bar import training_bar

__all__ = ["Recommender", "load"]

logger = logging.getLogger(__name__)


class Recommender:
    """Learns from interactions and item media, and answers who would like what.

    A fitted recommender holds one frozen state. ``fit``, ``add_items``, ``remove_items`` and ``update`` build a new one
    and then swap the reference, so a failure changes nothing.

    Args:
        embedding_dim: Width of the vectors of users and items.
        config: A whole configuration, which the options then change; the defaults when not given.
        **options: Any option of :class:`~gnnrec.presets.RecommenderConfig` or its groups by its name, such as
            ``hops=3``, ``loss="bpr"``, ``epochs=20``, ``seed=1``, ``device="cuda"``.

    Raises:
        ConfigError: An unknown option or an impossible value.
    """

    def __init__(
        self, embedding_dim: int | None = None, *, config: RecommenderConfig | None = None, **options: Any
    ) -> None:
        if embedding_dim is not None:
            options["embedding_dim"] = embedding_dim
        self.config = (config or RecommenderConfig()).with_options(options)
        self.fit_report: FitReport | None = None
        self._searcher: Searcher | None = None
        self._state: RecommenderState | None = None
        self._changing = threading.RLock()  # one change at a time; who reads sees the state before or after it

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out of a copy what belongs to this process: the lock, and encoders that are loaded."""
        return {**vars(self), "_searcher": None, "_changing": None}

    def __setstate__(self, copied: dict[str, Any]) -> None:
        vars(self).update(copied, _changing=threading.RLock())

    @classmethod
    def preset(cls, name: str, **options: Any) -> Self:
        """Returns an unfitted recommender configured as a published model (see ``gnnrec.presets.PRESETS``).

        Raises:
            ConfigError: There is no such preset or option.
        """
        return cls(config=preset(name), **options)

    @property
    def state(self) -> RecommenderState:
        """The fitted state.

        Raises:
            NotFittedError: ``fit`` was not called.
        """
        if self._state is None:
            raise NotFittedError("this recommender is not fitted; call fit, or gnnrec.load")
        return self._state

    @property
    def history(self) -> pd.DataFrame:
        """One row per training epoch: loss, its terms, validation metrics, seconds."""
        return pd.DataFrame([dict(record) for record in self.state.history])

    def fit(
        self,
        train: Dataset,
        valid: Dataset | None = None,
        *,
        refit: bool = False,
        warm_start: bool = False,
        run_dir: str | Path | None = None,
        resume: bool = False,
        cache_dir: str | Path | None = None,
        progress: bool = True,
        distributed: bool = False,
    ) -> Self:
        """Learns from a data set.

        Args:
            train: What to learn from.
            valid: What chooses the best epoch. It enters neither the graph nor the loss, unless ``refit`` is set, and
                may hold unseen users and items. When not given, a tenth of the pairs is held out.
            refit: Fit once more on all pairs, those of ``valid`` between known users and items too, for as many epochs
                as were best.
            warm_start: Go on from the weights of the present fit. Known users and items, matched by id, keep what they
                learned, new ones start afresh; the optimiser does, too. Whether histories are read in order
                (``sequence_encoder="auto"``) stays as it was.
            run_dir: Folder for a checkpoint after every epoch.
            resume: Go on from the checkpoint in ``run_dir``; the result equals that of an uninterrupted run.
            cache_dir: Folder of encoded media (default ``GNNREC_CACHE_DIR`` or ``~/.cache/gnnrec``).
            progress: Show progress bars where standard error is a terminal.
            distributed: Train together with the other processes that torchrun started. All of them make this call with
                the same data, and all hold the same fitted recommender after it (docs/distributed.md).

        Raises:
            DataError: The data cannot be learned from.
            ConfigError: An option does not fit the data, a checkpoint belongs to another run, the model to go on
                from has other options, modalities or relations, or ``distributed`` in a process that was started alone.
            NotFittedError: ``warm_start`` without an earlier fit.
            UnsupportedError: ``warm_start`` of a ranker that does not train.
        """
        with (
            joined() if distributed else nullcontext(ALONE) as processes,
            training_bar(self.config, enabled=progress and processes.leads) as on_epoch,
        ):
            state, report = fit_state(
                train,
                valid,
                self.config,
                refit=refit,
                run_dir=_path(run_dir),
                resume=resume,
                cache_dir=_path(cache_dir),
                progress=progress and processes.leads,
                on_epoch=on_epoch,
                warm_start=self.state if warm_start else None,
                processes=processes,
            )
        with self._changing:
            self._state, self.fit_report = state, report
        return self

    def recommend(
        self,
        users: Any,
        k: int = 10,
        *,
        exclude_seen: bool = True,
        include_items: Iterable[Any] | None = None,
        exclude_items: Iterable[Any] | None = None,
        on_unknown: Literal["raise", "skip", "popular"] = "raise",
        new_item_share: float | None = None,
    ) -> Any:
        """Ranks items for known users.

        Args:
            users: Ids of the users.
            k: Items per user; fewer when fewer are left.
            exclude_seen: Leave out what the user had in training or validation.
            include_items: Only these items.
            exclude_items: None of these items.
            on_unknown: For an unknown user ``raise``, ``skip`` the user, or give the most ``popular`` items.
            new_item_share: Share of the ``k`` places, rounded, that is kept for items without interactions; the rest is
                for the others. Each kind takes the places that the other cannot fill. ``None``: by score alone.

        Returns:
            A frame ``user_id, item_id, score, rank`` in the library of the fitted log, in the order of ``users``.

        Raises:
            UnknownIdError: An unknown user or filtered item.
            ConfigError: ``k`` is not positive, ``on_unknown`` is none of the three, or the share lies outside [0, 1].
        """
        frame = rank_for_users(
            self.state,
            users,
            k,
            exclude_seen=exclude_seen,
            include_items=include_items,
            exclude_items=exclude_items,
            on_unknown=on_unknown,
            new_item_share=new_item_share,
        )
        return to_library(frame, self.state.catalogue.frame_library)

    def recommend_for(
        self,
        histories: Sequence[Iterable[Any]] | Mapping[Any, Iterable[Any]],
        k: int = 10,
        *,
        profiles: Any = None,
        user_vectors: Mapping[str, Vectors] | None = None,
        exclude_seen: bool = True,
        include_items: Iterable[Any] | None = None,
        exclude_items: Iterable[Any] | None = None,
        new_item_share: float | None = None,
    ) -> Any:
        """Ranks items for people without an id, from what they chose (fold-in) and what is known of them.

        Args:
            histories: One collection of item ids per person, or a mapping from a name to it; an item counts once. The
                oldest comes first, where order counts. An empty history without a profile gets what people like on
                average.
            k: Items per person; fewer when fewer are left.
            profiles: A frame or path with the media columns of the fitted user table and ``user_id``, which holds the
                names, or the positions, of the histories. Not everybody needs a row.
            user_vectors: Modality of users → vectors with those names as ids, instead of or beside the columns.
            exclude_seen: Leave out the items of the history.
            include_items: Only these items.
            exclude_items: None of these items.
            new_item_share: As for :meth:`recommend`.

        Returns:
            A frame ``query, item_id, score, rank``; ``query`` is the name or the position of the history.

        Raises:
            UnknownIdError: A history holds an unknown item.
            ConfigError: ``k`` is not positive, or the share lies outside [0, 1].
            DataError: A profile of nobody here, without a known medium, or of another width.
            EncoderError: The encoder of the fit is not to be had.
            UnsupportedError: The model has no use for profiles.
        """
        frame = rank_for_histories(
            self.state,
            histories,
            k,
            profiles=profiles,
            user_vectors=user_vectors,
            exclude_seen=exclude_seen,
            include_items=include_items,
            exclude_items=exclude_items,
            new_item_share=new_item_share,
            device=self.config.device,
        )
        return to_library(frame, self.state.catalogue.frame_library)

    def similar_items(self, items: Any, k: int = 10) -> Any:
        """Finds the items most like the given ones, which may be removed ones.

        Returns:
            A frame ``query, item_id, score, rank``; an item is not its own neighbour.

        Raises:
            UnknownIdError: An unknown item.
            ConfigError: ``k`` is not positive.
        """
        return to_library(rank_beside_items(self.state, items, k), self.state.catalogue.frame_library)

    def search(
        self,
        text: Any = None,
        image: Any = None,
        audio: Any = None,
        k: int = 10,
        *,
        within: str | None = None,
        weights: Mapping[str, float] | None = None,
        user: Any = None,
        include_items: Iterable[Any] | None = None,
        exclude_items: Iterable[Any] | None = None,
    ) -> Any:
        """Finds the items that match words, a picture, a sound, or several of these at once.

        The score of a single medium is a cosine. Where several are given, or a user, each one's scores are brought to
        mean 0 and deviation 1 over the items that have any, and the score is their weighted mean. An item that lacks
        one of them is average in it.

        Args:
            text: A string, or a list of strings for many queries at once.
            image: A path, a PIL picture or an array ``[height, width, 3]``, or a list of them.
            audio: A path or a pair (waveform, samples per second), or a list of them.
            k: Items per query; fewer when fewer are left.
            within: The modality that is to match, such as ``"poster"``. ``None``: the whole item, which is the mean of
                its modalities in the space that ``fit`` learned for them.
            weights: Weight of each thing given, such as ``{"text": 0.7, "image": 0.3}`` or ``{"text": 2, "user": 1}``;
                equal ones by default.
            user: Id of a known user, whose taste counts beside the query.
            include_items: Only these items.
            exclude_items: None of these items.

        Returns:
            A frame ``query, item_id, score, rank``; ``query`` is the text, or the position where there is none.

        Raises:
            ConfigError: No query, lists of unlike lengths, an unknown modality, or impossible weights or ``k``.
            MediaError: A query is empty, silent or cannot be read.
            UnknownIdError: An unknown user or filtered item.
            EncoderError: An encoder of the fit is not to be had.
            UnsupportedError: The model has no encoder for the query, or no space in which it could meet the items.
        """
        state = self.state
        if self._searcher is None:
            self._searcher = Searcher(resolve_device(self.config.device))
        frame = self._searcher.search(
            state,
            Queries.read(text, image, audio),
            k,
            within=within,
            weights=weights,
            user=user,
            include_items=include_items,
            exclude_items=exclude_items,
        )
        return to_library(frame, state.catalogue.frame_library)

    def add_items(
        self,
        items: Any = None,
        vectors: Mapping[str, Vectors] | None = None,
        relations: Mapping[str, Any] | None = None,
    ) -> Self:
        """Adds items that have media but no interactions; they can be recommended at once, without retraining.

        Answers for the items known before do not change.

        Args:
            items: A frame or path with ``item_id``, or what else a log may call it, and the media columns of the fitted
                item table.
            vectors: Modality → vectors of the new items, instead of or beside the columns.
            relations: Relation between items that the fit knew → a frame or path with ``source_id``, ``target_id`` and
                optionally ``weight``, above 0: what new items have to do with known ones and with each other. Edges
                with an unknown end, and those between known items, have no effect; the log says how many there were.

        Raises:
            DataError: An id that exists or was removed, an unknown modality or relation, vectors of another width, or
                an item without media that is not related to one with media either.
            EncoderError: The encoder of the fit is not to be had.
            UnsupportedError: The ranker cannot add items, or not by relations.
        """
        device = resolve_device(self.config.device)
        with self._changing:
            self._state = with_new_items(self.state, items, vectors, relations, device=device)
        return self

    def remove_items(self, item_ids: Iterable[Any]) -> Self:
        """Takes items out of all answers, measurements and exports, at once and until the next fit.

        They stay in the histories of the people who chose them, whose vectors do not change, and new events on them
        still count. Their ids are not free for other items.

        Args:
            item_ids: Ids of items.

        Raises:
            UnknownIdError: An id that is unknown or was removed already.
        """
        with self._changing:
            self._state = without_items(self.state, item_ids)
        return self

    def update(
        self,
        interactions: Any,
        items: Any = None,
        vectors: Mapping[str, Vectors] | None = None,
        relations: Mapping[str, Any] | None = None,
        *,
        cleaning: Cleaning | None = Cleaning(),
        columns: Mapping[str, str] | None = None,
    ) -> Self:
        """Takes in new events of known and new users without retraining.

        Users with new pairs get new vectors, as one propagation step from their whole history gives them. Items without
        training interactions move towards those who chose them; the vectors of others stay until the next fit. Events
        that repeat a known pair change nothing, and late events count like all others; the log says how many there
        were. Where order counts (``sequence_encoder``, ``linear_decay``) new events come behind all older ones. Where
        the fitted log had ``positive_from``, events of smaller weight are left out here as well; in a log without
        weights all events are positive.

        Args:
            interactions: A log as for :meth:`gnnrec.Dataset.from_frames`.
            items: New items that the events may be on, as for :meth:`add_items`; all or nothing is taken in.
            vectors: Their vectors, as for :meth:`add_items`.
            relations: What they have to do with other items, as for :meth:`add_items`.
            cleaning: What to remove from the log; ``None`` makes an invalid row an error.
            columns: Role → column name, where it is not a known alias.

        Raises:
            UnknownIdError: An item is neither in the catalogue nor among the new ones.
            DataError: The log cannot be used, or the new items cannot.
            UnsupportedError: The ranker cannot add items.
        """
        known = self.state.catalogue
        log = build_dataset(interactions, cleaning=cleaning, columns=columns, text_ids=known.text_ids)
        events = positive_events(log.events, known.positive_from)
        user_ids, item_ids = log.users.ids_of(events.user_index), log.items.ids_of(events.item_index)
        with self._changing:
            state = self.state
            if items is not None or vectors is not None:
                device = resolve_device(self.config.device)
                state = with_new_items(state, items, vectors, relations, device=device)
            elif relations is not None:
                raise DataError("relations= are those of new items; give items= or vectors= beside them")
            self._state = with_events(state, user_ids, item_ids, events.timestamp)
        return self

    def embeddings(self, kind: Literal["user", "item"] = "item") -> tuple[IdArray, NDArray[np.float32]]:
        """Returns the ids ``[n]`` and vectors ``[n, dim]`` whose inner product is the score; not of removed items.

        They are wider than ``embedding_dim`` where the likeness of content to histories counts in the scores. A
        ``linear_part`` adds to the product.

        Raises:
            UnsupportedError: The ranker has no vectors.
            ConfigError: ``kind`` is neither ``user`` nor ``item``.
        """
        if kind not in ("user", "item"):
            raise ConfigError(f"there are embeddings of 'user' and 'item', not of {kind!r}")
        vectors = self.state.ranker.vectors(kind).numpy()
        if kind == "user":
            return self.state.users.ids, vectors.copy()
        kept = np.delete(np.arange(len(vectors)), self.state.removed)
        return self.state.items.ids[kept], vectors[kept]

    def evaluate(
        self,
        test: Dataset,
        metrics: Sequence[str] = DEFAULT_METRICS,
        *,
        mask: Literal["train+valid", "train"] = "train+valid",
        candidates: Literal["all", "cold"] = "all",
        history: Dataset | None = None,
    ) -> Evaluation:
        """Measures the ranking of all items against held-out events.

        Items and users of ``test`` that training never saw are attached by the code of :meth:`add_items` and
        :meth:`update`, on a state that is then thrown away. Events on removed items count as missed. Where the fitted
        log had ``positive_from``, events of smaller weight are left out here as well, unless the data set was built
        with a threshold of its own.

        Args:
            test: The held-out events.
            metrics: Names such as ``recall@20``.
            mask: Which pairs are hidden from the rankings: ``train+valid``, or ``train`` as MMRec does.
            candidates: Rank ``all`` items, or only ``cold`` ones (without training interactions).
            history: Events by which unseen users are folded in; of the others at most their media in ``test`` tell.

        Raises:
            ConfigError: An unknown metric or option.
        """
        device = resolve_device(self.config.device)
        return evaluate_state(
            self.state, test, metrics, mask=mask, candidates=candidates, history=history, device=device
        )

    def export(self, path: str | Path, formats: Sequence[str] = ("parquet",)) -> list[Path]:
        """Writes the embeddings for other programs; returns the files.

        The log says if the scores hold a ``linear_part`` that the embeddings lack.

        Args:
            path: Folder to write into.
            formats: ``parquet``: ``items.parquet`` and ``users.parquet`` with an id and an ``embedding`` column.

        Raises:
            ConfigError: An unknown format.
            StorageError: The folder cannot be written.
            UnsupportedError: The ranker has no vectors.
        """
        if not isinstance(formats, list | tuple) or set(formats) != {"parquet"}:
            raise ConfigError(f"unknown export formats {formats!r}; give a list, and choose from 'parquet'")
        files = export_parquet(self.embeddings("user"), self.embeddings("item"), Path(path))
        if "linear" in self.state.ranker.capabilities:
            logger.warning(
                "recommend adds a linear part to the products of these vectors; "
                "fit with linear_part='none' where they have to rank alike"
            )
        return files

    def save(self, path: str | Path) -> None:
        """Writes the fitted recommender as a folder of safetensors, Parquet and JSON files, all or nothing.

        Raises:
            NotFittedError: There is nothing to save.
            StorageError: The folder cannot be written; what was there before survives.
        """
        save_state(self.state, path, to_dict(self.config))

    def __repr__(self) -> str:
        if self._state is None:
            return f"Recommender(ranker={self.config.ranker!r}, not fitted)"
        return (
            f"Recommender(ranker={self.config.ranker!r}, {len(self.state.users)} users, {len(self.state.items)} items)"
        )


def load(path: str | Path) -> Recommender:
    """Reads a recommender that :meth:`Recommender.save` wrote; it answers bit for bit as before.

    One that was fitted on a device that is not here goes on with ``device="auto"``, and the log says so.

    Raises:
        StorageError: The folder is absent, damaged, altered, or of a newer format.
    """
    state, config = load_state(path)
    recommender = Recommender(config=_for_this_machine(from_dict(RecommenderConfig, config)))
    recommender._state = state
    return recommender


def _for_this_machine(config: RecommenderConfig) -> RecommenderConfig:
    try:
        resolve_device(config.device)
    except ConfigError:
        logger.warning("fitted with device=%r, which is not here; going on with device='auto'", config.device)
        return config.with_options({"device": "auto"})
    return config


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)
