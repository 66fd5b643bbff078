"""Ranks by the embeddings of the trained graph model, and embeds new items and new people with the same model."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from gnnrec.config import from_dict, to_dict
from gnnrec.data.pairs import without_places
from gnnrec.errors import UnsupportedError
from gnnrec.evaluation.validation import ValidationPairs
from gnnrec.graph.neighbours import neighbour_shares
from gnnrec.modalities.features import Features, as_tensors, mean_per_owner
from gnnrec.named_tensors import below
from gnnrec.nn.architectures import build_model
from gnnrec.nn.decode import DECODERS
from gnnrec.nn.message_graph import GraphShape
from gnnrec.nn.model_config import SETTLED_AFTER_TRAINING
from gnnrec.nn.sequence import Histories
from gnnrec.rankers.attachment import ContentAttachment
from gnnrec.rankers.base import Capability, Ranker, RankerState, RankingTask
from gnnrec.rankers.fold_in import content_tastes, fold_in_by_least_squares, fold_in_by_propagation
from gnnrec.rankers.history_regression import HistoryRegression
from gnnrec.rankers.item_events import tell_new_items
from gnnrec.rankers.item_vectors import other_ends, unit_vectors
from gnnrec.rankers.linear_part import LinearPart
from gnnrec.rankers.neural_config import NeuralConfig
from gnnrec.rankers.neural_fit import Learned, train_and_settle
from gnnrec.rankers.serving import ServingTensors
from gnnrec.rankers.settling import as_new_items
from gnnrec.training.loop import TrainingResult

__all__ = ["NeuralRanker"]


class NeuralRanker(Learned, Ranker):
    """A trained :class:`~gnnrec.nn.model.GraphModel`, ready to answer.

    A new event of a known user changes that user's row only: ``user = decode(base + row of the adjacency @ messages)``
    equals a full propagation in which the items do not hear of the event. A new person has no identity: what one adds
    to a history is predicted from the history. A new item hears from its media, from those of related items, from its
    neighbours by content, and later from the people who choose it. No other item hears from it, so the answers for
    known items stay as they were.
    """

    name: ClassVar[str] = "neural"
    trains: ClassVar[bool] = True

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Vectors always; new items and profiles if the model was trained with media and knows what to do with them."""
        able: dict[Capability, bool] = {
            "vectors": True,
            "attach": self._takes_new_items,
            "linear": self.linear is not None,
            "order": self.model.reads_order or (self.linear is not None and self.linear.decay > 0),
            "profiles": self.model.takes_profiles,
        }
        return frozenset(name for name, can in able.items() if can)

    @classmethod
    def fit(cls, task: RankingTask, config: NeuralConfig) -> tuple[Self, TrainingResult | None]:
        """Trains the model on the task's graph.

        Raises:
            ConfigError: An option does not fit the graph.
        """
        before = None
        if task.start is not None:
            if not isinstance(task.start.ranker, NeuralRanker):
                raise UnsupportedError(
                    f"the ranker {task.start.ranker.name!r} has no weights that a training could go on from"
                )
            before = task.start.ranker.model, task.start.ranker.shape
        # What the caller draws from the global streams does not depend on a fit in between.
        with torch.random.fork_rng([task.device] if torch.device(task.device).type == "cuda" else []):
            learned, result = train_and_settle(task, config, before)
        ranker = cls(**vars(learned))._with_prior(task.interactions, task.validation)
        left_open = config.model.linear_part == "auto"
        chosen = {
            option: getattr(ranker.config.model, option)
            for option in SETTLED_AFTER_TRAINING
            if left_open or ranker.linear is not None or not option.startswith("linear_")
        }
        if config.model.sequence_encoder == "auto":
            chosen["sequence_encoder"] = ranker.config.model.sequence_encoder
        result = replace(result, chosen={option: value for option, value in chosen.items() if value is not None})
        return ranker, result

    def fold_in(self, histories: sp.csr_matrix) -> Tensor:
        """Scores all items for new people; the average person's scores for an empty history."""
        return self._score_new(histories, base=None)

    @torch.no_grad()
    def fold_in_with_profiles(self, histories: sp.csr_matrix, profiles: Mapping[str, Features]) -> Tensor:
        """Scores all items for new people; their content counts beside their histories as that of known users does.

        Raises:
            UnsupportedError: The model was fitted without media of users.
        """
        if not self.model.takes_profiles:
            raise UnsupportedError(
                f"this model ({self.config.model.architecture!r}, hops={self.config.model.hops}) has no use for "
                "profiles; fit the preset 'gnnrec' with a modality of='user' and hops of at least 1"
            )
        x_dict, owner_dict = as_tensors(profiles)
        base = self.model.new_users(x_dict, owner_dict, torch.from_numpy(np.diff(histories.indptr)))
        return self._score_new(histories, base)

    def similar(self, item_index: NDArray[np.int64]) -> Tensor:
        """Scores all items by the cosine of their embeddings; how popular they are plays no part."""
        items = self.serving.item_now
        unit = torch.nn.functional.normalize(items[:, :-1] if self.model.has_item_bias else items)
        return unit[torch.from_numpy(item_index)] @ unit.T

    def vectors(self, kind: Literal["user", "item"]) -> Tensor:
        """Returns the embeddings whose inner product is the score, but for the linear part.

        They hold the content where its likeness counts.
        """
        serving = self.serving
        if not serving.user_taste.shape[1] or not serving.content_weight.any():
            return serving.user if kind == "user" else serving.item_now
        if kind == "user":
            return torch.cat([serving.user_taste, serving.user], dim=1)
        return torch.cat([serving.item_content * serving.content_weight[:, None], serving.item_now], dim=1)

    def update(self, interactions: sp.csr_matrix, changed_users: NDArray[np.int64]) -> Self:
        """Recomputes the vectors of users with new events, and those of new items that have been chosen.

        Items that training knew stay as they are.
        """
        changed, rows = interactions[changed_users], torch.from_numpy(changed_users)
        serving = self.serving.with_more_users(interactions.shape[0])
        serving = replace(
            serving,
            user=serving.user.index_copy(0, rows, self._user_vectors(changed, serving.user_base[rows])),
            user_taste=serving.user_taste.index_copy(0, rows, self._tastes(changed, serving.user_base[rows])),
        )
        linear = None if self.linear is None else self.linear.update(interactions, changed_users)
        if self.attachment is not None:
            serving = tell_new_items(serving, without_places(interactions), self._without_bias().shape[1])
        return replace(self, serving=serving, linear=linear)

    @torch.no_grad()
    def attach(
        self,
        added: Mapping[str, Features],
        known: Mapping[str, Features],
        num_added: int,
        relations: Mapping[str, sp.csr_matrix] = MappingProxyType({}),
    ) -> Self:
        """Embeds new items from their media and from the known items that are most like them.

        Raises:
            UnsupportedError: The model was fitted without media of items, or has no place for new ones.
        """
        if not self._takes_new_items:
            raise UnsupportedError(
                f"this model ({self.config.model.architecture!r}) has no use for the media of new items, or was saved "
                "before it had one; fit one that learns from media, e.g. the preset 'gnnrec'"
            )
        serving = self.serving
        x_dict, owner_dict = as_tensors(added)
        content = serving.item_content.new_zeros(num_added, serving.item_content.shape[1])
        if self.attachment is not None:
            unit_dict = unit_vectors(x_dict, owner_dict, num_added)
            if relations:
                given = other_ends(relations, unit_dict, known, list(self.attachment.spaces), len(serving.item))
                unit_dict = self.attachment.hear_related(unit_dict, *given)
            placed = self.attachment(unit_dict, num_added, serving.item_propagated)
            new = as_new_items(placed, serving, self.config)
            sent = serving.item_propagated.new_zeros(num_added, serving.item_propagated.shape[1])
            if serving.item_content.shape[1]:
                content = self.attachment.content(unit_dict, num_added)
        else:
            sent = self.model.sent_by_new_items(x_dict, owner_dict, num_added)
            heard = {
                name: self._heard(added[name], known[name], sent)
                for name in x_dict
                if f"similar_by_{name}" in self.shape.item_relations and len(known[name])
            }
            new = self.model.new_items(sent, heard)
        weight = self.config.model.content_taste or 0.0
        return replace(self, serving=serving.with_new_items(new, sent, content, weight))

    def state(self) -> RankerState:
        """Returns weights, embeddings and options."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"serving.{name}": value for name, value in vars(self.serving).items()}
        if self.attachment is not None:
            tensors |= {f"attachment.{name}": value for name, value in self.attachment.tensors().items()}
        if self.newcomers is not None:
            tensors |= {f"newcomers.{name}": value for name, value in self.newcomers.tensors().items()}
        facts: dict[str, Any] = {"config": to_dict(self.config), "shape": to_dict(self.shape), "biases": "as trained"}
        if self.attachment is not None:
            facts["relations"] = dict(self.attachment.relations)
        if self.linear is not None:
            linear = self.linear.state()
            tensors |= {f"linear.{name}": value for name, value in linear.tensors.items()}
            facts["linear"] = linear.facts
        return RankerState(tensors, facts)

    @classmethod
    def from_state(cls, state: RankerState) -> Self:
        """Rebuilds the ranker."""
        config = from_dict(NeuralConfig, state.facts["config"])
        shape = from_dict(GraphShape, state.facts["shape"])
        with torch.random.fork_rng(devices=[]):  # the weights that it draws are replaced
            model = build_model(shape, config.model)
        model.load_state_dict(below("model.", state.tensors))
        weight = config.model.popularity_weight
        if weight is not None and state.facts.get("biases") == "as trained":  # before format 4 they came weighed
            model.weigh_popularity(weight)
        serving = ServingTensors.restore(below("serving.", state.tensors), config.model.content_taste or 0.0)
        attachment = None
        if placing := below("attachment.", state.tensors):
            relations = state.facts.get("relations", {})  # before format 5 media alone described new items
            attachment = ContentAttachment.restore(placing, shape.item_modalities, relations, config.similar_items)
        newcomers = None
        if of_people := below("newcomers.", state.tensors):
            average = serving.user_taste.mean(dim=0)  # before format 9 that of everybody there was by then
            newcomers = HistoryRegression.restore({"average_taste": average, **of_people})
        linear = None
        if "linear" in state.facts:
            linear = LinearPart.from_state(RankerState(below("linear.", state.tensors), state.facts["linear"]))
        return cls(model.eval(), serving, config, shape, attachment, newcomers, linear)

    def _with_prior(self, interactions: sp.csr_matrix, validation: ValidationPairs | None) -> Self:
        """Lets the average person count in new ones as the options say, or as validation does."""
        if self.newcomers is None:
            return self
        model = self.config.model
        told = torch.from_numpy(np.flatnonzero(np.diff(interactions.indptr)))
        newcomers = replace(self.newcomers, average_taste=self.serving.user_taste[told].mean(dim=0))
        if model.new_user_prior is not None:
            newcomers = replace(newcomers, prior=model.new_user_prior)
        elif validation is not None:
            newcomers = newcomers.with_best_prior(
                validation,
                lambda tried, histories: replace(self, newcomers=tried).fold_in(histories),
                self.config.training.select_by,
            )
        config = replace(self.config, model=replace(model, new_user_prior=newcomers.prior))
        return replace(self, newcomers=newcomers, config=config)

    @property
    def relations(self) -> Mapping[str, bool]:
        """Which relations between items describe new ones; none in models that do not regress."""
        return {} if self.attachment is None else self.attachment.relations

    @property
    def _takes_new_items(self) -> bool:
        # A model that was saved before there was regression has none.
        return self.model.takes_new_items and (self.attachment is not None or not self.model.regresses_new_items)

    def _score_new(self, histories: sp.csr_matrix, base: Tensor | None) -> Tensor:
        """Scores all items for new people; ``base`` is what they have beside their histories."""
        scores = self.serving.score(self._user_vectors(histories, base), self._tastes(histories, base))
        return scores if self.linear is None else self.linear.add_to_new(scores, histories=histories)

    def _tastes(self, histories: sp.csr_matrix, base: Tensor | None) -> Tensor:
        """Returns ``[num_people, width]``; few events of a new person tell as little of a taste as of a vector."""
        tastes = content_tastes(without_places(histories), self.serving.item_content)
        if self.newcomers is None:
            return tastes
        count = torch.from_numpy(np.diff(histories.indptr).astype(np.float32))
        shrunk = self.newcomers.shrink(tastes, self.newcomers.average_taste, count)
        return torch.where(_are_new(base) | (count == 0)[:, None], shrunk, tastes)

    def _user_vectors(self, histories: sp.csr_matrix, base: Tensor | None) -> Tensor:
        """Returns decoded vectors ``[num_people, dim]``; ``base`` is what they have beside their histories."""
        serving, pairs = self.serving, without_places(histories)
        if self.model.hears_history:
            vectors = fold_in_by_propagation(pairs, serving.item_messages, serving.item_degree)
            vectors = vectors if base is None else base + vectors
            with torch.no_grad():
                decoded = self.model.decode(vectors)
            if self.newcomers is not None:
                placed = self.newcomers(pairs, serving, self._without_bias())
                placed = torch.cat([placed, torch.ones(len(placed), decoded.shape[1] - placed.shape[1])], dim=1)
                decoded = torch.where(_are_new(base), placed, decoded)
        else:
            # A cosine has the unit of the bias. A dot product has not: there the weight of the bias is fitted as well.
            cosine = self.config.model.decoder == "cosine"
            vectors = fold_in_by_least_squares(pairs, self._without_bias() if cosine else serving.item)
            decoded = DECODERS[self.config.model.decoder](vectors)
            if decoded.shape[1] < serving.item.shape[1]:
                decoded = torch.cat([decoded, torch.ones_like(decoded[:, :1])], dim=1)
        if self.model.reads_order:
            with torch.no_grad():
                decoded = self.model.users_today(decoded, serving.item, _in_order(histories))
        unknown = torch.from_numpy(np.diff(histories.indptr) == 0)
        nothing = unknown & (vectors == 0).all(dim=1)
        if self.newcomers is None and nothing.any():
            decoded[nothing] = serving.user.mean(dim=0)
        return decoded

    def _without_bias(self) -> Tensor:
        return self.serving.item[:, :-1] if self.model.has_item_bias else self.serving.item

    def _heard(self, added: Features, known: Features, sent: Tensor) -> Tensor:
        """Returns ``[num_added, any]``: what each new item hears from its nearest known items in one modality."""
        added_rows, added_owner = mean_per_owner(added)
        known_rows, known_owner = mean_per_owner(known)
        of_fit = known_owner < self.shape.num_items  # what was added since comes in any order
        known_rows, known_owner = known_rows[of_fit], known_owner[of_fit]
        index, share, own_share = neighbour_shares(
            added_rows, known_rows, self.config.similar_items, self.config.item_graph
        )
        heard = torch.einsum("nk,nkd->nd", share, self.serving.item_propagated[known_owner[index]])
        heard = heard + own_share[:, None] * sent[added_owner]
        return torch.zeros_like(sent).index_copy_(0, added_owner, heard)


def _are_new(base: Tensor | None) -> Tensor:
    """Tells people who have nothing beside their histories ``[num_people, 1]``, or that all are such."""
    return torch.tensor(True) if base is None else (base == 0).all(dim=1, keepdim=True)


def _in_order(histories: sp.csr_matrix) -> Histories:
    """Reads places as an order."""
    entries = histories.tocoo()
    edge_index = torch.from_numpy(np.stack([entries.row, entries.col]).astype(np.int64))
    return Histories.from_edges(edge_index, torch.from_numpy(entries.data), histories.shape[0])
