"""Turns a matrix of scores into each row's k best items, exactly."""

import torch
from torch import Tensor

__all__ = ["select", "select_directly"]

_GROUP = 32  # items per group in the two-step selection


def select(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Returns the k best values and positions of each row, equal values by position.

    A long row is first cut into groups: its k best items lie in the k groups with the best maxima, so one
    cheap pass for the maxima replaces a selection over the whole row (3 to 8 times faster from 100,000 items).

    Args:
        scores: ``[num_rows, num_items]``; NaN counts as the highest.
        k: At most ``num_items``.

    Returns:
        ``[num_rows, k]`` values and positions.
    """
    num_items = scores.shape[1]
    if num_items < 4 * k * _GROUP:
        return select_directly(scores, k)
    whole = num_items // _GROUP * _GROUP
    groups = scores[:, :whole].reshape(len(scores), whole // _GROUP, _GROUP)
    best_groups = select_directly(groups.amax(dim=2), k)[1].sort(dim=1).values
    position = (best_groups[:, :, None] * _GROUP + torch.arange(_GROUP, device=scores.device)).flatten(1)
    rest = torch.arange(whole, num_items, device=scores.device).expand(len(scores), -1)
    candidates = torch.cat([position, rest], dim=1)  # ascending, so ties still go to the lower index
    values, chosen = select_directly(scores.gather(1, candidates), k)
    return values, candidates.gather(1, chosen)


def select_directly(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """As :func:`select`, in one step: for short rows."""
    values, index = scores.topk(min(k + 1, scores.shape[1]), dim=1)
    if k and values.shape[1] > k:  # torch.topk picks any of the items that tie for the k-th place
        tied = ((values[:, k - 1] == values[:, k]) & (values[:, k] > -torch.inf)).nonzero().squeeze(1)
        if len(tied):
            index[tied, :k] = _lowest_of_equals(scores[tied], values[tied, k, None], k)
    index = index[:, :k].sort(dim=1).values
    values, order = scores.gather(1, index).sort(dim=1, descending=True, stable=True)
    return values, index.gather(1, order)


def _lowest_of_equals(scores: Tensor, kth: Tensor, k: int) -> Tensor:
    """Returns ``[rows, k]`` positions: all scores above the k-th best and the first of those equal to it."""
    above, equal = ~(scores <= kth), scores == kth  # NaN counts as above, so that whoever refuses it sees it
    keep = above | (equal & (equal.cumsum(dim=1) <= k - above.sum(dim=1, keepdim=True)))
    return keep.nonzero()[:, 1].view(-1, k)
