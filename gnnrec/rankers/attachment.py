"""Places new items among the known ones: predicts from their media what training would have made of them.

A network that reads content has as many examples as there are items, some thousands, each of hundreds of numbers, and
learns them by heart. Ridge regression shrinks what the examples do not tell. Mapping content to the vectors of a
trained model is due to Gantner et al. 2010, "Learning Attribute-to-Feature Mappings for Cold-Start Recommendations".
Beside its content, the map hears what the most similar known items are like: one step of message passing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from gnnrec.graph.neighbours import nearest_neighbours
from gnnrec.rankers.ridge import RidgeRegression
from gnnrec.storage import below

__all__ = ["ContentAttachment", "ModalitySpace"]

_MOST_EXAMPLES = 20_000  # more of them move hundreds of weights no further
_PRESENT = 0.3  # tells an item without a modality from one whose vector is average
_DIRECTIONS = 64


@dataclass(frozen=True, eq=False)
class ModalitySpace:
    """The main directions of the vectors of one modality, in which items are compared.

    Attributes:
        mean: ``[width]`` of the unit vectors of known items.
        basis: ``[width, at most 64]``, orthonormal.
        position: ``[num_owners, at most 64]`` where the known items lie.
        owner: ``[num_owners]`` which known items those are.
    """

    mean: Tensor
    basis: Tensor
    position: Tensor
    owner: Tensor

    @classmethod
    def fit(cls, unit: Tensor, owner: Tensor) -> Self:
        """Finds the directions. Cost: ``O(num_owners × width² + width³)``.

        Args:
            unit: ``[num_items, width]`` unit vectors.
            owner: ``[num_owners]`` the known items that have one.
        """
        vectors = unit[owner]
        mean = vectors.mean(dim=0) if len(vectors) else unit.new_zeros(unit.shape[1])
        centred = vectors - mean
        basis = torch.linalg.eigh(centred.T @ centred)[1][:, -_DIRECTIONS:]
        return cls(mean, basis, centred @ basis, owner)

    def hear(self, unit: Tensor, sent: Tensor, neighbours: int, *, itself: Tensor | None = None) -> Tensor:
        """Returns ``[num_given, dim]``: the mean of what the nearest known items send, weighted by their cosines.

        Cost: ``O(num_given × num_owners × 64)``.

        Args:
            unit: ``[num_given, width]`` unit vectors; a row of zeros hears nothing.
            sent: ``[num_known, dim]``.
            neighbours: How many.
            itself: ``[num_given]`` the known item that each row is, which must not hear itself.
        """
        if not len(self.owner):
            return unit.new_zeros(len(unit), sent.shape[1])
        given = unit.square().sum(dim=1) > 0
        similarity, index = nearest_neighbours((unit - self.mean) @ self.basis, self.position, neighbours + 1)
        index = self.owner[index]
        weight = similarity.clamp(min=0) * given[:, None]
        if itself is not None:
            weight = weight * (index != itself[:, None])
        weight = F.normalize(weight[:, :neighbours], p=1, dim=1)
        return torch.einsum("nk,nkd->nd", weight, F.normalize(sent[index[:, :neighbours]], dim=2))


@dataclass(frozen=True, eq=False)
class ContentAttachment:
    """What is needed to place new items.

    Attributes:
        spaces: Modality → its main directions, in the order of the columns of the map.
        regression: From content and neighbours to what training learned.
        neighbours: How many known items a new one hears of in each modality; 0 for none.
    """

    spaces: Mapping[str, ModalitySpace]
    regression: RidgeRegression
    neighbours: int

    @classmethod
    def fit(
        cls,
        x_dict: Mapping[str, Tensor],
        owner_dict: Mapping[str, Tensor],
        known: Tensor,
        sent: Tensor,
        target: Tensor,
        neighbours: int,
    ) -> tuple[Self, Tensor, Tensor]:
        """Learns from the items that have interactions, of which 20,000 at random are enough.

        Args:
            x_dict: Modality → ``[num_rows, width]`` media of items.
            owner_dict: Modality → ``[num_rows]`` item of each row.
            known: ``[num_known]`` the items that have interactions.
            sent: ``[num_items, dim]`` what items say of themselves to similar ones.
            target: ``[num_items, any]`` what to predict.
            neighbours: How many similar items to hear.

        Returns:
            The fitted attachment, ``[num_examples]`` the items it learned from, and ``[num_examples, any]`` what it
            would say of each of them if it were new.
        """
        unit_dict = {name: _unit_vectors(x, owner_dict[name], len(target)) for name, x in x_dict.items()}
        spaces = {
            name: ModalitySpace.fit(unit, known[unit[known].square().sum(dim=1) > 0])
            for name, unit in unit_dict.items()
        }
        generator = torch.Generator().manual_seed(0)
        examples = known[torch.randperm(len(known), generator=generator)[:_MOST_EXAMPLES].sort().values]
        of_examples = {name: unit[examples] for name, unit in unit_dict.items()}
        inputs = _inputs(spaces, of_examples, sent, neighbours, len(examples), itself=examples)
        regression, left_out = RidgeRegression.fit(inputs, target[examples])
        return cls(spaces, regression, neighbours), examples, left_out

    def __call__(
        self, x_dict: Mapping[str, Tensor], owner_dict: Mapping[str, Tensor], num_items: int, sent: Tensor
    ) -> Tensor:
        """Predicts the targets of new items ``[num_items, any]``.

        Args:
            x_dict: Modality → ``[num_rows, width]``; any may be absent.
            owner_dict: Modality → ``[num_rows]`` new item of each row.
            num_items: How many items are new.
            sent: ``[num_known, dim]`` as in :meth:`fit`.
        """
        unit_dict = {
            name: _unit_vectors(x_dict[name], owner_dict[name], num_items) for name in self.spaces if name in x_dict
        }
        return self.regression(_inputs(self.spaces, unit_dict, sent, self.neighbours, num_items))

    def tensors(self) -> dict[str, Tensor]:
        """Returns all numbers, to be saved."""
        saved = {f"regression.{name}": value for name, value in vars(self.regression).items()}
        for position, space in enumerate(self.spaces.values()):
            saved |= {f"space.{position}.{name}": value for name, value in vars(space).items()}
        return saved

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], modalities: Mapping[str, int], neighbours: int) -> Self:
        """Rebuilds what :meth:`tensors` gave, with the names of the modalities in their order."""
        spaces = {
            name: ModalitySpace(**below(f"space.{position}.", tensors)) for position, name in enumerate(modalities)
        }
        return cls(spaces, RidgeRegression(**below("regression.", tensors)), neighbours)


def _inputs(
    spaces: Mapping[str, ModalitySpace],
    unit_dict: Mapping[str, Tensor],
    sent: Tensor,
    neighbours: int,
    num_items: int,
    *,
    itself: Tensor | None = None,
) -> Tensor:
    """Lays side by side, of each modality: the unit vector, whether there is one, and what similar items send."""
    columns = []
    for name, space in spaces.items():
        unit = unit_dict.get(name)
        if unit is None:
            unit = space.mean.new_zeros(num_items, len(space.mean))
        columns += [unit, _PRESENT * (unit.square().sum(dim=1, keepdim=True) > 0)]
        if neighbours:
            columns.append(space.hear(unit, sent, neighbours, itself=itself))
    return torch.cat(columns, dim=1)


def _unit_vectors(x: Tensor, owner: Tensor, num_items: int) -> Tensor:
    """Returns ``[num_items, width]``: the mean direction of the rows of each item, at length 1; zeros without rows."""
    total = x.new_zeros(num_items, x.shape[1]).index_add_(0, owner, F.normalize(x))
    return F.normalize(total)
