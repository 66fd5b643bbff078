import pytest
import torch
import torch.nn.functional as F

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
