"""Turns a training set into a fitted state: encode the media, prepare the vectors, build the graph, fit the ranker."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gnnrec.data.dataset import Dataset, Events, require_datasets
from gnnrec.data.ids import IdMap
from gnnrec.data.labels import item_labels
from gnnrec.data.pairs import pair_matrix
from gnnrec.data.schema import Vectors
from gnnrec.errors import ConfigError, DataError, UnsupportedError
from gnnrec.evaluation.validation import ValidationPairs
from gnnrec.evaluation.validation_part import set_aside
from gnnrec.graph.build import build_graph
from gnnrec.modalities.encode import encode_dataset
from gnnrec.modalities.features import Features, MediaReport
from gnnrec.modalities.preparation import prepare
from gnnrec.nn.architectures import architecture
from gnnrec.presets import RecommenderConfig
from gnnrec.rankers import RANKERS, RankingTask
from gnnrec.rankers.base import Ranker, WarmStart
from gnnrec.rankers.neural import NeuralRanker
from gnnrec.rankers.neural_config import NeuralConfig
from gnnrec.retrieval.aligned_space import AlignedSpace
from gnnrec.state import RecommenderState
from gnnrec.training.checkpoint import REFIT, forget_later_trainings
from gnnrec.training.distributed import ALONE, Processes
from gnnrec.training.loop import EpochRecord, TrainingResult

__all__ = ["FitReport", "fit_state", "learns_from_media", "resolve_device"]

logger = logging.getLogger(__name__)

_NOTHING = np.zeros(0, dtype=np.int64)


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
    require_datasets(train=train, optional={"valid": valid})
    _check(train, config.ranker, run_dir, resume, processes)
    config.training.check_auxiliary()
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
    part = set_aside(train, valid, seed=config.seed)
    if valid is None and _may_read_order(config, train):
        logger.info("events were held out at random; give valid= the last ones of people if what comes next counts")

    with report.stage("encode"):
        if not learns_from_media(config):
            features = {}
        elif features is None:
            with processes.first_on_each_machine():  # which leaves the others what it encoded in the cache
                features = encode_dataset(part.train, cache_dir=cache_dir, device=device, progress=progress)
        report.media = {name: feature.report for name, feature in features.items()}
    with report.stage("prepare"):
        earlier = None if warm_start is None else warm_start.preparation
        prepared, preparation = prepare(features, config.features, part.train.interaction_matrix(), earlier)
    labels = item_labels(train, config.graph.labels)
    space = None
    if align and (searchable := _searchable(prepared)):
        with report.stage("align"):
            space = AlignedSpace.fit(searchable, config.alignment, labels=labels, seed=config.seed, device=device)

    def fit_on(
        dataset: Dataset,
        config: RecommenderConfig,
        validation: ValidationPairs | None,
        run_dir: Path | None,
        resume: bool,
    ) -> tuple[RankingTask, Ranker, TrainingResult | None]:
        matrix = dataset.interaction_matrix()
        weights = dataset.pair_weights() if config.graph.weighted_interactions else None
        order = dataset.order_matrix() if _may_read_order(config, dataset) else None
        with report.stage("graph"):
            of_graph = order if config.model.sequence_encoder != "none" else None
            graph = build_graph(matrix, prepared, dataset.relations, config.graph, labels, weights, of_graph)
        task = RankingTask(
            graph=graph,
            interactions=matrix,
            validation=validation,
            seed=config.seed,
            device=device,
            run_dir=run_dir,
            resume=resume,
            on_epoch=on_epoch,
            start=start,
            processes=processes,
            order=order,
        )
        with report.stage("train"):
            return task, *RANKERS[config.ranker].fit(task, _ranker_config(config))

    metrics = tuple(dict.fromkeys(("recall@20", "ndcg@20", config.training.select_by)))
    validation = part.measured_by(metrics, in_order=RANKERS[config.ranker].trains)
    task, ranker, result = fit_on(part.train, config, validation, run_dir, resume)
    chosen_by = part.pairs
    if refit:
        chosen_by = pair_matrix(_NOTHING, _NOTHING, part.pairs.shape)
        folder = None if run_dir is None else run_dir / REFIT
        if result is not None:
            config = _as_chosen(config, result)
            resume = resume and not result.trained  # what the refit takes over may have changed
        logger.info("fitted once more, on all %d events", len(everything.events))
        task, ranker, result = fit_on(everything, config, None, folder, resume)
    state = RecommenderState(
        catalogue=_catalogue(everything),
        train=task.interactions,
        valid=chosen_by,
        features=prepared,
        preparation=preparation,
        ranker=ranker,
        space=space,
        order=task.order if "order" in ranker.capabilities else None,
        last_event=None if everything.events.timestamp is None else float(everything.events.timestamp.max()),
        history=result.history if result is not None else (),
        best_epoch=result.best_epoch if result is not None else 0,
    )
    return state, report


def resolve_device(device: str) -> str:
    """Returns the device to use; ``auto`` is the first CUDA device if there is one.

    Raises:
        ConfigError: The device does not exist here.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"option 'device' cannot be {device!r}: {error}") from error
    if wanted.type not in ("cpu", "cuda"):
        raise ConfigError(f"option 'device' is {device!r}, and gnnrec runs on 'cpu' and 'cuda'")
    number = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted.type == "cuda" and (wanted.index or 0) >= number:
        raise ConfigError(
            f"option 'device' is {device!r}, but torch finds {number or 'no'} CUDA devices; use 'cpu' or 'auto'"
        )
    return device


def _check(train: Dataset, ranker: str, run_dir: Path | None, resume: bool, processes: Processes) -> None:
    """Refuses what no fit can do."""
    if len(train.events) == 0:
        raise DataError("the training set has no events; check the split or the cleaning rules")
    if processes.size > 1 and not RANKERS[ranker].trains:
        raise ConfigError(f"the ranker {ranker!r} has no training to share among processes; fit it in one")
    if run_dir is not None and not RANKERS[ranker].trains:
        raise ConfigError(f"the ranker {ranker!r} does not train, so run_dir= gets no checkpoints; leave it out")
    if resume and run_dir is None:
        raise ConfigError("resume=True needs run_dir=, the folder of the run to go on with")


def _start(fitted: RecommenderState, train: Dataset, ranker: str) -> WarmStart:
    """Finds the users and items of a data set in an earlier fit."""
    if not RANKERS[ranker].trains:
        raise UnsupportedError(
            f"the ranker {ranker!r} does not train, so a fit has nothing to go on from; 'neural' has"
        )
    users, items = (_matched(known, new) for known, new in ((fitted.users, train.users), (fitted.items, train.items)))
    return WarmStart(fitted.ranker, users, items)


def _matched(known: IdMap, new: IdMap) -> NDArray[np.int64]:
    """Finds ids ``[num_new]`` among those of an earlier fit."""
    if len(known) and len(new) and known.kind != new.kind:
        kinds = {"int": "integers", "str": "strings"}
        raise DataError(f"{new.what} ids are {kinds[new.kind]}, those of the fit to go on from {kinds[known.kind]}")
    found = known.find(new.ids)
    logger.info("going on from an earlier fit: it knows %d of %d %ss", (found >= 0).sum(), len(found), new.what)
    return found


def _as_chosen(config: RecommenderConfig, result: TrainingResult) -> RecommenderConfig:
    """Returns the options of a refit: the best number of epochs, and what was settled after training."""
    none = {"linear_weight": None, "linear_decay": None} if result.chosen.get("linear_part") == "none" else {}
    return config.with_options({"epochs": result.best_epoch, **result.chosen, **none})


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
    return next(iter(config.ranker_options()), None)  # popularity has none


def _catalogue(train: Dataset) -> Dataset:
    """Strips a data set of what the state keeps elsewhere: events, edges and the user's own vectors."""
    specs = {
        name: Vectors(np.zeros((0, np.shape(spec.matrix)[1]), dtype=np.float32), _NOTHING, spec.of)
        if isinstance(spec, Vectors)
        else spec
        for name, spec in train.modalities.items()
    }
    return replace(train, events=Events(_NOTHING, _NOTHING), modalities=specs, relations={}, cleaning_report=None)
