"""The losses beside the ranking loss: each turns embeddings and a batch of positive pairs into one number."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gnnrec.errors import ConfigError
from gnnrec.nn import losses
from gnnrec.nn.model import Embeddings

__all__ = ["AUXILIARY_LOSSES", "Batch", "Candidates", "one_minus_cosine"]

_TEMPERATURE = 0.2  # of every InfoNCE below, as in MGCN and PGL


@dataclass(frozen=True, eq=False)
class Candidates:
    """Items that all pairs of a step are compared with.

    Attributes:
        index: ``[num_candidates]`` different items, ascending.
        log_inclusion: ``[num_candidates]`` logarithm of the chance that a draw of candidates holds each.
    """

    index: Tensor
    log_inclusion: Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """The positive pairs of a step.

    Attributes:
        user_index: ``[batch]``.
        item_index: ``[batch]``.
        negative_index: ``[batch, num_negatives]`` items, where the ranking loss compares pairs.
        view_dropout: Share of the entries set to zero in views that are compared with each other.
        user: ``[batch, dim]`` the user of each pair as of the moment before it; ``None`` where order does not count.
        candidates: What a sampled softmax compares with.
    """

    user_index: Tensor
    item_index: Tensor
    negative_index: Tensor | None = None
    view_dropout: float = 0.0
    user: Tensor | None = None
    candidates: Candidates | None = None


def one_minus_cosine(predicted: Tensor, target: Tensor) -> Tensor:
    """Returns the mean distance of rows ``[batch, dim]`` from targets, through which no gradient flows."""
    return 1 - F.cosine_similarity(predicted, target.detach()).mean()


def _alignment(embeddings: Embeddings, batch: Batch) -> Tensor:
    """InfoNCE between an item's fused content and what its interactions say of it (Wei et al. 2021, CLCRec, eq. 6)."""
    if embeddings.item_content is None:
        raise ConfigError(
            "the auxiliary loss 'alignment' compares the media of items, which this model does not read; "
            "use it with architecture='multimodal', content='add' and items that have media"
        )
    items = torch.unique(batch.item_index)
    items = items[embeddings.item_content.present[items]]
    if not len(items):
        return torch.zeros((), device=items.device)
    content = embeddings.item_content.x[items]
    behaviour = embeddings.propagated[len(embeddings.user_mixed) + items]
    return losses.info_nce(F.normalize(content), F.normalize(behaviour), temperature=_TEMPERATURE)


def _regularisation(embeddings: Embeddings, batch: Batch) -> Tensor:
    """Half the squared length of the layer-0 embeddings of a batch (He et al. 2020, LightGCN, eq. 15)."""
    user, item = embeddings.layer_zero.tensor_split([len(embeddings.user_mixed)])
    return _half_squared_length(user[batch.user_index], item, batch)


def _output_regularisation(embeddings: Embeddings, batch: Batch) -> Tensor:
    """Half the squared length of the final embeddings of a batch (Yu et al. 2023, MGCN, eq. 19)."""
    return _half_squared_length(embeddings.of_users(batch.user_index), embeddings.item, batch)


def _norm_regularisation(embeddings: Embeddings, batch: Batch) -> Tensor:
    """Length of all users as one vector, plus that of all items, per item (BM3, as in the authors' code)."""
    item = _views(embeddings, "item", "norm-regularisation", "bm3")[""]
    norms = [torch.linalg.vector_norm(table) for table in (embeddings.user_mixed, item)]
    return torch.stack(norms).sum() / len(item)


def _content_ranking(embeddings: Embeddings, batch: Batch) -> Tensor:
    """BPR of the user against each modality alone (Zhou & Shen 2023, FREEDOM, section 3.3)."""
    if batch.negative_index is None:
        raise ConfigError("the auxiliary loss 'content-ranking' needs negatives; set the option loss='bpr'")
    user = embeddings.of_users(batch.user_index)
    terms = []
    for content in _views(embeddings, "content.", "content-ranking", "freedom").values():
        positive_score = (user * content[batch.item_index]).sum(-1)
        negative_score = torch.einsum("bd,bnd->bn", user, content[batch.negative_index])
        terms.append(losses.bpr(positive_score, negative_score))
    return torch.stack(terms).sum()


def _content_bootstrap(embeddings: Embeddings, batch: Batch) -> Tensor:
    """Predicts the item, and the modality itself, from each modality (Zhou et al. 2023, BM3, section 3.3)."""
    index, loss = batch.item_index, "content-bootstrap"
    item = F.dropout(_views(embeddings, "item", loss, "bm3")[""][index], batch.view_dropout)
    content = _views(embeddings, "content.", loss, "bm3")
    terms = []
    for name, predicted in _views(embeddings, "predicted.", loss, "bm3").items():
        itself = F.dropout(content[name][index], batch.view_dropout)
        terms += [one_minus_cosine(predicted[index], item), one_minus_cosine(predicted[index], itself)]
    return torch.stack(terms).sum()


def _view_contrast(embeddings: Embeddings, batch: Batch) -> Tensor:
    """InfoNCE of the side view against behaviour, for users and for items (Yu et al. 2023, MGCN, eq. 16)."""
    behaviour = _views(embeddings, "behaviour", "view-contrast", "mgcn")[""]
    side = _views(embeddings, "side", "view-contrast", "mgcn")[""]
    item = batch.item_index + len(embeddings.user_mixed)
    return _contrast(side[item], behaviour[item]) + _contrast(side[batch.user_index], behaviour[batch.user_index])


def _dropout_contrast(embeddings: Embeddings, batch: Batch) -> Tensor:
    """InfoNCE between two dropouts of the same embedding, for users and for items (Yu et al. 2025, PGL)."""

    def of(rows: Tensor) -> Tensor:
        return _contrast(F.dropout(rows, batch.view_dropout), F.dropout(rows, batch.view_dropout))

    return (of(embeddings.of_users(batch.user_index)) + of(embeddings.item[batch.item_index])) / 2


def _identity_contrast(embeddings: Embeddings, batch: Batch) -> Tensor:
    """InfoNCE of the identities of a batch's items against their content encodings (Wei et al. 2021, CLCRec)."""
    items = torch.unique(batch.item_index)
    identity, encoding = (
        _views(embeddings, name, "identity-contrast", "clcrec")[""] for name in ("identity", "encoding")
    )
    return _contrast(identity[items], encoding[items])


def _identity_prediction(embeddings: Embeddings, batch: Batch) -> Tensor:
    """1 − cosine between what content predicts of an item and its identity (after van den Oord et al. 2013)."""
    items = torch.unique(batch.item_index)
    identity, encoding = (
        _views(embeddings, name, "identity-prediction", "generative")[""] for name in ("identity", "encoding")
    )
    return one_minus_cosine(encoding[items], identity[items])


# Name in the option ``auxiliary`` → (embeddings, batch) → a scalar.
AUXILIARY_LOSSES: Mapping[str, Callable[[Embeddings, Batch], Tensor]] = {
    "alignment": _alignment,
    "regularisation": _regularisation,
    "output-regularisation": _output_regularisation,
    "norm-regularisation": _norm_regularisation,
    "content-ranking": _content_ranking,
    "content-bootstrap": _content_bootstrap,
    "view-contrast": _view_contrast,
    "dropout-contrast": _dropout_contrast,
    "identity-contrast": _identity_contrast,
    "identity-prediction": _identity_prediction,
}


def _half_squared_length(user: Tensor, item: Tensor, batch: Batch) -> Tensor:
    """Sums over the user of each pair ``[batch, dim]``, positives and negatives, per positive."""
    total = user.square().sum() + item[batch.item_index].square().sum()
    if batch.negative_index is not None:
        total = total + item[batch.negative_index].square().sum()
    return total / (2 * len(batch.user_index))


def _contrast(left: Tensor, right: Tensor) -> Tensor:
    """Cross-entropy of each row of ``left`` against all rows of ``right``, by cosine; the same row is the positive."""
    same = torch.arange(len(left), device=left.device)
    return losses.full_softmax(F.normalize(left), F.normalize(right), same, same, _TEMPERATURE)


def _views(embeddings: Embeddings, prefix: str, loss: str, architecture: str) -> dict[str, Tensor]:
    """Returns the views whose names begin with ``prefix``, by the rest of their names."""
    found = {name.removeprefix(prefix): view for name, view in embeddings.views.items() if name.startswith(prefix)}
    if not found:
        raise ConfigError(
            f"the auxiliary loss {loss!r} compares views that this architecture does not have; "
            f"use it with architecture={architecture!r}"
        )
    return found
