"""Settles after training what it could not tell: how much popularity counts, and what new people and items are like."""

from collections.abc import Mapping
from dataclasses import replace

import scipy.sparse as sp
import torch
from torch import Tensor

from gnnrec.evaluation.validation import ValidationPairs
from gnnrec.nn.message_graph import MessageGraph
from gnnrec.nn.model import GraphModel, NewItems
from gnnrec.rankers.attachment import ContentAttachment
from gnnrec.rankers.calibration import best_content_taste, best_new_item_offset, best_popularity_weight
from gnnrec.rankers.fold_in import content_tastes
from gnnrec.rankers.history_regression import HistoryRegression
from gnnrec.rankers.item_vectors import unit_vectors
from gnnrec.rankers.linear_part import LinearPart
from gnnrec.rankers.neural_config import NeuralConfig
from gnnrec.rankers.serving import ServingTensors

__all__ = ["as_new_items", "learn_newcomers", "place_new_items", "weigh_popularity"]


@torch.no_grad()
def weigh_popularity(
    model: GraphModel, graph: MessageGraph, config: NeuralConfig, validation: ValidationPairs | None
) -> NeuralConfig:
    """Makes popularity count as the options say, or as validation does; returns the options with what was chosen."""
    weight = config.model.popularity_weight
    if weight is None:
        weight = 1.0
        if validation is not None:
            embeddings = model(graph)
            user = model.users_today(embeddings.user, embeddings.item, graph.histories)
            weight = best_popularity_weight(validation, user, embeddings.item, select_by=config.training.select_by)
    model.weigh_popularity(weight)
    return replace(config, model=replace(config.model, popularity_weight=weight))


def learn_newcomers(
    serving: ServingTensors,
    interactions: sp.csr_matrix,
    direction: Tensor,
    validation: ValidationPairs | None,
    config: NeuralConfig,
) -> tuple[HistoryRegression, NeuralConfig]:
    """Learns to place new people, and how much the average person counts beside few events."""
    newcomers = HistoryRegression.fit(serving, interactions, direction)
    prior = config.model.new_user_prior
    if prior is not None:
        newcomers = replace(newcomers, prior=prior)
    elif validation is not None:
        newcomers = newcomers.with_best_prior(serving, direction, validation, select_by=config.training.select_by)
    return newcomers, replace(config, model=replace(config.model, new_user_prior=newcomers.prior))


def place_new_items(
    model: GraphModel,
    graph: MessageGraph,
    serving: ServingTensors,
    interactions: sp.csr_matrix,
    relations: Mapping[str, sp.csr_matrix],
    config: NeuralConfig,
    validation: ValidationPairs | None,
    linear: LinearPart | None,
) -> tuple[ContentAttachment, ServingTensors, NeuralConfig]:
    """Learns to place new items, places those that are in the catalogue already, and says how far they are moved."""
    degree = serving.item_degree
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
    left_out = left_out[:, : serving.item.shape[1]]
    unit_dict = attachment.hear_related(unit_dict, relations, unit_dict)
    attachment = attachment.learn_tastes(unit_dict, interactions, serving.user, left_out)
    content = attachment.content(unit_dict, len(degree))
    of_unknown = {name: unit[unknown] for name, unit in unit_dict.items()}
    placed = attachment(of_unknown, len(unknown), serving.item_propagated)
    select_by = config.training.select_by

    taste = config.model.content_taste
    if taste is None:
        taste = 0.0
        if validation is not None:
            taste = best_content_taste(
                validation,
                serving.user,
                content,
                interactions,
                known=examples,
                left_out=left_out,
                new=unknown,
                placed=placed[:, : serving.item.shape[1]],
                select_by=select_by,
            )
    if taste:
        serving = replace(
            serving,
            user_taste=taste * content_tastes(interactions, content),
            item_content=content,
        )
    offset = config.model.new_item_offset
    if offset is None:
        offset = 0.0
        if model.has_item_bias and validation is not None:
            nothing = serving.item.new_zeros(len(serving.item), serving.user_taste.shape[1])
            offset = best_new_item_offset(
                validation,
                torch.cat([serving.user_taste, serving.user], dim=1),
                torch.cat([nothing, serving.item], dim=1),
                torch.cat([serving.item_content[examples], left_out], dim=1),
                examples,
                linear=linear,
                price=config.model.new_item_price,
                select_by=select_by,
            )
    config = replace(config, model=replace(config.model, content_taste=taste, new_item_offset=offset))
    new = as_new_items(placed, serving, config)
    serving = replace(
        serving,
        item=serving.item.index_copy(0, unknown, new.item),
        item_messages=serving.item_messages.index_copy(0, unknown, new.messages),
    )
    return attachment, serving, config


def as_new_items(placed: Tensor, serving: ServingTensors, config: NeuralConfig) -> NewItems:
    """Takes apart what the attachment predicts: the vector, moved by the offset, and the messages at degree 1."""
    item, messages = placed.tensor_split([serving.item.shape[1]], dim=1)
    if config.model.new_item_offset:
        item = torch.cat([item[:, :-1], item[:, -1:] + config.model.new_item_offset], dim=1)
    return NewItems(item=item, messages=messages)
