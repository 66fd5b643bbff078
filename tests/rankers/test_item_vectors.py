import numpy as np
import pytest
import scipy.sparse as sp
import torch
import torch.nn.functional as F

from gnnrec.modalities.features import Features
from gnnrec.rankers.item_vectors import other_ends, unit_vectors, with_related


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float()


def test_an_item_lies_where_the_mean_of_its_unit_rows_points() -> None:
    x = random(5, 3)
    unit = unit_vectors({"text": x}, {"text": torch.tensor([0, 0, 2, 2, 2])}, 4)["text"]
    expected = [F.normalize(F.normalize(x[rows]).sum(dim=0), dim=0) for rows in (slice(0, 2), slice(2, 5))]
    torch.testing.assert_close(unit[[0, 2]], torch.stack(expected))
    assert not unit[[1, 3]].any()


def test_half_the_weighted_mean_of_related_items_is_added() -> None:
    unit, others = F.normalize(random(3, 4)), F.normalize(random(4, 4, seed=1))
    others[2] = 0  # has nothing to tell, and does not make the mean shorter
    unit[1] = 0
    related = sp.csr_matrix(np.array([[1, 0, 5, 3], [0, 2, 0, 0], [0, 0, 1, 0]], dtype=np.float32))
    heard = with_related(unit, related, others)
    torch.testing.assert_close(heard[0], F.normalize(unit[0] + 0.5 * (others[0] + 3 * others[3]) / 4, dim=0))
    torch.testing.assert_close(heard[1], others[1])
    torch.testing.assert_close(heard[2], unit[2])


@pytest.mark.parametrize("has_media", [True, False])
def test_only_the_other_ends_are_described(has_media: bool) -> None:
    values = random(6, 4).numpy()
    known = {"text": Features("text", "item", values, np.array([0, 1, 1, 3, 4, 4])), "unused": None}
    added = {"text": F.normalize(random(2, 4, seed=2))} if has_media else {}
    edges = sp.csr_matrix((np.ones(3, np.float32), ([0, 1, 1], [1, 3, 5])), shape=(2, 7))  # five known, two new
    between, described = other_ends({"cites": edges}, added, known, ["text"], 5)
    assert list(described) == ["text"]
    assert between["cites"].toarray().tolist() == [[1, 0, 0], [0, 1, 1]]
    all_known = unit_vectors({"text": torch.from_numpy(values)}, {"text": torch.tensor([0, 1, 1, 3, 4, 4])}, 5)["text"]
    torch.testing.assert_close(described["text"][:2], all_known[[1, 3]])
    torch.testing.assert_close(described["text"][2], added["text"][0] if has_media else torch.zeros(4))
