"""Trains a graph model, then settles what training cannot tell, and learns to place new items and people."""

import logging
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gnnrec.config import suggest
from gnnrec.errors import ConfigError
from gnnrec.evaluation.validation import ValidationPairs, ranks_surely_better
from gnnrec.nn.architectures import architecture, build_model
from gnnrec.nn.message_graph import GraphShape, MessageGraph
from gnnrec.nn.model import GraphModel
from gnnrec.nn.model_config import ModelConfig, SequenceEncoderName
from gnnrec.nn.warm_start import carry_over
from gnnrec.rankers.attachment import ContentAttachment
from gnnrec.rankers.base import RankingTask
from gnnrec.rankers.history_regression import HistoryRegression
from gnnrec.rankers.linear_choice import best_linear_part
from gnnrec.rankers.linear_part import LinearPart, check_linear_part
from gnnrec.rankers.neural_config import NeuralConfig
from gnnrec.rankers.serving import ServingTensors, serving_tensors
from gnnrec.rankers.settling import place_new_items, weigh_popularity
from gnnrec.training.checkpoint import WITH_ORDER
from gnnrec.training.loop import TrainingResult, train

__all__ = ["Learned", "train_and_settle"]

logger = logging.getLogger(__name__)

_TRIED: SequenceEncoderName = "gru"  # by sequence_encoder="auto"


@dataclass(frozen=True, eq=False, repr=False)
class Learned:
    """What a fit learned: what :class:`~gnnrec.rankers.neural.NeuralRanker` is made of.

    Attributes:
        model: The trained model, on the CPU.
        serving: Its embeddings.
        config: Options, with what was chosen for those that were left open.
        shape: Of the training graph.
        attachment: What places new items; ``None`` where the model itself does.
        newcomers: From the history of a new person to a vector; likewise.
        linear: What is added to the products of the vectors.
    """

    model: GraphModel
    serving: ServingTensors
    config: NeuralConfig
    shape: GraphShape
    attachment: ContentAttachment | None = None
    newcomers: HistoryRegression | None = None
    linear: LinearPart | None = None

    def score(self, user_index: NDArray[np.int64]) -> Tensor:
        """Scores all items for known users: ``[num_users_given, num_items]``."""
        rows = torch.from_numpy(user_index)
        scores = self.serving.score(self.serving.user[rows], self.serving.user_taste[rows])
        return scores if self.linear is None else self.linear.add_to(scores, users=user_index)


def train_and_settle(
    task: RankingTask, config: NeuralConfig, before: tuple[GraphModel, GraphShape] | None
) -> tuple[Learned, TrainingResult]:
    """Trains the model of a task's graph; where validation shall say whether to read histories in order, both ways.

    Args:
        task: What to learn from.
        config: Options.
        before: The model whose weights the training goes on from, and the shape of its graph.

    Raises:
        ConfigError: An option does not fit the graph.
    """
    left_open = config.model.sequence_encoder == "auto"
    if not left_open or "sequence_encoder" in architecture(config.model.architecture).idle_options():
        return _train_and_settle(task, config, before)
    without, result = _train_and_settle(task, _with_encoder("none", config), before)
    told = task.validation if before is None and not config.training.sampled_neighbours else None
    if told is None or not told.come_after:
        return without, result
    logger.info("trained once more, with sequence_encoder=%r, since the validation events are later ones", _TRIED)
    beside = replace(task, run_dir=task.run_dir and task.run_dir / WITH_ORDER)
    reading, result_of_reading = _train_and_settle(beside, _with_encoder(_TRIED, config), None)
    qualities = [_quality(one, told, config.training.select_by) for one in (without, reading)]
    pays = task.processes.told({"pays": ranks_surely_better(qualities[1], qualities[0])})["pays"]
    logger.info(
        "validation %s %.4f without and %.4f with sequence_encoder=%r, which is %s",
        config.training.select_by,
        *(one.mean() for one in qualities),
        _TRIED,
        "kept" if pays else "left out",
    )
    trained = result.trained + result_of_reading.trained
    return (reading if pays else without), replace(result_of_reading if pays else result, trained=trained)


def _with_encoder(name: SequenceEncoderName, config: NeuralConfig) -> NeuralConfig:
    return replace(config, model=replace(config.model, sequence_encoder=name))


def _quality(learned: Learned, validation: ValidationPairs, select_by: str) -> NDArray[np.float64]:
    """Returns the metric of each person with validation pairs, of the scores that will be served."""
    return validation.per_user(lambda rows: learned.score(rows.numpy()), select_by)


def _train_and_settle(
    task: RankingTask, config: NeuralConfig, before: tuple[GraphModel, GraphShape] | None
) -> tuple[Learned, TrainingResult]:
    model, graph, result = _trained(task, config, before)
    if model.weighs_popularity:
        config = weigh_popularity(model, graph, task, config)
    serving = serving_tensors(model, graph, task.interactions)
    model = model.cpu()
    attachment = newcomers = None
    if model.regresses_new_users:
        direction = serving.item[:, :-1] if model.has_item_bias else serving.item
        newcomers = HistoryRegression.fit(serving, task.interactions, direction)
    if model.reads_order and graph.histories is not None:
        with torch.no_grad():
            user = model.users_today(serving.user, serving.item, graph.histories.to("cpu"))
        serving = replace(serving, user=user)
    linear, name, weight = best_linear_part(
        config.model.linear_part,
        config.model.linear_weight,
        config.model.linear_decay,
        task,
        serving.user,
        serving.item,
        config.training.select_by,
    )
    decay = None if linear is None else linear.decay
    config = replace(config, model=replace(config.model, linear_part=name, linear_weight=weight, linear_decay=decay))
    if model.regresses_new_items:
        attachment, serving, config = place_new_items(model, graph, serving, task, config, linear)
    return Learned(model, serving, config, graph.shape, attachment, newcomers, linear), result


def _trained(
    task: RankingTask, config: NeuralConfig, before: tuple[GraphModel, GraphShape] | None
) -> tuple[GraphModel, MessageGraph, TrainingResult]:
    check_linear_part(config.model.linear_part, task.interactions.shape[1])
    torch.manual_seed(task.seed)
    # Trained on samples, the graph may be too large for the device: only samples go there.
    place = "cpu" if config.training.sampled_neighbours else task.device
    graph = MessageGraph.from_hetero_data(task.graph, place)
    _check_modality_names(graph.shape, config.model)
    model = build_model(graph.shape, config.model).to(task.device)
    if before is None or task.start is None:
        model.initialise(graph)
    else:
        carry_over(*before, model, graph.shape, task.start.user_index, task.start.item_index)
    result = train(
        model,
        graph,
        config.training,
        seed=task.seed,
        validation=task.validation,
        run_dir=task.run_dir,
        resume=task.resume,
        goes_on=None if before is None else before[0].state_dict(),
        on_epoch=task.on_epoch,
        processes=task.processes,
    )
    return model.to(place), graph, result


def _check_modality_names(shape: GraphShape, config: ModelConfig) -> None:
    """Refuses options of modalities that are not there; presets come with shares of some."""
    known = {*shape.user_modalities, *shape.item_modalities}
    for option in ("modality_shares", "projections"):
        for modality in sorted(set(getattr(config, option)) - known):
            hint = suggest(modality, known) if known else ""
            said = f"option {option!r} names {modality!r}, of which there are no media{hint}"
            if option == "projections" or config.architecture == "multimodal":
                raise ConfigError(said)
            logger.warning("%s; those that no share is named of share alike", said)
