"""Predicts labels of the owners, such as rating, category or sentiment, from every modality by one shared head."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnnrec.nn.alignment.objective import AlignedRows, AlignmentObjective

__all__ = ["MultiTask"]


class MultiTask(AlignmentObjective):
    """One linear head per task, shared by all modalities (Caruana 1997, hard parameter sharing).

    A head that serves every modality makes their vectors mean the same wherever the labels depend on them. Classes are
    judged by cross-entropy, several classes at once by binary cross-entropy, numbers by the squared error; tasks and
    modalities count alike. Owners with equal labels are not told apart, so it brings together kinds of owners rather
    than the owner itself; add it, with a weight, to an objective that does.

    Args:
        num_modalities: Number of modalities.
        dim: Width of the common space.
        tasks: Label → number of classes, or 1 for a number.
    """

    def __init__(self, num_modalities: int, dim: int, tasks: Mapping[str, int] | None = None) -> None:
        super().__init__(num_modalities, dim)
        self.tasks = tuple(tasks or {})
        # A list, since a ModuleDict refuses some names; a task may be called anything.
        self.heads = nn.ModuleList(nn.Linear(dim, width) for width in (tasks or {}).values())

    def forward(self, rows: AlignedRows) -> Tensor:
        """Returns the mean over all tasks and modalities for which a label is known."""
        losses = []
        for name, head in zip(self.tasks, self.heads, strict=True):
            label = rows.labels[name]
            known = rows.present & _known(label)[:, None]
            for modality in torch.nonzero(known.any(dim=0)).flatten().tolist():
                chosen = known[:, modality]
                losses.append(_error(head(rows.z[chosen, modality]), label[chosen]))
        return torch.stack(losses).mean() if losses else rows.z.sum() * 0


def _known(label: Tensor) -> Tensor:
    if not label.is_floating_point():
        return label >= 0
    return ~(label.isnan() if label.ndim == 1 else label.isnan().any(dim=1))


def _error(predicted: Tensor, label: Tensor) -> Tensor:
    if not label.is_floating_point():
        return F.cross_entropy(predicted, label)
    if label.ndim == 2:
        return F.binary_cross_entropy_with_logits(predicted, label)
    return F.mse_loss(predicted.squeeze(1), label)
