"""Settles after training what it could not tell: how much popularity and content count, and what new items are like."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from gnnrec.data.pairs import items_with_pairs
from gnnrec.graph.build import given_item_relations
from gnnrec.nn.message_graph import MessageGraph
from gnnrec.nn.model import GraphModel, NewItems
from gnnrec.rankers.attachment import ContentAttachment
from gnnrec.rankers.base import RankingTask
from gnnrec.rankers.calibration import (
    Predicted,
    best_content_taste,
    best_known_content_taste,
    best_new_item_offset,
    best_popularity_weight,
)
from gnnrec.rankers.fold_in import content_tastes
from gnnrec.rankers.item_vectors import unit_vectors
from gnnrec.rankers.linear_part import LinearPart
from gnnrec.rankers.neural_config import NeuralConfig
from gnnrec.rankers.serving import ServingTensors

__all__ = ["as_new_items", "place_new_items", "weigh_popularity"]


@torch.no_grad()
def weigh_popularity(model: GraphModel, graph: MessageGraph, task: RankingTask, config: NeuralConfig) -> NeuralConfig:
    """Makes popularity count as the options say, or as validation does; returns the options with what was chosen."""
    weight = config.model.popularity_weight
    if weight is None:
        weight = 1.0
        if task.validation is not None:
            embeddings = model(graph)
            user = model.users_today(embeddings.user, embeddings.item, graph.histories)
            known = items_with_pairs(task.interactions)
            weight = best_popularity_weight(task.validation, user, embeddings.item, known, config.training.select_by)
    model.weigh_popularity(weight)
    return replace(config, model=replace(config.model, popularity_weight=weight))


def place_new_items(
    model: GraphModel,
    graph: MessageGraph,
    serving: ServingTensors,
    task: RankingTask,
    config: NeuralConfig,
    linear: LinearPart | None,
) -> tuple[ContentAttachment, ServingTensors, NeuralConfig]:
    """Learns to place new items, places those that are in the catalogue already, and says how far they are moved."""
    degree, relations = serving.item_degree, given_item_relations(task.graph)
    unit_dict = unit_vectors(
        {name: graph.x_dict[name].cpu() for name in graph.shape.item_modalities},
        {name: graph.owner_dict[name].cpu() for name in graph.shape.item_modalities},
        len(degree),
    )
    known, unknown = torch.nonzero(degree > 0).flatten(), torch.nonzero(degree == 0).flatten()
    attachment, examples, left_out = ContentAttachment.fit(
        unit_dict,
        relations,
        known,
        serving.item_propagated,
        torch.cat([serving.item, serving.item_messages / degree.clamp(min=1).sqrt()[:, None]], dim=1),
        config.similar_items,
    )
    unit_dict = attachment.hear_related(unit_dict, relations, unit_dict)
    width = serving.item.shape[1]
    attachment = attachment.learn_tastes(unit_dict, task.interactions, serving.user, left_out[:, :width])
    of_unknown = {name: unit[unknown] for name, unit in unit_dict.items()}
    placed = attachment(of_unknown, len(unknown), serving.item_propagated)
    predicted = Predicted(examples, left_out[:, :width], unknown, placed[:, :width])
    content = attachment.content(unit_dict, len(degree))
    serving, config = _weigh_content(serving, content, task, predicted, config, linear)
    if config.model.new_item_offset is None:
        config = _move_new_items(model, serving, task, predicted, config, linear)
    new = as_new_items(placed, serving, config)
    serving = replace(
        serving,
        item=serving.item.index_copy(0, unknown, new.item),
        item_messages=serving.item_messages.index_copy(0, unknown, new.messages),
    )
    return attachment, serving, config


def _weigh_content(
    serving: ServingTensors,
    content: Tensor,
    task: RankingTask,
    predicted: Predicted,
    config: NeuralConfig,
    linear: LinearPart | None,
) -> tuple[ServingTensors, NeuralConfig]:
    """Lets the likeness of content ``[num_items, width]`` to histories count as the options or validation say."""
    known, validation = serving.item_degree > 0, task.validation
    tastes = content_tastes(task.interactions, content)
    nobody = torch.from_numpy(np.diff(task.interactions.indptr) == 0)
    tastes[nobody] = tastes[~nobody].mean(dim=0)  # who has chosen nothing has the taste of the average person
    of_new, of_known = config.model.content_taste, config.model.known_content_taste
    select_by = config.training.select_by
    if of_new is None and validation is not None:
        of_new = best_content_taste(validation, serving.user, content, task.interactions, predicted, select_by)
    if of_known is None and validation is not None:
        of_known = best_known_content_taste(
            validation, serving.user, serving.item, tastes, content, known, linear=linear, select_by=select_by
        )
    of_new, of_known = of_new or 0.0, of_known or 0.0
    if of_new or of_known:
        weight = torch.where(known, of_known, of_new)
        serving = replace(serving, user_taste=tastes, item_content=content, content_weight=weight)
    model = replace(config.model, content_taste=of_new, known_content_taste=of_known)
    return serving, replace(config, model=model)


def _move_new_items(
    model: GraphModel,
    serving: ServingTensors,
    task: RankingTask,
    predicted: Predicted,
    config: NeuralConfig,
    linear: LinearPart | None,
) -> NeuralConfig:
    """Chooses how far new items are moved up or down, beside known ones that are scored as they will be."""
    if not model.has_item_bias or task.validation is None:
        return replace(config, model=replace(config.model, new_item_offset=0.0))
    content, of_new = serving.item_content, config.model.content_taste or 0.0
    of_known = serving.content_weight * (serving.item_degree > 0)
    described = replace(
        predicted,
        left_out=torch.cat([of_new * content[predicted.known], predicted.left_out], dim=1),
        placed=torch.cat([of_new * content[predicted.new], predicted.placed], dim=1),
    )
    offset = best_new_item_offset(
        task.validation,
        serving.user,
        torch.cat([of_known[:, None] * content, serving.item], dim=1),
        content,
        described,
        linear=linear,
        price=config.model.new_item_price,
        select_by=config.training.select_by,
    )
    return replace(config, model=replace(config.model, new_item_offset=offset))


def as_new_items(placed: Tensor, serving: ServingTensors, config: NeuralConfig) -> NewItems:
    """Takes apart what the attachment predicts: the vector, moved by the offset, and the messages at degree 1."""
    item, messages = placed.tensor_split([serving.item.shape[1]], dim=1)
    if config.model.new_item_offset:
        item = torch.cat([item[:, :-1], item[:, -1:] + config.model.new_item_offset], dim=1)
    return NewItems(item=item, messages=messages)
