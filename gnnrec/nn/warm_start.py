"""Carries trained weights over to a model of a grown graph, node by node."""

from collections.abc import Mapping
from dataclasses import fields, replace

import numpy as np
import torch
from numpy.typing import NDArray

from gnnrec.errors import ConfigError
from gnnrec.nn.architectures import build_model
from gnnrec.nn.message_graph import GraphShape
from gnnrec.nn.model import GraphModel
from gnnrec.nn.model_config import SETTLED_AFTER_TRAINING, ModelConfig

__all__ = ["carry_over", "tables_of_nodes"]


@torch.no_grad()
def carry_over(
    trained: GraphModel,
    trained_shape: GraphShape,
    model: GraphModel,
    shape: GraphShape,
    user_index: NDArray[np.int64],
    item_index: NDArray[np.int64],
) -> None:
    """Overwrites the weights of ``model`` by those of ``trained``; what belongs to new nodes stays as it was drawn.

    Args:
        trained: What was trained on an earlier graph.
        trained_shape: Of that graph.
        model: What is to go on from there.
        shape: Of its graph.
        user_index: ``[num_users]`` row of each user of ``shape`` in ``trained``; without one there, the user is new.
        item_index: ``[num_items]`` the same for items.

    Raises:
        ConfigError: The two models are not of one configuration; the message names the difference.
    """
    _check_alike(trained.config, trained_shape, model.config, shape)
    row_of = {"user": torch.from_numpy(user_index), "item": torch.from_numpy(item_index)}
    node_type = tables_of_nodes(shape, model.config)
    before = trained.state_dict()
    for name, weight in model.state_dict().items():
        if name not in node_type:
            weight.copy_(before[name])
            continue
        rows = row_of[node_type[name]]
        known = (rows >= 0) & (rows < len(before[name]))
        weight[known.to(weight.device)] = before[name][rows[known]].to(weight.device)


def tables_of_nodes(shape: GraphShape, config: ModelConfig) -> Mapping[str, str]:
    """Returns weight → node type, for those with one row per node: they grow when there is one node more.

    Args:
        shape: Of the graph that the model is built for.
        config: Of the model.
    """

    def sizes(of: GraphShape) -> dict[str, torch.Size]:
        with torch.device("meta"):  # no memory, no numbers
            return {name: weight.shape for name, weight in build_model(of, config).state_dict().items()}

    now = sizes(shape)
    with_one_more = {
        "user": sizes(replace(shape, num_users=shape.num_users + 1)),
        "item": sizes(replace(shape, num_items=shape.num_items + 1)),
    }
    return {name: kind for kind, larger in with_one_more.items() for name, size in larger.items() if size != now[name]}


def _check_alike(config: ModelConfig, shape: GraphShape, new_config: ModelConfig, new_shape: GraphShape) -> None:
    """Allows only the numbers of nodes to differ, and what gives no weight its shape or meaning."""
    beside_training = ("initialisation", "new_item_price", *SETTLED_AFTER_TRAINING)
    for field in fields(ModelConfig):
        if field.name.endswith("dropout") or field.name in beside_training:
            continue
        before, now = getattr(config, field.name), getattr(new_config, field.name)
        if before != now:
            raise ConfigError(
                f"a warm start needs the model as it was: option {field.name!r} was {before!r} and is {now!r}; "
                "set it back, or fit without warm_start"
            )
    for what in ("user_modalities", "item_modalities", "user_relations", "item_relations", "tasks"):
        was, given = (str(getattr(of, what)) for of in (shape, new_shape))  # as text, since the order counts as well
        if was != given:
            named = "labels" if what == "tasks" else what.replace("_", " ")
            raise ConfigError(
                "a warm start needs the modalities, their widths, the relations and the labels as they were: "
                f"{named} were {was} and are {given}; give the same, or fit without warm_start"
            )
