"""People who were not there in training, by their media."""

from dataclasses import replace

import pytest
import torch

from gnnrec.errors import UnsupportedError
from gnnrec.nn.architectures import ARCHITECTURES, build_model
from gnnrec.nn.message_graph import GraphShape
from gnnrec.nn.model_config import ModelConfig

SHAPE = GraphShape(4, 5, {"bio": 3, "face": 2}, {"look": 6}, (), ("similar_by_look", "co_occurs"))
ROWS = {"bio": torch.randn(4, 3), "face": torch.randn(2, 2)}
OWNERS = {"bio": torch.tensor([0, 1, 3, 3]), "face": torch.tensor([1, 0])}
DEGREE = torch.tensor([0, 1, 7, 30])


def test_a_profile_is_layer_zero_of_a_known_user_without_identity() -> None:
    model = build_model(SHAPE, ModelConfig(embedding_dim=8, hops=3)).eval()
    with torch.no_grad():
        model.users.log_evidence.fill_(0.7)
        model.users.identity.weight.zero_()
        layer_zero, _ = model.users(model.users.align(ROWS, OWNERS, 4), DEGREE)
        torch.nn.init.normal_(model.users.identity.weight)
        found = model.new_users(ROWS, OWNERS, DEGREE)
    torch.testing.assert_close(found, layer_zero / 4)
    assert (found[2] == 0).all()  # no profile
    assert found[[0, 1, 3]].norm(dim=1).min() > 0


def test_only_models_that_hear_people_take_profiles() -> None:
    shape = replace(SHAPE, user_modalities={})
    for architecture in ARCHITECTURES:
        model = build_model(SHAPE, ModelConfig(architecture=architecture, embedding_dim=8))
        assert model.takes_profiles == (architecture == "multimodal")
        if not model.takes_profiles:
            with pytest.raises(UnsupportedError, match=architecture):
                model.new_users(ROWS, OWNERS, DEGREE)
    for config, of in ((ModelConfig(embedding_dim=8), shape), (ModelConfig(embedding_dim=8, hops=0), SHAPE)):
        assert not build_model(of, config).takes_profiles
