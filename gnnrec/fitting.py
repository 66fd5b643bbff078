"""Turns a training set into a fitted state: encode the media, prepare the vectors, build the graph, fit the ranker."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from gnnrec.data.dataset import Dataset, Events
from gnnrec.data.ids import IdMap
from gnnrec.data.labels import item_labels
from gnnrec.data.pairs import pair_matrix
from gnnrec.data.schema import Vectors
from gnnrec.data.split import holdout
from gnnrec.errors import ConfigError, DataError, UnsupportedError
from gnnrec.evaluation.cold_start import arrivals
from gnnrec.evaluation.validation import ValidationPairs
from gnnrec.graph.build import build_graph
from gnnrec.modalities.encode import encode_dataset
from gnnrec.modalities.features import Features, MediaReport
from gnnrec.modalities.preparation import prepare
from gnnrec.nn.architectures import architecture
from gnnrec.presets import RecommenderConfig
from gnnrec.rankers import RANKERS, RankingTask
from gnnrec.rankers.base import WarmStart
from gnnrec.rankers.neural import NeuralRanker
from gnnrec.rankers.neural_config import NeuralConfig
from gnnrec.retrieval.aligned_space import AlignedSpace
from gnnrec.state import RecommenderState
from gnnrec.training.checkpoint import REFIT, forget_later_trainings
from gnnrec.training.distributed import ALONE, Processes
from gnnrec.training.loop import EpochRecord

__all__ = ["FitReport", "fit_state", "learns_from_media", "pairs_between", "resolve_device"]

logger = logging.getLogger(__name__)

_NOTHING = np.zeros(0, dtype=np.int64)
_MOST_COME_AFTER = 0.6


@dataclass
class FitReport:
    """What a fit took.

    Attributes:
        stage_seconds: Stage (``encode``, ``prepare``, ``align``, ``graph``, ``train``) → wall time.
        media: Modality → what was given, missing and unreadable.
    """

    stage_seconds: dict[str, float] = field(default_factory=dict)
    media: dict[str, MediaReport] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times one stage; a stage that runs twice adds up."""
        started = time.perf_counter()
        yield
        self.stage_seconds[name] = self.stage_seconds.get(name, 0.0) + time.perf_counter() - started


def fit_state(
    train: Dataset,
    valid: Dataset | None,
    config: RecommenderConfig,
    *,
    refit: bool = False,
    run_dir: Path | None = None,
    resume: bool = False,
    cache_dir: Path | None = None,
    progress: bool = False,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    features: Mapping[str, Features] | None = None,
    warm_start: RecommenderState | None = None,
    align: bool = True,
    processes: Processes = ALONE,
) -> tuple[RecommenderState, FitReport]:
    """Walks the whole road from a data set to a fitted state.

    Args:
        train: What the ranker learns from.
        valid: What chooses the best epoch; a tenth of the pairs of ``train`` is held out when not given.
        config: Every option.
        refit: Fit once more on all pairs, those of ``valid`` between known users and items too, for as many epochs as
            were best.
        run_dir: Folder for checkpoints.
        resume: Go on from the checkpoint in ``run_dir``.
        cache_dir: Folder of encoded media.
        progress: Show progress bars.
        on_epoch: Called with the record of each epoch; what it raises ends the fit.
        features: The encoded media of ``train``, if they are at hand; else they are encoded here.
        warm_start: An earlier fit whose weights the training goes on from; users and items are matched by their ids.
        align: Learn the space of :meth:`gnnrec.Recommender.search`, if there are media to be searched.
        processes: Which others fit the same. All but the training is done by each of them, media are encoded by one on
            each machine, and all return the same state.

    Raises:
        DataError: There is no event to learn from.
        ConfigError: An option does not fit the data, or not the weights to go on from, the ranker does not train and
            there are several processes or a ``run_dir``, or ``resume`` without one.
        UnsupportedError: The ranker does not train, so it cannot go on.
    """
    if len(train.events) == 0:
        raise DataError("the training set has no events; check the split or the cleaning rules")
    if processes.size > 1 and not RANKERS[config.ranker].trains:
        raise ConfigError(f"the ranker {config.ranker!r} has no training to share among processes; fit it in one")
    if run_dir is not None and not RANKERS[config.ranker].trains:
        raise ConfigError(f"the ranker {config.ranker!r} does not train, so run_dir= gets no checkpoints; leave it out")
    if resume and run_dir is None:
        raise ConfigError("resume=True needs run_dir=, the folder of the run to go on with")
    if run_dir is not None and not resume and processes.leads:
        forget_later_trainings(run_dir)
    start = None if warm_start is None else _start(warm_start, train, config.ranker)
    if start is not None and isinstance(start.ranker, NeuralRanker) and config.model.sequence_encoder == "auto":
        # Weights that read histories in order go on doing so, and others cannot begin to.
        encoder = start.ranker.model.config.sequence_encoder
        config = replace(config, model=replace(config.model, sequence_encoder=encoder))
    everything = train if valid is None or not refit else train.with_events_of(valid)
    device = resolve_device(config.device)
    report = FitReport()
    train_part, valid_pairs = train, None
    if valid is not None:
        valid_pairs = _without(pairs_between(valid, train.users, train.items), train.interaction_matrix())
        if valid_pairs.nnz == 0:
            logger.warning(
                "no validation pair is of a known user and a known item that training lacks; "
                "a tenth of the training pairs is held out instead, to choose the epochs"
            )
            valid_pairs = None
    chosen_here = valid_pairs is None
    if valid_pairs is None:
        train_part, held_out = holdout(train, fraction=0.1, seed=config.seed)
        valid_pairs = held_out.interaction_matrix()
        logger.info(
            "%d of %d events held out to choose the best epoch, at random%s",
            len(held_out.events),
            len(train.events),
            "; give valid= the last events of people if what comes next is what counts"
            if valid is None and _may_read_order(config, train)
            else "",
        )

    with report.stage("encode"):
        if not learns_from_media(config):
            features = {}
        elif features is None:
            with processes.first_on_each_machine():  # which leaves the others what it encoded in the cache
                features = encode_dataset(train_part, cache_dir=cache_dir, device=device, progress=progress)
        report.media = {name: feature.report for name, feature in features.items()}
    interactions = train_part.interaction_matrix()
    with report.stage("prepare"):
        prepared, preparation = prepare(features, config.features, interactions)
    labels = item_labels(train, config.graph.labels)
    space = None
    if align and (searchable := _searchable(prepared)):
        with report.stage("align"):
            space = AlignedSpace.fit(searchable, config.alignment, labels=labels, seed=config.seed, device=device)

    valid_pairs = _without(valid_pairs, interactions)
    validation = None
    if valid_pairs.nnz:
        metrics = tuple(dict.fromkeys(("recall@20", "ndcg@20", config.training.select_by)))
        validation = ValidationPairs(valid_pairs, interactions, metrics).for_epochs()
        if RANKERS[config.ranker].trains and train_part.events.timestamp is not None:
            arrived = _order_of_arrival(train_part, np.diff(validation.pairs.indptr) > 0)
            come_after = not chosen_here and valid is not None and _come_after(valid, train)
            validation = replace(validation, order=arrived, come_after=come_after)

    def fit_on(
        part: Dataset,
        config: RecommenderConfig,
        validation: ValidationPairs | None,
        folder: Path | None,
        resume: bool,
    ) -> tuple[RankingTask, Any]:
        matrix = part.interaction_matrix()
        weights = part.pair_weights() if config.graph.weighted_interactions else None
        order = part.order_matrix() if _may_read_order(config, part) else None
        with report.stage("graph"):
            of_graph = order if config.model.sequence_encoder != "none" else None
            graph = build_graph(matrix, prepared, part.relations, config.graph, labels, weights, of_graph)
        task = RankingTask(
            graph, matrix, validation, config.seed, device, folder, resume, on_epoch, start, processes, order
        )
        with report.stage("train"):
            return task, RANKERS[config.ranker].fit(task, _ranker_config(config))

    task, (ranker, result) = fit_on(train_part, config, validation, run_dir, resume)
    if refit:
        train = everything
        valid_pairs = pair_matrix(_NOTHING, _NOTHING, interactions.shape)
        folder = None if run_dir is None else run_dir / REFIT
        if result is not None:
            none = {"linear_weight": None, "linear_decay": None} if result.chosen.get("linear_part") == "none" else {}
            config = config.with_options({"epochs": result.best_epoch, **result.chosen, **none})
            resume = resume and not result.trained  # what the refit takes over may have changed
        logger.info("fitted once more, on all %d events", len(train.events))
        task, (ranker, result) = fit_on(train, config, None, folder, resume)
    state = RecommenderState(
        catalogue=_catalogue(train),
        train=task.interactions,
        valid=valid_pairs,
        features=prepared,
        preparation=preparation,
        ranker=ranker,
        space=space,
        order=task.order if "order" in ranker.capabilities else None,
        last_event=None if train.events.timestamp is None else float(train.events.timestamp.max()),
        history=result.history if result is not None else (),
        best_epoch=result.best_epoch if result is not None else 0,
    )
    return state, report


def _without(valid_pairs: sp.csr_matrix, train_pairs: sp.csr_matrix) -> sp.csr_matrix:
    """Leaves out validation pairs that repeat training pairs: these are hidden, so they measure nothing."""
    left = sp.csr_matrix(valid_pairs - valid_pairs.multiply(train_pairs))
    left.eliminate_zeros()
    return left


def _order_of_arrival(train: Dataset, people: NDArray[np.bool_]) -> sp.csr_matrix:
    """Returns the place of each pair in its user's history, 1 for the first, of some people ``[num_users]`` alone."""
    events, shape = train.events.take(people[train.events.user_index]), (train.num_users, train.num_items)
    arriving = arrivals(events.user_index, events.item_index, events.timestamp, shape, of="user", more_than=0)
    return arriving.first_in_order(train.num_items)


def _come_after(valid: Dataset, train: Dataset) -> bool:
    """Tells whether the validation events come after the last training event of their user, but for a few.

    Ties count half. Of random pairs of two events each half come later, of longer histories fewer.
    """
    if valid.events.timestamp is None or train.events.timestamp is None:
        return False
    last = np.full(train.num_users, -np.inf)
    np.maximum.at(last, train.events.user_index, train.events.timestamp)
    row = train.users.find(valid.users.ids)[valid.events.user_index]
    before = np.where(row >= 0, last[row], -np.inf)
    known = before > -np.inf
    time, before = valid.events.timestamp[known], before[known]
    return bool(known.any() and (time > before).mean() + (time >= before).mean() > 2 * _MOST_COME_AFTER)


def pairs_between(dataset: Dataset, users: IdMap, items: IdMap) -> sp.csr_matrix:
    """Returns the distinct pairs of a data set in the positions of another catalogue.

    Pairs of users or items that the other catalogue lacks are left out, and the log says how many.

    Returns:
        ``[num_users, num_items]`` binary float32.
    """
    matrix = dataset.interaction_matrix().tocoo()
    row, column = users.find(dataset.users.ids)[matrix.row], items.find(dataset.items.ids)[matrix.col]
    known = (row >= 0) & (column >= 0)
    if not known.all():
        logger.info("%d of %d held-out pairs are of users or items unseen in training", (~known).sum(), len(known))
    return pair_matrix(row[known], column[known], (len(users), len(items)))


def resolve_device(device: str) -> str:
    """Returns the device to use; ``auto`` is the first CUDA device if there is one.

    Raises:
        ConfigError: The device does not exist here.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise ConfigError(f"option 'device' cannot be {device!r}: {error}") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"option 'device' is {device!r}, but torch finds no CUDA device here; use 'cpu' or 'auto'")
    return device


def _start(fitted: RecommenderState, train: Dataset, ranker: str) -> WarmStart:
    """Finds the users and items of a data set in an earlier fit."""
    if not RANKERS[ranker].trains:
        raise UnsupportedError(
            f"the ranker {ranker!r} does not train, so a fit has nothing to go on from; 'neural' has"
        )
    return WarmStart(fitted.ranker, fitted.users.find(train.users.ids), fitted.items.find(train.items.ids))


def learns_from_media(config: RecommenderConfig) -> bool:
    """Tells whether media change what the ranker learns."""
    if config.ranker == "neural":
        return config.model.content != "none" or config.graph.similar_items > 0
    return config.ranker == "content-knn"


def _may_read_order(config: RecommenderConfig, train: Dataset) -> bool:
    """Tells whether the ranker reads histories in order, or does if validation says so."""
    model = config.model
    if config.ranker != "neural":
        return False
    encoder = (
        "none" if "sequence_encoder" in architecture(model.architecture).idle_options() else model.sequence_encoder
    )
    if encoder not in ("none", "auto") or model.linear_decay:
        return True  # and a log without time is refused
    left_open = encoder == "auto" or (model.linear_part != "none" and model.linear_decay is None)
    return left_open and train.events.timestamp is not None


def _searchable(features: Mapping[str, Features]) -> dict[str, Features]:
    """Returns the modalities of items that a common space serves: two or more, of which an encoder can read one."""
    of_items = {name: feature for name, feature in features.items() if feature.of == "item" and len(feature)}
    readable = any(feature.encoder is not None for feature in of_items.values())
    return of_items if readable and len(of_items) > 1 else {}


def _ranker_config(config: RecommenderConfig) -> Any:
    if config.ranker == "neural":
        return NeuralConfig(config.model, config.training, config.graph.similar_items, config.graph.item_graph)
    # The options of any other ranker are the group of its name; popularity has none.
    return getattr(config, config.ranker.replace("-", "_"), None)


def _catalogue(train: Dataset) -> Dataset:
    """Strips a data set of what the state keeps elsewhere: events, edges and the user's own vectors."""
    specs = {
        name: Vectors(np.zeros((0, np.shape(spec.matrix)[1]), dtype=np.float32), _NOTHING, spec.of)
        if isinstance(spec, Vectors)
        else spec
        for name, spec in train.modalities.items()
    }
    return replace(train, events=Events(_NOTHING, _NOTHING), modalities=specs, relations={}, cleaning_report=None)
