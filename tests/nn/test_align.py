import pytest
import torch
import torch.nn.functional as F

from gnnrec.errors import ConfigError
from gnnrec.nn.align import Alignment


def test_projects_each_modality_by_its_own_layer_and_normalises() -> None:
    alignment = Alignment({"plot": 3, "poster": 5}, 4)
    x_dict = {"poster": torch.randn(6, 5), "plot": torch.randn(2, 3)}
    z_dict = alignment(x_dict)
    for position, name in enumerate(["plot", "poster"]):
        linear, _ = alignment.projections[position]
        expected = F.layer_norm(x_dict[name] @ linear.weight.T + linear.bias, (4,))
        torch.testing.assert_close(z_dict[name], expected)


def test_no_modality_drowns_the_others() -> None:
    alignment = Alignment({"small": 3, "large": 3}, 64)
    x = torch.randn(10, 3)
    z_dict = alignment({"small": 0.05 * x, "large": 1000 * x})
    lengths = {name: z.norm(dim=1).mean().item() for name, z in z_dict.items()}
    assert lengths == pytest.approx({"small": 8.0, "large": 8.0}, rel=0.01)


@pytest.mark.parametrize("name", ["values", "type", "v1.0", "a b", "forward", ""])
def test_a_modality_may_have_any_name(name: str) -> None:
    assert Alignment({name: 2}, 4)({name: torch.ones(3, 2)})[name].shape == (3, 4)


def test_reset_draws_anew() -> None:
    alignment = Alignment({"plot": 3}, 4)
    torch.manual_seed(0)
    alignment.reset_parameters()
    first = {name: value.clone() for name, value in alignment.state_dict().items()}
    alignment.reset_parameters()
    assert not torch.equal(alignment.state_dict()["projections.0.0.weight"], first["projections.0.0.weight"])
    torch.manual_seed(0)
    alignment.reset_parameters()
    assert all(torch.equal(value, first[name]) for name, value in alignment.state_dict().items())


@pytest.mark.parametrize("kind", ["log-mel-cnn", "log-mel-lstm"])
def test_sound_networks_learn_what_order_of_frames_says(kind: str) -> None:
    """Rising and falling tones hold the same frames, so no mean over frames tells them apart; a network does."""
    torch.manual_seed(0)
    rising = torch.eye(16, 64).repeat(20, 1, 1) + 0.05 * torch.randn(20, 16, 64)
    sounds = torch.cat([rising, rising.flip(1)])
    label = torch.arange(40) // 20
    alignment = Alignment({"sound": 16 * 64}, 8, {"sound": kind})
    head = torch.nn.Linear(8, 2)
    optimizer = torch.optim.Adam([*alignment.parameters(), *head.parameters()], lr=0.01)
    for _ in range(40):
        optimizer.zero_grad()
        loss = F.cross_entropy(head(alignment({"sound": sounds.flatten(1)})["sound"]), label)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


@pytest.mark.parametrize("kind", ["log-mel-cnn", "log-mel-lstm"])
def test_no_sounds_are_no_vectors(kind: str) -> None:
    alignment = Alignment({"sound": 10 * 64}, 8, {"sound": kind})
    assert alignment({"sound": torch.zeros(0, 640)})["sound"].shape == (0, 8)


def test_sound_networks_refuse_other_vectors() -> None:
    with pytest.raises(ConfigError, match="encoder='log-mel'"):
        Alignment({"sound": 100}, 8, {"sound": "log-mel-cnn"})
