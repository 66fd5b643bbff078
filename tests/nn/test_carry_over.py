"""Trained weights find their nodes in a grown graph."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gnnrec.errors import ConfigError
from gnnrec.nn.architectures import ARCHITECTURES, build_model
from gnnrec.nn.message_graph import GraphShape
from gnnrec.nn.model_config import ModelConfig
from gnnrec.nn.warm_start import carry_over

# As many users as items, and a modality just as wide: sizes alone do not tell what belongs to whom.
BEFORE = GraphShape(6, 6, {}, {"look": 6, "plot": 3}, (), ("similar_by_look", "similar_by_plot", "co_occurs"))
AFTER = replace(BEFORE, num_users=7, num_items=8)
USERS = np.array([5, 4, -1, 3, 2, 1, 0])
ITEMS = np.array([-1, 0, 1, 2, 7, 3, 4, 5])  # 7: added without training, so it has no row


def numbered(shape: GraphShape, config: ModelConfig, start: int) -> torch.nn.Module:
    """A model in which no number occurs twice."""
    model = build_model(shape, config)
    for weight in model.state_dict().values():
        weight.copy_(torch.arange(start, start + weight.numel()).view(weight.shape).float())
        start += weight.numel()
    return model


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_row_goes_where_its_node_went(architecture):
    config = ModelConfig(architecture=architecture, embedding_dim=6, fine_tune_features=True)
    trained, model = numbered(BEFORE, config, 0), numbered(AFTER, config, 10_000)
    before, drawn = ({name: weight.clone() for name, weight in of.state_dict().items()} for of in (trained, model))
    carry_over(trained, BEFORE, model, AFTER, USERS, ITEMS)
    per_node = 0
    for name, weight in model.state_dict().items():
        if weight.shape == before[name].shape:
            assert torch.equal(weight, before[name]), name
            continue
        per_node += 1
        index = USERS if len(weight) == AFTER.num_users else ITEMS
        for node, row in enumerate(index):
            expected = before[name][row] if 0 <= row < 6 else drawn[name][node]
            assert torch.equal(weight[node], expected), (name, node)
    assert per_node >= 1
    assert all(torch.equal(before[name], weight) for name, weight in trained.state_dict().items())


@pytest.mark.parametrize(
    ("change", "shape", "message"),
    [
        ({"embedding_dim": 8}, AFTER, "'embedding_dim' was 6 and is 8"),
        ({"hops": 3}, AFTER, "'hops' was 2 and is 3"),
        ({"architecture": "lightgcn"}, AFTER, "'architecture' was 'multimodal' and is 'lightgcn'"),
        ({}, replace(AFTER, item_modalities={"look": 5, "plot": 3}), "item modalities were .*'look': 6.*'look': 5"),
        ({}, replace(AFTER, item_modalities={"plot": 3, "look": 6}), "item modalities were"),
        ({}, replace(AFTER, user_modalities={"bio": 2}), "user modalities were"),
        ({}, replace(AFTER, item_relations=("co_occurs",)), "item relations were"),
    ],
)
def test_another_configuration_is_refused(change, shape, message):
    config = ModelConfig(embedding_dim=6)
    other = replace(config, **change)
    with pytest.raises(ConfigError, match=message):
        carry_over(build_model(BEFORE, config), BEFORE, build_model(shape, other), shape, USERS, ITEMS)


def test_dropout_and_the_weight_of_popularity_may_differ():
    config = ModelConfig(embedding_dim=6)
    other = replace(config, identity_dropout=0.5, feature_dropout=0.2, popularity_weight=3.0)
    trained, model = build_model(BEFORE, config), build_model(AFTER, other)
    carry_over(trained, BEFORE, model, AFTER, USERS, ITEMS)
    assert torch.equal(model.users.identity.weight[0], trained.users.identity.weight[5])
