from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gnnrec.errors import ConfigError
from gnnrec.nn.message_graph import MessageGraph
from gnnrec.nn.model import Embeddings
from gnnrec.nn.multimodal import MultimodalGraphModel
from gnnrec.training.auxiliary import AUXILIARY_LOSSES, Batch
from gnnrec.training.config import TrainingConfig
from gnnrec.training.objective import Objective
from gnnrec.training.steps import Step

NEGATIVE = torch.tensor([[5, 1], [2, 2], [0, 3]])


@pytest.fixture
def embeddings(model: MultimodalGraphModel, graph: MessageGraph) -> Embeddings:
    with torch.no_grad():
        return model(graph)


@pytest.fixture
def batch(graph: MessageGraph) -> Batch:
    """Three positive pairs, with two negatives each."""
    return Batch(*graph.edge_index[:, [0, 1, 40]], NEGATIVE)


def with_views(embeddings: Embeddings, **views: Tensor) -> Embeddings:
    return replace(embeddings, views=views)


def cosine_loss(left: Tensor, right: Tensor) -> Tensor:
    return 1 - (F.normalize(left) * F.normalize(right)).sum(1).mean()


def contrast(left: Tensor, right: Tensor) -> Tensor:
    logits = F.normalize(left) @ F.normalize(right).T / 0.2
    return F.cross_entropy(logits, torch.arange(len(left)))


@pytest.mark.parametrize(("name", "final"), [("regularisation", False), ("output-regularisation", True)])
def test_regularisation_is_half_the_squared_length_of_the_batch(
    name: str, final: bool, embeddings: Embeddings, batch: Batch
) -> None:
    user, item = embeddings.layer_zero.tensor_split([len(embeddings.user)])
    if final:
        user, item = embeddings.user, embeddings.item
    expected = torch.zeros(())
    for row in range(3):
        for vector in (user[batch.user_index[row]], item[batch.item_index[row]], *item[NEGATIVE[row]]):
            expected += vector.square().sum() / 2 / 3
    torch.testing.assert_close(AUXILIARY_LOSSES[name](embeddings, batch), expected)
    # Where the ranking loss draws no negatives, there are none to count.
    without = AUXILIARY_LOSSES[name](embeddings, replace(batch, negative_index=None))
    torch.testing.assert_close(without, expected - item[NEGATIVE].square().sum() / 6)


def test_norm_regularisation_is_a_length_per_item(embeddings: Embeddings, batch: Batch) -> None:
    found = AUXILIARY_LOSSES["norm-regularisation"](with_views(embeddings, item=3 * embeddings.item), batch)
    lengths = embeddings.user_mixed.square().sum().sqrt() + 3 * embeddings.item.square().sum().sqrt()
    torch.testing.assert_close(found, lengths / len(embeddings.item))


def test_content_ranking_is_bpr_of_each_modality_alone(embeddings: Embeddings, batch: Batch) -> None:
    image, sound = torch.randn(2, *embeddings.item.shape)
    expected = torch.zeros(())
    for content in (image, sound):
        score = embeddings.user @ content.T
        for row in range(3):
            user, item = batch.user_index[row], batch.item_index[row]
            for other in NEGATIVE[row]:
                expected -= torch.log(torch.sigmoid(score[user, item] - score[user, other])) / 6
    views = with_views(embeddings, **{"content.image": image, "content.sound": sound})
    torch.testing.assert_close(AUXILIARY_LOSSES["content-ranking"](views, batch), expected)
    with pytest.raises(ConfigError, match=r"content-ranking.*loss='bpr'"):
        AUXILIARY_LOSSES["content-ranking"](views, replace(batch, negative_index=None))


def test_content_bootstrap_predicts_the_item_and_the_modality(embeddings: Embeddings, batch: Batch) -> None:
    item, content, predicted = (torch.randn(*embeddings.item.shape, requires_grad=True) for _ in range(3))
    views = with_views(embeddings, item=item, **{"content.image": content, "predicted.image": predicted})
    loss = AUXILIARY_LOSSES["content-bootstrap"](views, batch)
    rows = batch.item_index
    torch.testing.assert_close(
        loss, cosine_loss(predicted[rows], item[rows]) + cosine_loss(predicted[rows], content[rows])
    )
    loss.backward()
    assert predicted.grad.any()
    assert item.grad is None  # targets
    assert content.grad is None


def test_targets_of_content_are_dropped_out(embeddings: Embeddings, batch: Batch) -> None:
    """In both terms: by itself neither a constant item nor a constant modality hides that the other is dropped."""
    torch.manual_seed(0)
    same, rows = torch.ones_like(embeddings.item), torch.randn_like(embeddings.item)
    for views in ({"item": rows, "content.look": same}, {"item": same, "content.look": rows}):
        compared = with_views(embeddings, **views, **{"predicted.look": rows})
        whole, dropped = (
            AUXILIARY_LOSSES["content-bootstrap"](compared, replace(batch, view_dropout=share)) for share in (0.0, 0.5)
        )
        assert dropped - whole > 0.1  # a vector is no longer parallel to itself


def test_view_contrast_tells_users_apart_and_items_apart(embeddings: Embeddings, batch: Batch) -> None:
    side, behaviour = torch.randn(2, *embeddings.layer_zero.shape)
    user, item = batch.user_index, batch.item_index + len(embeddings.user)
    expected = contrast(side[user], behaviour[user]) + contrast(side[item], behaviour[item])
    views = with_views(embeddings, side=side, behaviour=behaviour)
    torch.testing.assert_close(AUXILIARY_LOSSES["view-contrast"](views, batch), expected)


def test_dropout_contrast_compares_a_row_with_itself(embeddings: Embeddings, batch: Batch) -> None:
    user, item = embeddings.user[batch.user_index], embeddings.item[batch.item_index]
    found = AUXILIARY_LOSSES["dropout-contrast"](embeddings, batch)
    torch.testing.assert_close(found, (contrast(user, user) + contrast(item, item)) / 2)
    dropped = AUXILIARY_LOSSES["dropout-contrast"](embeddings, replace(batch, view_dropout=0.5))
    assert not torch.isclose(dropped, found)


def test_identities_are_held_against_encodings_once_per_item(embeddings: Embeddings, batch: Batch) -> None:
    identity, encoding = (torch.randn(*embeddings.item.shape, requires_grad=True) for _ in range(2))
    views = with_views(embeddings, identity=identity, encoding=encoding)
    items = torch.unique(batch.item_index)
    twice = replace(batch, item_index=torch.cat([batch.item_index, items]))
    expected = contrast(identity[items], encoding[items])
    torch.testing.assert_close(AUXILIARY_LOSSES["identity-contrast"](views, twice), expected)
    prediction = AUXILIARY_LOSSES["identity-prediction"](views, twice)
    torch.testing.assert_close(prediction, cosine_loss(encoding[items], identity[items]))
    prediction.backward()
    assert encoding.grad.any()
    assert identity.grad is None  # a target


@pytest.mark.parametrize(
    "name",
    [
        *("norm-regularisation", "content-ranking", "content-bootstrap", "view-contrast"),
        *("identity-contrast", "identity-prediction"),
    ],
)
def test_losses_of_other_architectures_are_refused(name: str, embeddings: Embeddings, batch: Batch) -> None:
    with pytest.raises(ConfigError, match=rf"{name}.*architecture="):
        AUXILIARY_LOSSES[name](embeddings, batch)


def test_dropout_and_negatives_come_from_the_options(graph: MessageGraph, embeddings: Embeddings) -> None:
    options = TrainingConfig(loss="bpr", negatives=3, auxiliary={"dropout-contrast": 0.5}, view_dropout=0.9)
    pairs = torch.arange(graph.edge_index.shape[1])
    terms = []
    for config in (options, replace(options, view_dropout=0.0)):
        objective = Objective(graph, config)
        step = objective.drawn(Step(graph, pairs, *graph.edge_index), torch.Generator().manual_seed(0))
        terms.append(objective(embeddings, step)["dropout-contrast"])
    assert terms[0] > terms[1]


def test_alignment_contrasts_content_with_behaviour(graph: MessageGraph, embeddings: Embeddings) -> None:
    items = (graph.item_degree > 0).nonzero().flatten()
    content = F.normalize(embeddings.item_content.x[items])
    behaviour = F.normalize(embeddings.propagated[graph.num_users + items])
    logits, target = content @ behaviour.T / 0.2, torch.arange(len(items))
    expected = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    everything = Batch(*graph.edge_index)
    torch.testing.assert_close(AUXILIARY_LOSSES["alignment"](embeddings, everything), expected)


def test_alignment_passes_over_items_without_media(graph: MessageGraph, embeddings: Embeddings, batch: Batch) -> None:
    without = replace(embeddings, item_content=None)
    with pytest.raises(ConfigError, match="'alignment' compares the media of items"):
        AUXILIARY_LOSSES["alignment"](without, batch)
    absent = replace(embeddings.item_content, present=torch.zeros(graph.num_items, dtype=torch.bool))
    nobody = replace(embeddings, item_content=absent)
    assert AUXILIARY_LOSSES["alignment"](nobody, batch) == 0
