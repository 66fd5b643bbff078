"""Ranks by the embeddings of the trained graph model, and embeds new items and new people with the same model."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, Self

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from gnnrec.config import from_dict, to_dict
from gnnrec.errors import UnsupportedError
from gnnrec.graph.neighbours import ItemGraph, neighbour_shares
from gnnrec.modalities.features import Features, mean_per_owner
from gnnrec.nn.architectures import build_model
from gnnrec.nn.decode import DECODERS
from gnnrec.nn.message_graph import GraphShape, MessageGraph
from gnnrec.nn.model import GraphModel, ModelConfig
from gnnrec.nn.warm_start import carry_over
from gnnrec.rankers.base import Capability, Ranker, RankerState, RankingTask, WarmStart
from gnnrec.rankers.fold_in import fold_in_by_least_squares, fold_in_by_propagation
from gnnrec.storage import below
from gnnrec.training.config import TrainingConfig
from gnnrec.training.loop import TrainingResult, Validation, train

__all__ = ["NeuralConfig", "NeuralRanker", "ServingTensors"]

logger = logging.getLogger(__name__)

# Where they rank equally well the first one stays: as in training.
_POPULARITY_WEIGHTS = (1.0, 0.0, 0.25, 0.5, 0.75, 1.5, 2.0, 3.0, 5.0)


@dataclass(frozen=True)
class NeuralConfig:
    """Options of the neural ranker.

    Attributes:
        model: Shape of the model.
        training: How it is trained.
        similar_items: Neighbours by content of a new item, as in the training graph.
        item_graph: How they weigh, as in the training graph.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    similar_items: int = 10
    item_graph: ItemGraph = "cosine"


@dataclass(frozen=True, eq=False)
class ServingTensors:
    """What a trained model leaves behind for answering, on the CPU.

    Attributes:
        user: ``[num_users, dim]``, ready for the inner product.
        item: ``[num_items, dim]``, ready for the inner product.
        user_base: ``[num_users, width]`` a user before decoding, less what the user's own history adds.
        item_messages: ``[num_items, width]`` what each item adds to the users who chose it.
        item_propagated: ``[num_items, any]`` what each item sends to its neighbours by content.
        item_degree: ``[num_items]`` interactions in training.
    """

    user: Tensor
    item: Tensor
    user_base: Tensor
    item_messages: Tensor
    item_propagated: Tensor
    item_degree: Tensor


class NeuralRanker(Ranker):
    """A trained :class:`~gnnrec.nn.model.GraphModel`, ready to answer.

    A new event of a user changes that user's row only: ``user = decode(base + row of the adjacency @ messages)``
    equals a full propagation in which the items do not hear of the event. A new item hears from its media and from
    its neighbours by content, and nobody hears from it, so the answers for known items stay as they were.

    Args:
        model: The trained model.
        serving: Its embeddings.
        config: Options.
        shape: Of the training graph.
    """

    name: ClassVar[str] = "neural"
    trains: ClassVar[bool] = True

    def __init__(self, model: GraphModel, serving: ServingTensors, config: NeuralConfig, shape: GraphShape) -> None:
        self.model = model
        self.serving = serving
        self.config = config
        self.shape = shape

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Vectors always; new items and profiles if the model was trained with media and knows what to do with them."""
        able: dict[Capability, bool] = {
            "vectors": True,
            "attach": self.model.takes_new_items,
            "profiles": self.model.takes_profiles,
        }
        return frozenset(name for name, can in able.items() if can)

    @classmethod
    def fit(cls, task: RankingTask, config: NeuralConfig) -> tuple[Self, TrainingResult | None]:
        """Trains the model on the task's graph."""
        torch.manual_seed(task.seed)
        graph = MessageGraph.from_hetero_data(task.graph, task.device)
        model = build_model(graph.shape, config.model).to(task.device)
        if task.start is not None:
            _go_on_from(task.start, model, graph.shape)
        result = train(
            model,
            graph,
            config.training,
            seed=task.seed,
            validation=task.validation,
            run_dir=task.run_dir,
            resume=task.resume,
            on_epoch=task.on_epoch,
        )
        if model.weighs_popularity:
            weight = config.model.popularity_weight
            if weight is None:
                weight = _best_popularity_weight(model, graph, task.validation, config.training.select_by)
                config = replace(config, model=replace(config.model, popularity_weight=weight))
                result = replace(result, chosen={"popularity_weight": weight})
            model.weigh_popularity(weight)
        serving = _serving_tensors(model, graph, task.interactions)
        return cls(model.cpu(), serving, config, graph.shape), result

    def score(self, user_index: NDArray[np.int64]) -> Tensor:
        """Scores all items for known users."""
        return self.serving.user[torch.from_numpy(user_index)] @ self.serving.item.T

    def fold_in(self, histories: sp.csr_matrix) -> Tensor:
        """Scores all items for new people; the average person's scores for an empty history."""
        return self._user_vectors(histories, None) @ self.serving.item.T

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
        described = {name: profile for name, profile in profiles.items() if len(profile)}
        x_dict = {name: torch.from_numpy(np.array(profile.values)) for name, profile in described.items()}
        owner_dict = {name: torch.from_numpy(np.array(profile.owner_index)) for name, profile in described.items()}
        base = self.model.new_users(x_dict, owner_dict, torch.from_numpy(np.diff(histories.indptr)))
        return self._user_vectors(histories, base) @ self.serving.item.T

    def similar(self, item_index: NDArray[np.int64]) -> Tensor:
        """Scores all items by the cosine of their embeddings; how popular they are plays no part."""
        unit = torch.nn.functional.normalize(self._without_bias())
        return unit[torch.from_numpy(item_index)] @ unit.T

    def vectors(self, kind: Literal["user", "item"]) -> Tensor:
        """Returns the embeddings whose inner product is the score."""
        return self.serving.user if kind == "user" else self.serving.item

    def update(self, interactions: sp.csr_matrix, changed_users: NDArray[np.int64]) -> Self:
        """Recomputes the vectors of users with new events; items stay as they are."""
        serving = self.serving
        num_added = interactions.shape[0] - len(serving.user)
        base = torch.cat([serving.user_base, serving.user_base.new_zeros(num_added, serving.user_base.shape[1])])
        user = torch.cat([serving.user, serving.user.new_zeros(num_added, serving.user.shape[1])])
        rows = torch.from_numpy(changed_users)
        user[rows] = self._user_vectors(interactions[changed_users], base[rows])
        return self._with(replace(serving, user=user, user_base=base))

    @torch.no_grad()
    def attach(self, added: Mapping[str, Features], known: Mapping[str, Features], num_added: int) -> Self:
        """Embeds new items from their media and from the known items that are most like them.

        Raises:
            UnsupportedError: The model was fitted without media of items, or has no place for new ones.
        """
        if not self.model.takes_new_items:
            raise UnsupportedError(
                f"this model ({self.config.model.architecture!r}) has no use for the media of new items; "
                "fit one that learns from media, e.g. the preset 'gnnrec'"
            )
        serving = self.serving
        described = {name: feature for name, feature in added.items() if len(feature)}
        x_dict = {name: torch.from_numpy(np.array(feature.values)) for name, feature in described.items()}
        owner_dict = {name: torch.from_numpy(np.array(added[name].owner_index)) for name in x_dict}
        sent = self.model.sent_by_new_items(x_dict, owner_dict, num_added)
        heard = {
            name: self._heard(added[name], known[name], sent)
            for name in x_dict
            if f"similar_by_{name}" in self.shape.item_relations and len(known[name])
        }
        new = self.model.new_items(sent, heard)
        return self._with(
            replace(
                serving,
                item=torch.cat([serving.item, new.item]),
                item_messages=torch.cat([serving.item_messages, new.messages]),
                item_propagated=torch.cat([serving.item_propagated, sent]),
                item_degree=torch.cat([serving.item_degree, serving.item_degree.new_ones(num_added)]),
            )
        )

    def state(self) -> RankerState:
        """Returns weights, embeddings and options."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"serving.{name}": value for name, value in vars(self.serving).items()}
        return RankerState(tensors, {"config": to_dict(self.config), "shape": to_dict(self.shape)})

    @classmethod
    def from_state(cls, state: RankerState) -> Self:
        """Rebuilds the ranker."""
        config = from_dict(NeuralConfig, state.facts["config"])
        shape = from_dict(GraphShape, state.facts["shape"])
        model = build_model(shape, config.model)
        model.load_state_dict(below("model.", state.tensors))
        serving = ServingTensors(**below("serving.", state.tensors))
        return cls(model.eval(), serving, config, shape)

    def _with(self, serving: ServingTensors) -> Self:
        return type(self)(self.model, serving, self.config, self.shape)

    def _user_vectors(self, histories: sp.csr_matrix, base: Tensor | None) -> Tensor:
        """Returns decoded vectors ``[num_people, dim]``; ``base`` is what they have beside their histories."""
        serving = self.serving
        if self.model.hears_history:
            vectors = fold_in_by_propagation(histories, serving.item_messages, serving.item_degree)
            vectors = vectors if base is None else base + vectors
            with torch.no_grad():
                decoded = self.model.decode(vectors)
        else:
            # A cosine has the unit of the bias. A dot product has not: there the weight of the bias is fitted as well.
            cosine = self.config.model.decoder == "cosine"
            vectors = fold_in_by_least_squares(histories, self._without_bias() if cosine else serving.item)
            decoded = DECODERS[self.config.model.decoder](vectors)
            if decoded.shape[1] < serving.item.shape[1]:
                decoded = torch.cat([decoded, torch.ones_like(decoded[:, :1])], dim=1)
        unknown = torch.from_numpy(np.diff(histories.indptr) == 0)
        nothing = unknown & (vectors == 0).all(dim=1)
        return torch.where(nothing[:, None], serving.user.mean(dim=0), decoded)

    def _without_bias(self) -> Tensor:
        return self.serving.item[:, :-1] if self.model.has_item_bias else self.serving.item

    def _heard(self, added: Features, known: Features, sent: Tensor) -> Tensor:
        """Returns ``[num_added, any]``: what each new item hears from its nearest known items in one modality."""
        added_rows, added_owner = mean_per_owner(added)
        known_rows, known_owner = mean_per_owner(known)
        index, share, own_share = neighbour_shares(
            added_rows, known_rows, self.config.similar_items, self.config.item_graph
        )
        heard = torch.einsum("nk,nkd->nd", share, self.serving.item_propagated[known_owner[index]])
        heard = heard + own_share[:, None] * sent[added_owner]
        return torch.zeros_like(sent).index_copy_(0, added_owner, heard)


def _go_on_from(start: WarmStart, model: GraphModel, shape: GraphShape) -> None:
    """Takes over the weights of an earlier fit, with the biases as they were before popularity was weighed."""
    before = start.ranker
    if not isinstance(before, NeuralRanker):
        raise UnsupportedError(f"the ranker {before.name!r} has no weights that a training could go on from")
    carry_over(before.model, before.shape, model, shape, start.user_index, start.item_index)
    weight = before.config.model.popularity_weight
    if weight and model.weighs_popularity:
        model.weigh_popularity(1 / weight)


@torch.no_grad()
def _best_popularity_weight(
    model: GraphModel, graph: MessageGraph, validation: Validation | None, select_by: str
) -> float:
    """Chooses how much popularity counts; training cannot tell, for tomorrow's may be another than that of the log."""
    if validation is None:
        return 1.0
    embeddings = model(graph)
    direction, bias = embeddings.item[:, :-1], embeddings.item[:, -1:]

    def quality(weight: float) -> float:
        return validation(embeddings.user, torch.cat([direction, weight * bias], dim=1))[select_by]

    best = max(_POPULARITY_WEIGHTS, key=quality)
    logger.info("popularity counts %g times as much as in training: best on validation", best)
    return best


@torch.no_grad()
def _serving_tensors(model: GraphModel, graph: MessageGraph, interactions: sp.csr_matrix) -> ServingTensors:
    """Runs the trained model once over the whole graph and keeps what answering needs."""
    embeddings = model(graph)
    num_users = graph.num_users
    user, item = embeddings.user.cpu(), embeddings.item.cpu()
    messages = embeddings.messages[num_users:].cpu()
    degree = torch.from_numpy(np.bincount(interactions.indices, minlength=graph.num_items))
    before_decoding = embeddings.user_mixed.cpu()
    history = fold_in_by_propagation(interactions, messages, degree)
    # Users without interactions and without media are nobody in particular: they get the average taste.
    nobody = (before_decoding == 0).all(dim=1)
    user = torch.where(nobody[:, None], user[~nobody].mean(dim=0), user)
    return ServingTensors(
        user=user,
        item=item,
        user_base=before_decoding - history,
        item_messages=messages,
        item_propagated=embeddings.item_sent.cpu().clone(),  # may be the very memory of `item`
        item_degree=degree,
    )
