"""Places new items among the known ones: predicts from their media what training would have made of them.

A network that reads content has as many examples as there are items, some thousands, each of hundreds of numbers, and
learns them by heart. Ridge regression shrinks what the examples do not tell. Mapping content to the vectors of a
trained model is due to Gantner et al. 2010, "Learning Attribute-to-Feature Mappings for Cold-Start Recommendations".
Beside its content, the map hears what the most similar known items are like: one step of message passing. Where a
relation joins items, the content of the related ones counts beside their own, if that helps.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor

from gnnrec.data.pairs import some_people
from gnnrec.eigenvectors import eigenvectors
from gnnrec.graph.neighbours import nearest_neighbours
from gnnrec.named_tensors import below
from gnnrec.rankers.fold_in import content_tastes
from gnnrec.rankers.item_vectors import with_related
from gnnrec.rankers.ridge import RidgeRegression
from gnnrec.rankers.spread import score_spread

__all__ = ["ContentAttachment", "ModalitySpace"]

logger = logging.getLogger(__name__)

_MOST_EXAMPLES = 20_000  # more of them move hundreds of weights no further
_PRESENT = 0.3  # tells an item without a modality from one whose vector is average
_MOST_DIRECTIONS = 256
_DIRECTIONS_OF_SEARCH = 64
_DIRECTIONS_OF_TASTE = 256
_LEAST_SPREAD = 0.1  # of the widest direction; what spreads less is hardly told from noise, and is not stretched to 1
_NO_VARIANCE = 1e-6  # of vectors of length 1
_PEOPLE_WITH_TASTES = 20_000
_MEASURED_PEOPLE = 500
_TRUST = (1.0, 0.5, 0.25, 0.0)


@dataclass(frozen=True, eq=False)
class ModalitySpace:
    """The main directions of the vectors of one modality, in which items are described and compared.

    Attributes:
        mean: ``[width]`` of the unit vectors of known items.
        basis: ``[width, at most 256]``, orthonormal; the directions of most variance come first.
        position: ``[num_owners, at most 64]`` where the known items lie, in the first directions.
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
        # In single precision eigh fails where most directions have no variance, as with counts of words.
        basis = (
            eigenvectors((centred.T @ centred).double())[1]
            .to(unit.dtype)
            .flip(1)[:, : min(_MOST_DIRECTIONS, max(1, len(vectors)))]
        )
        return cls(mean, basis, centred @ basis[:, :_DIRECTIONS_OF_SEARCH], owner)

    def describe(self, unit: Tensor, sent: Tensor, neighbours: int, *, itself: Tensor | None = None) -> Tensor:
        """Returns ``[num_given, any]``: where items lie, whether they have the modality, what their neighbours send.

        What is heard is the mean of what the nearest known items send, weighted by their cosines. Cost:
        ``O(num_given × num_owners × 64)``.

        Args:
            unit: ``[num_given, width]`` unit vectors; a row of zeros lacks the modality.
            sent: ``[num_known, dim]``.
            neighbours: How many items to hear.
            itself: ``[num_given]`` the known item that each row is, which must not hear itself.
        """
        place, present = self.place(unit), _present(unit)
        columns = [place, _PRESENT * present]
        if neighbours:
            columns.append(self._hear(place[:, :_DIRECTIONS_OF_SEARCH], sent, neighbours, itself))
        return torch.cat(columns, dim=1)

    def place(self, unit: Tensor) -> Tensor:
        """Returns where items lie ``[num_given, at most 256]``; zeros for those that lack the modality."""
        return ((unit - self.mean) @ self.basis) * _present(unit)

    def _hear(self, place: Tensor, sent: Tensor, neighbours: int, itself: Tensor | None) -> Tensor:
        if not len(self.owner):
            return place.new_zeros(len(place), sent.shape[1])
        similarity, index = nearest_neighbours(place, self.position, neighbours + 1)
        index = self.owner[index]
        others = torch.ones_like(index, dtype=torch.bool) if itself is None else index != itself[:, None]
        heard = others & (others.cumsum(dim=1) <= neighbours)
        # An item without the modality lies at 0, where every cosine is 0.
        weight = F.normalize(similarity.clamp(min=0) * heard, p=1, dim=1)
        return torch.einsum("nk,nkd->nd", weight, F.normalize(sent[index], dim=2))


@dataclass(frozen=True, eq=False)
class ContentAttachment:
    """What is needed to place new items.

    Attributes:
        spaces: Modality → its main directions, in the order of the columns of the map.
        trust: ``[num_modalities]`` how much each modality counts: 1, .5, .25, or 0 where it only misleads.
        relations: Relation between items → whether what it joins them to is heard, or only misleads.
        regression: From content and neighbours to what training learned.
        neighbours: How many known items a new one hears of in each modality; 0 for none.
        directions: ``[sum of the widths of all bases, at most 256]`` from where items lie to the content that tastes
            are compared with.
    """

    spaces: Mapping[str, ModalitySpace]
    trust: Tensor
    relations: Mapping[str, bool]
    regression: RidgeRegression
    neighbours: int
    directions: Tensor

    @classmethod
    def fit(
        cls,
        unit_dict: Mapping[str, Tensor],
        relations: Mapping[str, sp.csr_matrix],
        known: Tensor,
        sent: Tensor,
        target: Tensor,
        neighbours: int,
    ) -> tuple[Self, Tensor, Tensor]:
        """Learns from the items that have interactions, of which 20,000 at random are enough.

        The strength of the ridge and then, one after the other, whether a relation is heard and how much a modality is
        trusted are those with which items that are left out are predicted best. Cost: that of describing the items
        once, and once more for each relation, plus ``O(num_modalities)`` regressions.

        Args:
            unit_dict: Modality → ``[num_items, width]`` unit vectors of items; a row of zeros lacks the modality.
            relations: Relation → ``[num_items, num_items]`` weights of its edges, in both directions.
            known: ``[num_known]`` the items that have interactions.
            sent: ``[num_items, dim]`` what items say of themselves to similar ones.
            target: ``[num_items, any]`` what to predict.
            neighbours: How many similar items to hear.

        Returns:
            The fitted attachment, ``[num_examples]`` the items it learned from, and ``[num_examples, any]`` what it
            would say of each of them if it were new.
        """
        generator = torch.Generator().manual_seed(0)
        examples = known[torch.randperm(len(known), generator=generator)[:_MOST_EXAMPLES].sort().values]

        def fit_with(trust: Sequence[float], described: Sequence[Tensor]) -> tuple[RidgeRegression, Tensor, float]:
            inputs = torch.cat([weight * columns for weight, columns in zip(trust, described, strict=True)], dim=1)
            regression, left_out = RidgeRegression.fit(inputs, target[examples])
            return regression, left_out, float((target[examples] - left_out).square().sum())

        def describe(heard: Mapping[str, bool]) -> tuple[dict[str, ModalitySpace], list[Tensor]]:
            vectors = _hearing(unit_dict, relations, heard, unit_dict)
            spaces = {
                name: ModalitySpace.fit(unit, known[unit[known].square().sum(dim=1) > 0])
                for name, unit in vectors.items()
            }
            return spaces, [
                space.describe(vectors[name][examples], sent, neighbours, itself=examples)
                for name, space in spaces.items()
            ]

        trust = [_TRUST[0]] * len(unit_dict)
        heard = dict.fromkeys(relations, True)
        spaces, described = describe(heard)
        best = fit_with(trust, described)
        for name in relations:
            without = {**heard, name: False}
            other_spaces, other_described = describe(without)
            if (fitted := fit_with(trust, other_described))[2] < best[2]:
                heard, spaces, described, best = without, other_spaces, other_described, fitted
        for position in range(len(spaces)):
            for weight in _TRUST[1:]:
                tried = [*trust[:position], weight, *trust[position + 1 :]]
                if any(tried) and (fitted := fit_with(tried, described))[2] < best[2]:
                    trust, best = tried, fitted
        logger.info(
            "new items: trust in %s",
            ", ".join(f"{name} {one:g}" for name, one in [*zip(spaces, trust, strict=True), *heard.items()]),
        )
        nothing = target.new_zeros(sum(space.basis.shape[1] for space in spaces.values()), 0)
        return cls(spaces, torch.tensor(trust), heard, best[0], neighbours, nothing), examples, best[1]

    def hear_related(
        self,
        unit_dict: Mapping[str, Tensor],
        relations: Mapping[str, sp.csr_matrix],
        of_related: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """Adds to the vectors of items what those tell that a relation joins them to, if it was found to help.

        Args:
            unit_dict: Modality → ``[num_items, width]`` unit vectors; any may be absent.
            relations: Relation → ``[num_items, num_related]`` weights of its edges; any may be absent.
            of_related: Modality → ``[num_related, width]`` unit vectors.
        """
        return _hearing(unit_dict, relations, self.relations, of_related)

    def __call__(self, unit_dict: Mapping[str, Tensor], num_items: int, sent: Tensor) -> Tensor:
        """Predicts the targets of new items ``[num_items, any]``.

        Args:
            unit_dict: Modality → ``[num_items, width]`` unit vectors, from :meth:`hear_related`; any may be absent.
            num_items: How many items are new.
            sent: ``[num_known, dim]`` as in :meth:`fit`.
        """
        columns = []
        for trust, (name, space) in zip(self.trust, self.spaces.items(), strict=True):
            unit = unit_dict[name] if name in unit_dict else space.mean.new_zeros(num_items, len(space.mean))
            columns.append(trust * space.describe(unit, sent, self.neighbours))
        return self.regression(torch.cat(columns, dim=1))

    def learn_tastes(
        self, unit_dict: Mapping[str, Tensor], interactions: sp.csr_matrix, user: Tensor, item: Tensor
    ) -> Self:
        """Finds the directions of content in which tastes differ most, over all modalities together.

        Every main direction is stretched to the same spread over the items that have the modality, and each modality
        counts as far as it is trusted. The taste of a person is the mean over the history, and the principal directions
        of all tastes are kept. Their scale lets the product of taste and content spread items as wide as the model
        does. Cost: that of describing all items, plus ``O(20,000 × width² + width³)`` for the width of all modalities.

        Args:
            unit_dict: Modality → ``[num_items, width]`` unit vectors, from :meth:`hear_related`.
            interactions: ``[num_users, num_items]`` binary.
            user: ``[num_users, dim]`` vectors of the model.
            item: ``[any, dim]`` vectors of items as the model scores them.
        """
        people = some_people(interactions, _PEOPLE_WITH_TASTES)
        stretch, tastes = [], []
        for trust, (name, space) in zip(self.trust, self.spaces.items(), strict=True):
            place = space.place(unit_dict[name])
            variance = place[space.owner].square().sum(dim=0) / max(len(space.owner), 1)
            spread = (variance + _LEAST_SPREAD**2 * variance.max()).sqrt()
            # Where all known items are alike nothing says how far the next one is from them.
            stretch.append(trust / spread if variance.max() > _NO_VARIANCE else torch.zeros_like(spread))
            tastes.append(content_tastes(interactions[people], place * stretch[-1]))
        taste = torch.cat(tastes, dim=1)
        centred = (taste - taste.mean(dim=0)).double()
        principal = eigenvectors(centred.T @ centred)[1].to(taste.dtype).flip(1)[:, :_DIRECTIONS_OF_TASTE]
        unscaled = replace(self, directions=torch.cat(stretch)[:, None] * principal)
        content = unscaled.content(unit_dict, interactions.shape[1])
        measured = some_people(interactions, _MEASURED_PEOPLE)
        product = content_tastes(interactions[measured], content) @ content.T
        scale = score_spread(user[torch.from_numpy(measured)] @ item.T) / max(score_spread(product), 1e-12)
        return replace(unscaled, directions=scale**0.5 * unscaled.directions)

    def content(self, unit_dict: Mapping[str, Tensor], num_items: int) -> Tensor:
        """Describes items by where they lie in the directions of tastes ``[num_items, at most 256]``.

        Args:
            unit_dict: Modality → ``[num_items, width]`` unit vectors, from :meth:`hear_related`; any may be absent.
            num_items: How many items.
        """
        content = self.directions.new_zeros(num_items, self.directions.shape[1])
        widths = [space.basis.shape[1] for space in self.spaces.values()]
        for (name, space), directions in zip(self.spaces.items(), torch.split(self.directions, widths), strict=True):
            if name in unit_dict:
                content += space.place(unit_dict[name]) @ directions
        return content

    def tensors(self) -> dict[str, Tensor]:
        """Returns all numbers, to be saved."""
        saved = {f"regression.{name}": value for name, value in vars(self.regression).items()}
        saved |= {"trust": self.trust, "directions": self.directions}
        for position, space in enumerate(self.spaces.values()):
            saved |= {f"space.{position}.{name}": value for name, value in vars(space).items()}
        return saved

    @classmethod
    def restore(
        cls, tensors: Mapping[str, Tensor], modalities: Iterable[str], relations: Mapping[str, bool], neighbours: int
    ) -> Self:
        """Rebuilds what :meth:`tensors` gave, with the names of the modalities in their order."""
        spaces = {
            name: ModalitySpace(**below(f"space.{position}.", tensors)) for position, name in enumerate(modalities)
        }
        directions = tensors.get("directions")
        if directions is None:  # of a format before 4, which compared content otherwise: further items are not compared
            width = sum(space.position.shape[1] for space in spaces.values())
            directions = torch.zeros(sum(space.basis.shape[1] for space in spaces.values()), width)
        regression = RidgeRegression(**below("regression.", tensors))
        return cls(spaces, tensors["trust"], relations, regression, neighbours, directions)


def _present(unit: Tensor) -> Tensor:
    return unit.square().sum(dim=1, keepdim=True) > 0


def _hearing(
    unit_dict: Mapping[str, Tensor],
    relations: Mapping[str, sp.csr_matrix],
    heard: Mapping[str, bool],
    of_related: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    kept = [edges for name, edges in relations.items() if heard[name]]
    if not kept:
        return dict(unit_dict)
    related = sp.csr_matrix(sum(kept[1:], start=kept[0]))
    return {
        name: with_related(
            unit_dict[name] if name in unit_dict else unit.new_zeros(related.shape[0], unit.shape[1]), related, unit
        )
        for name, unit in of_related.items()
    }
