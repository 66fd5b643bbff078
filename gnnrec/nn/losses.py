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
        precision = torch.promote_types(torch.promote_types(users.dtype, items.dtype), torch.float32)
        users, items = users.to(precision) / temperature, items.to(precision)
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
    users: Tensor,
    positives: Tensor,
    candidates: Tensor,
    log_probability: Tensor,
    *,
    row: Tensor,
    own: Tensor,
    temperature: float,
) -> Tensor:
    """Cross-entropy of each positive against a sample of the items, corrected for how the sample was drawn.

    ``mean_b( log( exp s_b + sum_{j in sample, j ≠ p(b)} exp(s_rj) / π_j ) − s_b )`` with the score ``s_b`` of a pair
    and the chance ``π_j`` that item ``j`` is in the sample: without the positive, the sum has the one over all items as
    its expectation (Horvitz & Thompson 1952; the logQ correction of Bengio & Senécal 2008 and Yi et al. 2019, eq. 3,
    for samples without repetition). As in :func:`full_softmax` scores exist in blocks, and once for each user.

    Cost: ``O(num_users × num_candidates × dim)`` time.

    Args:
        users: ``[num_users, dim]`` the different users of the batch.
        positives: ``[batch, dim]`` embedding of each true item.
        candidates: ``[num_candidates, dim]`` different items, shared by the batch.
        log_probability: ``[num_candidates]`` logarithm of ``π``.
        row: ``[batch]`` int64, position in ``users`` of each positive's user.
        own: ``[batch]`` int64, position in ``candidates`` of each true item; -1 if it is not among them.
        temperature: As in :func:`full_softmax`.

    Returns:
        A scalar.
    """
    with torch.autocast(users.device.type, enabled=False):
        loss: Tensor = _SampledSoftmax.apply(users, positives, candidates, log_probability, row, own, temperature)
    return loss


class _SampledSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        users: Tensor,
        positives: Tensor,
        candidates: Tensor,
        log_probability: Tensor,
        row: Tensor,
        own: Tensor,
        temperature: float,
    ) -> Tensor:
        precise = torch.promote_types(users.dtype, torch.float32)
        users, positives, candidates = users.to(precise) / temperature, positives.to(precise), candidates.to(precise)
        positive_score = (users[row] * positives).sum(dim=1)
        user_gradient, candidate_gradient = torch.zeros_like(users), torch.zeros_like(candidates)
        pull = torch.empty_like(positive_score)
        loss = users.new_zeros(())
        together = row.argsort(stable=True)
        rows = max(1, _BLOCK_SCORES // max(len(candidates), 1))
        starts = torch.arange(0, len(users) + rows, rows, device=row.device)
        ends = torch.searchsorted(row[together], starts).tolist()
        for block_index, start in enumerate(range(0, len(users), rows)):
            block = users[start : start + rows]
            pair = together[ends[block_index] : ends[block_index + 1]]
            at, position = row[pair] - start, own[pair].clamp(min=0)
            scores = block @ candidates.T - log_probability
            highest = scores.amax(dim=1, keepdim=True)
            weight = scores.sub_(highest).exp_()
            of_own = weight[at, position] * (own[pair] >= 0)
            others = (weight.sum(dim=1)[at] - of_own).clamp(min=0).log() + highest[at, 0]
            total = torch.logaddexp(others, positive_score[pair])
            loss += (total - positive_score[pair]).sum()
            pull[pair] = (positive_score[pair] - total).exp() - 1
            share = (highest[at, 0] - total).exp()  # what turns the weights of a row into probabilities
            weight.mul_(weight.new_zeros(len(block)).index_add_(0, at, share)[:, None])
            weight.index_put_((at, position), -of_own * share, accumulate=True)
            user_gradient[start : start + len(block)] = weight @ candidates
            candidate_gradient.addmm_(weight.T, block)
        user_gradient.index_add_(0, row, pull[:, None] * positives)
        batch = len(row)
        ctx.save_for_backward(
            user_gradient.div_(batch * temperature), pull[:, None] * users[row] / batch, candidate_gradient.div_(batch)
        )
        return loss / batch

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None, None]:
        of_users, of_positives, of_candidates = ctx.saved_tensors
        return gradient * of_users, gradient * of_positives, gradient * of_candidates, None, None, None, None


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
