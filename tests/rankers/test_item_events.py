import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F

from gnnrec.rankers.item_events import tell_new_items
from gnnrec.rankers.serving import ServingTensors

DIM = 4


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float()


def serving() -> ServingTensors:
    """Six people, five items with a bias behind their vectors; items 1, 3 and 4 are new."""
    return ServingTensors(
        user=random(6, DIM + 1, seed=0),
        item=random(5, DIM + 1, seed=1),
        user_base=torch.zeros(6, DIM),
        item_messages=torch.zeros(5, DIM),
        item_propagated=torch.zeros(5, DIM),
        item_degree=torch.tensor([3, 0, 2, 0, 0]),
        user_taste=torch.zeros(6, 0),
        item_content=torch.zeros(5, 0),
        content_weight=torch.zeros(5),
        item_is_new=torch.tensor([False, True, False, True, True]),
        told=torch.zeros(0, dtype=torch.int64),
        told_item=torch.zeros(0, DIM + 1),
    )


def events(*pairs: tuple[int, int]) -> sp.csr_matrix:
    user, item = zip(*pairs, strict=True)
    return sp.csr_matrix((np.ones(len(pairs), np.float32), (user, item)), shape=(6, 5))


def test_content_counts_as_five_people() -> None:
    before = serving()
    after = tell_new_items(before, events((0, 0), (1, 0), (0, 1), (4, 1), (5, 1), (2, 4)), DIM)
    unit, content = F.normalize(before.user[:, :DIM]), before.item[:, :DIM]
    for item, people in ((1, [0, 4, 5]), (4, [2])):
        direction = F.normalize(5 * F.normalize(content[item], dim=0) + unit[people].sum(dim=0), dim=0)
        torch.testing.assert_close(after.item_now[item, :DIM], direction * content[item].norm())
        assert after.item_now[item, DIM] == before.item[item, DIM]
    assert torch.equal(after.item_now[[0, 2, 3]], before.item[[0, 2, 3]])  # known, known, and new but chosen by nobody
    assert torch.equal(after.item, before.item)


def test_without_a_bias_all_of_the_vector_moves() -> None:
    before = serving()
    after = tell_new_items(before, events((2, 4)), DIM + 1)
    direction = F.normalize(5 * F.normalize(before.item[4], dim=0) + F.normalize(before.user[2], dim=0), dim=0)
    torch.testing.assert_close(after.item_now[4], direction * before.item[4].norm())


def test_all_events_at_once_or_one_by_one_come_to_the_same() -> None:
    whole = tell_new_items(serving(), events((0, 1), (4, 1), (2, 4)), DIM)
    parts = serving()
    for known in (events((4, 1)), events((4, 1), (2, 4)), events((0, 1), (4, 1), (2, 4))):
        parts = tell_new_items(parts, known, DIM)
    for name, value in vars(whole).items():
        torch.testing.assert_close(getattr(parts, name), value, msg=name)


def test_without_new_items_nothing_is_done() -> None:
    before = serving()
    before.item_is_new[:] = False
    assert tell_new_items(before, events((0, 1)), DIM) is before
