"""Ranking losses over embeddings of users and items, each with its closed form where autograd would be slow."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["binary_cross_entropy", "bpr", "full_softmax", "info_nce", "sampled_softmax"]

# Rows of the score matrix held at once: 256 × 10,000 items of float32 still lie in the cache.
_BLOCK_SCORES = 2_560_000


def full_softmax(users: Tensor, items: Tensor, row: Tensor, positive_index: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of positive items against the whole catalogue.

    ``mean_b( log sum_j exp(u_r(b) · v_j / t) − u_r(b) · v_p(b) / t )``

    A user's scores are formed once, however many positives the user has in the batch. They exist only in blocks of
    users, and the gradient is formed in the same pass (``softmax − one-hot``), so autograd keeps nothing of that size.

    Cost: ``O(num_users × num_items × dim)`` time, three matrix products in all.

    Args:
        users: ``[num_users, dim]`` the different users of the batch.
        items: ``[num_items, dim]``.
        row: ``[batch]`` int64, position in ``users`` of each positive's user.
        positive_index: ``[batch]`` int64, position in ``items`` of each positive.
        temperature: ``t`` > 0; .1 to .3 for cosine scores.

    Returns:
        A scalar.
    """
    # Sums over thousands of items need single precision, whatever autocast says.
    with torch.autocast(users.device.type, enabled=False):
        loss: Tensor = _FullSoftmax.apply(users, items, row, positive_index, temperature)
    return loss


class _FullSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, users: Tensor, items: Tensor, row: Tensor, positive_index: Tensor, temperature: float
    ) -> Tensor:
        users, items = users.float() / temperature, items.float()
        count = torch.bincount(row, minlength=len(users)).to(users.dtype)[:, None]
        # The one-hot part: every pair pulls its two vectors together.
        user_gradient = torch.zeros_like(users).index_add_(0, row, items[positive_index]).neg_()
        item_gradient = torch.zeros_like(items).index_add_(0, positive_index, users[row]).neg_()
        loss = (user_gradient * users).sum()
        rows = max(1, _BLOCK_SCORES // len(items))
        for start in range(0, len(users), rows):
            block, times = users[start : start + rows], count[start : start + rows]
            scores = block @ items.T
            highest = scores.amax(dim=1, keepdim=True)
            probability = scores.sub_(highest).exp_()
            total = probability.sum(dim=1, keepdim=True)
            loss += (times * (total.log() + highest)).sum()
            probability.mul_(times / total)
            user_gradient[start : start + len(block)] += probability @ items
            item_gradient.addmm_(probability.T, block)
        batch = len(row)
        ctx.save_for_backward(user_gradient.div_(batch * temperature), item_gradient.div_(batch))
        return loss / batch

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        user_gradient, item_gradient = ctx.saved_tensors
        return gradient * user_gradient, gradient * item_gradient, None, None, None


def sampled_softmax(
    users: Tensor, positives: Tensor, negatives: Tensor, log_probability: Tensor, temperature: float
) -> Tensor:
    """Cross-entropy of each positive against shared sampled items, corrected for how they were sampled.

    Subtracting ``log(expected count)`` of each sampled item makes the sampled softmax an estimate of the full one
    (Bengio & Senécal 2008; Yi et al. 2019, eq. 3). A negative that is the positive itself is masked.

    Args:
        users: ``[batch, dim]``.
        positives: ``[batch, dim]`` embedding of each true item.
        negatives: ``[num_negatives, dim]`` items shared by the batch.
        log_probability: ``[batch, num_negatives]`` or ``[num_negatives]``: log of the expected number of times that
            each negative is drawn; ``inf`` masks it out.
        temperature: As in :func:`full_softmax`.

    Returns:
        A scalar.
    """
    positive_score = (users * positives).sum(-1, keepdim=True) / temperature
    negative_score = users @ negatives.T / temperature - log_probability
    return (
        torch.logsumexp(torch.cat([positive_score, negative_score], dim=1), dim=1, keepdim=True) - positive_score
    ).mean()


def bpr(positive_score: Tensor, negative_score: Tensor) -> Tensor:
    """Bayesian personalised ranking: ``−log σ(s⁺ − s⁻)`` (Rendle et al. 2009, section 4.1).

    Args:
        positive_score: ``[batch]``.
        negative_score: ``[batch]`` or ``[batch, num_negatives]``.

    Returns:
        A scalar, the mean.
    """
    if negative_score.dim() > positive_score.dim():
        positive_score = positive_score.unsqueeze(-1)
    return F.softplus(negative_score - positive_score).mean()


def binary_cross_entropy(positive_score: Tensor, negative_score: Tensor) -> Tensor:
    """Link prediction as classification: positives to 1, sampled negatives to 0 (He et al. 2017, NCF, eq. 7).

    Args:
        positive_score: ``[batch]`` logits.
        negative_score: ``[batch]`` or ``[batch, num_negatives]`` logits.

    Returns:
        A scalar: the mean over positives plus the mean over negatives, halved.
    """
    return (F.softplus(-positive_score).mean() + F.softplus(negative_score).mean()) / 2


def info_nce(left: Tensor, right: Tensor, temperature: float) -> Tensor:
    """Symmetric contrastive loss between two views of the same rows (Radford et al. 2021, CLIP, figure 3).

    Args:
        left: ``[rows, dim]`` unit vectors.
        right: ``[rows, dim]`` unit vectors; row ``r`` of both belongs together, all other rows are negatives.
        temperature: > 0.

    Returns:
        A scalar.
    """
    same = torch.arange(len(left), device=left.device)
    return (full_softmax(left, right, same, same, temperature) + full_softmax(right, left, same, same, temperature)) / 2
