from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
import torch.nn.functional as F

from gnnrec.data.pairs import relation_matrix
from gnnrec.rankers import attachment as attachment_module
from gnnrec.rankers.attachment import ContentAttachment, ModalitySpace
from gnnrec.rankers.fold_in import content_tastes
from gnnrec.rankers.item_vectors import unit_vectors

WIDTHS = {"text": 10, "image": 5}


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float(), dim=-1)


@pytest.fixture
def media() -> dict[str, torch.Tensor]:
    """Fifty items with two texts each; every other one has an image."""
    x_dict = {"text": unit(100, 10), "image": unit(25, 5, seed=1)}
    return unit_vectors(x_dict, {"text": torch.arange(100) // 2, "image": torch.arange(0, 50, 2)}, 50)


def pairs_of_items(count: int) -> sp.csr_matrix:
    """Joins every item of even number to the one behind it."""
    even = np.arange(0, count, 2)
    return relation_matrix(even, even + 1, np.ones(len(even), np.float32), count)


def test_neighbours_send_the_mean_weighted_by_cosines() -> None:
    known = unit(8, 3)
    space = ModalitySpace.fit(known, torch.tensor([0, 2, 4, 6, 7]))
    sent, query = unit(8, 6, seed=2), unit(1, 3, seed=3)
    mean = known[[0, 2, 4, 6, 7]].mean(dim=0)
    cosine = F.cosine_similarity(query - mean, known - mean)  # all three directions are kept
    cosine[[1, 3, 5]] = -1
    best = cosine.topk(2).indices
    weight = cosine[best] / cosine[best].sum()
    place, present, heard = space.describe(query, sent, 2)[0].split([3, 1, 6])
    torch.testing.assert_close(heard, weight @ sent[best])
    torch.testing.assert_close(place @ space.basis.T, query[0] - mean)
    assert present == pytest.approx(0.3)


def test_nobody_hears_itself_and_nothing_hears_nothing() -> None:
    known = unit(6, 3)
    space = ModalitySpace.fit(known, torch.arange(6))
    only_itself = torch.eye(6)
    heard = space.describe(known, only_itself, 6, itself=torch.arange(6))[:, 4:]
    assert heard.any()
    assert not heard.diagonal().any()
    assert not space.describe(torch.zeros(1, 3), only_itself, 2).any()


def test_a_known_item_hears_as_many_others_as_a_new_one_would() -> None:
    known, sent = unit(8, 3), unit(8, 6, seed=2)
    space = ModalitySpace.fit(known, torch.arange(8))
    without = ModalitySpace(space.mean, space.basis, space.position[1:], torch.arange(1, 8))
    as_new = without.describe(known[:1], sent, 3)
    torch.testing.assert_close(space.describe(known[:1], sent, 3, itself=torch.tensor([0])), as_new)


def test_the_first_directions_are_those_of_most_variance() -> None:
    x = unit(300, 4) * torch.tensor([0.1, 3.0, 0.1, 1.0])
    basis = ModalitySpace.fit(F.normalize(x), torch.arange(300)).basis
    assert basis[:, 0].abs().argmax() == 1
    assert basis[:, 1].abs().argmax() == 3


def test_what_content_tells_is_found(media: dict[str, torch.Tensor]) -> None:
    target = media["text"] @ unit(10, 4, seed=5)
    attachment, examples, left_out = ContentAttachment.fit(media, {}, torch.arange(40), target, target, neighbours=3)
    assert torch.equal(examples, torch.arange(40))
    assert F.mse_loss(left_out, target[:40]) < 0.1 * target.var()
    assert F.mse_loss(attachment({"text": media["text"][40:]}, 10, target), target[40:]) < 0.1 * target.var()


def test_neighbours_tell_what_no_line_can() -> None:
    """What items are like depends on where they lie in circles: near ones are alike, opposite ones too."""
    angle = torch.linspace(0, 2 * torch.pi, 201)[:200]
    x = torch.stack([angle.cos(), angle.sin()], dim=1)
    target = torch.stack([(4 * angle).cos(), (4 * angle).sin()], dim=1)
    known = torch.arange(0, 200, 2)
    error = {}
    for neighbours in (0, 4):
        attachment, _, _ = ContentAttachment.fit({"place": x}, {}, known, target, target, neighbours)
        error[neighbours] = F.mse_loss(attachment({"place": x[1::2]}, 100, target), target[1::2])
    assert error[4] < 0.05 < error[0]


def test_a_missing_modality_is_not_an_average_one(media: dict[str, torch.Tensor]) -> None:
    """Items with an image are liked more, whatever it shows."""
    target = torch.zeros(50, 1)
    target[::2] = 1
    attachment, _, _ = ContentAttachment.fit(media, {}, torch.arange(50), unit(50, 4), target, neighbours=0)
    without = attachment({}, 1, unit(50, 4))
    with_one = attachment({"image": unit(1, 5, seed=7)}, 1, unit(50, 4))
    assert without < 0.3 < 0.6 < with_one


def test_a_modality_of_noise_is_trusted_where_there_is_no_other() -> None:
    """Without any trust all new items would be the same."""
    noise, target = unit(60, 4), unit(60, 4, seed=5)
    attachment, _, _ = ContentAttachment.fit({"noise": noise}, {}, torch.arange(60), target, target, 0)
    assert attachment.trust.any()


def test_a_modality_of_noise_is_not_trusted() -> None:
    unit_dict = {"text": unit(60, 10), "noise": unit(60, 40, seed=9)}
    target = unit_dict["text"] @ unit(10, 4, seed=5) + 0.2 * unit(60, 4, seed=6)
    error = {}
    for names in (["text"], ["text", "noise"]):
        given = {name: unit_dict[name] for name in names}
        attachment, _, left_out = ContentAttachment.fit(given, {}, torch.arange(60), target, target, 0)
        error[len(names)] = F.mse_loss(left_out, target)
    assert attachment.trust.tolist()[0] == 1
    assert attachment.trust.tolist()[1] < 1
    assert error[2] < 1.02 * error[1]


def test_an_item_that_is_left_out_does_not_hear_itself() -> None:
    """Items of random content send what is to be predicted of them: whoever hears itself knows it."""
    x, target = unit(60, 10, seed=5), unit(60, 4)
    _, _, left_out = ContentAttachment.fit({"text": x}, {}, torch.arange(60), target, target, neighbours=1)
    assert F.mse_loss(left_out, target) > 0.9 * target.var()


def test_restored_it_says_the_same(media: dict[str, torch.Tensor]) -> None:
    joined = {"pairs": pairs_of_items(50)}
    attachment, _, _ = ContentAttachment.fit(
        media, joined, torch.arange(50), unit(50, 4), unit(50, 6, seed=8), neighbours=2
    )
    histories = sp.csr_matrix(np.eye(30, 50, dtype=np.float32) + np.eye(30, 50, k=7, dtype=np.float32))
    attachment = attachment.learn_tastes(media, histories, unit(30, 4), unit(50, 4))
    saved = attachment.tensors()
    again = ContentAttachment.restore(saved, WIDTHS, attachment.relations, 2)
    assert again.relations == attachment.relations
    assert torch.equal(again(media, 50, unit(50, 4)), attachment(media, 50, unit(50, 4)))
    assert torch.equal(again.content(media, 50), attachment.content(media, 50))
    # Before format 4 content was compared in up to 64 directions of each modality: their place stays empty.
    del saved["directions"]
    older = ContentAttachment.restore(saved, WIDTHS, {}, 2)
    assert torch.equal(older.content(media, 50), torch.zeros(50, 15))


def test_tastes_are_compared_in_stretched_directions_as_far_as_modalities_are_trusted(
    media: dict[str, torch.Tensor],
) -> None:
    """With fewer directions than are kept, the product is that of all main directions, each at the same spread."""
    media["text"] = F.normalize(media["text"] * torch.logspace(-1, 1, 10))  # most of a cosine lies in one direction
    histories = sp.random(30, 50, density=0.2, format="csr", dtype=np.float32, random_state=0)
    histories.data[:] = 1
    fitted, _, left_out = ContentAttachment.fit(media, {}, torch.arange(50), unit(50, 4), unit(50, 4), 0)
    half = replace(fitted, trust=torch.tensor([1.0, 0.5]))
    half = half.learn_tastes(media, histories, unit(30, 4, seed=3), left_out)
    content = half.content(media, 50)

    expected = []
    for trust, (name, space) in zip((1.0, 0.5), half.spaces.items(), strict=True):
        place = (media[name] - space.mean) @ space.basis
        place[media[name].abs().sum(dim=1) == 0] = 0
        variance = place[space.owner].var(dim=0, correction=0)
        expected.append(trust * place / (variance + 0.01 * variance.max()).sqrt())
    expected = torch.cat(expected, dim=1)
    product, wanted = content @ content.T, expected @ expected.T
    scale = float(product[0, 0] / wanted[0, 0])
    torch.testing.assert_close(product, scale * wanted, atol=1e-4, rtol=1e-3)
    few = half.content({"text": media["text"][:2]}, 2)
    only_text, _ = half.directions.split([10, 5])
    torch.testing.assert_close(few, half.spaces["text"].place(media["text"][:2]) @ only_text)


def test_a_modality_in_which_all_known_items_are_alike_tells_no_taste(media: dict[str, torch.Tensor]) -> None:
    alike = {"text": media["text"], "image": unit(1, 5).expand(50, 5)}
    sent, user = media["text"] @ unit(10, 4, seed=2), unit(20, 4, seed=3)
    chosen = sp.csr_matrix((np.random.default_rng(0).random((20, 50)) < 0.2).astype(np.float32))
    attachment = ContentAttachment.fit(alike, {}, torch.arange(50), sent, sent, 5)[0]
    attachment = attachment.learn_tastes(alike, chosen, user, sent)
    other = {"text": media["text"][:1], "image": unit(1, 5, seed=9)}
    largest = attachment.content(alike, 50).norm(dim=1).max()
    assert attachment.content(other, 1).norm() < 2 * largest


def test_tastes_spread_items_as_wide_as_the_model_does(media: dict[str, torch.Tensor]) -> None:
    histories = sp.csr_matrix(np.eye(30, 50, dtype=np.float32) + np.eye(30, 50, k=7, dtype=np.float32))
    fitted, _, _ = ContentAttachment.fit(media, {}, torch.arange(50), unit(50, 4), unit(50, 4, seed=9), 0)
    user, item = 3 * unit(30, 4, seed=4), unit(50, 4, seed=5)
    content = fitted.learn_tastes(media, histories, user, item).content(media, 50)
    product = content_tastes(histories, content) @ content.T
    torch.testing.assert_close(product.std(dim=1).mean(), (user @ item.T).std(dim=1).mean())
    # A catalogue of one item has no spread, and nothing to compare.
    one = {"text": media["text"][:1]}
    single, _, _ = ContentAttachment.fit(one, {}, torch.arange(1), unit(1, 4), unit(1, 4), 0)
    single = single.learn_tastes(one, sp.csr_matrix(np.ones((3, 1), np.float32)), unit(3, 4), unit(1, 4))
    assert not single.content({"text": media["text"][1:2]}, 1).any()


def test_the_directions_that_are_kept_are_those_in_which_tastes_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """Items vary most in the first direction, people choose by the third: one direction has to hold that."""
    monkeypatch.setattr(attachment_module, "_DIRECTIONS_OF_TASTE", 1)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(80, 4))).float() * torch.tensor([4.0, 2.0, 1.0, 0.5])
    order = x[:, 2].argsort().numpy()
    chosen = np.zeros((20, 80), dtype=np.float32)
    for person in range(20):
        chosen[person, order[person * 4 : person * 4 + 4]] = 1
    media = {"look": F.normalize(x)}
    fitted, _, _ = ContentAttachment.fit(media, {}, torch.arange(80), x, x, 0)
    content = fitted.learn_tastes(media, sp.csr_matrix(chosen), unit(20, 4), unit(80, 4)).content(media, 80)
    correlation = np.corrcoef(np.concatenate([content.numpy().T, F.normalize(x).numpy().T]))[0, 1:]
    assert abs(correlation[2]) > 0.9 > 0.3 > abs(correlation[[0, 1, 3]]).max()


def test_tastes_are_the_mean_content_of_a_history() -> None:
    content = unit(6, 3)
    histories = sp.csr_matrix(np.array([[1, 0, 1, 0, 0, 0], [0] * 6, [0, 0, 0, 0, 0, 1]], dtype=np.float32))
    expected = torch.stack([(content[0] + content[2]) / 2, torch.zeros(3), content[5]])
    torch.testing.assert_close(content_tastes(histories, content), expected)


def test_a_relation_tells_what_an_item_lacks() -> None:
    """One item of each pair has no text; both are what the text of the other says."""
    text = unit(40, 10).repeat_interleave(2, dim=0)
    target = text @ unit(10, 4, seed=5)
    text[1::2] = 0
    attachment, _, left_out = ContentAttachment.fit(
        {"text": text}, {"pairs": pairs_of_items(80)}, torch.arange(60), target, target, 0
    )
    assert attachment.relations == {"pairs": True}
    assert F.mse_loss(left_out, target[:60]) < 0.05 * target.var()
    new = {"text": torch.zeros(10, 10)}  # the odd ones of the last ten pairs, each of which hears of its even one
    related = sp.csr_matrix(np.eye(10, dtype=np.float32))
    heard = attachment.hear_related(new, {"pairs": related}, {"text": text[60::2]})
    torch.testing.assert_close(heard["text"], text[60::2])
    assert F.mse_loss(attachment(heard, 10, target), target[61::2]) < 0.05 * target.var()
    # Where the new items bring nothing of their own, they are described all the same; without the relation, not at all.
    torch.testing.assert_close(attachment.hear_related({}, {"pairs": related}, {"text": text[60::2]}), heard)
    assert not attachment.hear_related(new, {}, {})["text"].any()


def test_a_relation_that_misleads_is_not_heard(media: dict[str, torch.Tensor]) -> None:
    """Pairs at random have nothing in common, whatever their number; those that agree do, and are kept."""
    target = media["text"] @ unit(10, 4, seed=5)
    shuffled = np.random.default_rng(0).permutation(50)
    chance = pairs_of_items(50)[shuffled][:, shuffled] + pairs_of_items(50)
    attachment, _, left_out = ContentAttachment.fit(media, {"chance": chance}, torch.arange(50), target, target, 0)
    _, _, without = ContentAttachment.fit(media, {}, torch.arange(50), target, target, 0)
    assert attachment.relations == {"chance": False}
    torch.testing.assert_close(left_out, without)
    assert torch.equal(attachment.hear_related(media, {"chance": chance}, media)["text"], media["text"])
