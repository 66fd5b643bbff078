"""Everything a fitted recommender knows, as one value that is replaced and never changed, and its saved form."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from gnnrec.data.dataset import Dataset
from gnnrec.data.ids import IdMap
from gnnrec.data.storage import load_dataset, save_dataset
from gnnrec.modalities.features import EncoderCard, Features
from gnnrec.modalities.preparation import Preparation
from gnnrec.named_tensors import below, csr_matrix, csr_tensors
from gnnrec.rankers import RANKERS
from gnnrec.rankers.base import Ranker, RankerState
from gnnrec.retrieval.aligned_space import AlignedSpace
from gnnrec.storage import check_writable, read_consistently, write_folder

__all__ = ["FORMAT_VERSION", "RecommenderState", "check_place", "load_state", "save_state"]

FORMAT_VERSION = 9

_KIND = "gnnrec recommender"
_CATALOGUE, _TENSORS = "catalogue", "tensors.safetensors"
_NOTHING = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class RecommenderState:
    """The truth about a fitted recommender.

    Attributes:
        catalogue: Ids, tables, media specifications and frame library; it holds no events, and no vectors.
        train: ``[num_users, num_items]`` binary: the pairs that shaped the ranker, updates included.
        valid: ``[num_users, num_items]`` binary: the pairs that chose the best epoch.
        features: Modality → prepared vectors.
        preparation: How raw vectors become prepared ones.
        ranker: What scores.
        space: The learned space in which queries of any medium meet items of any modality; ``None`` where none was
            learned.
        order: ``[num_users, num_items]`` the place of each training pair in its user's history, larger for later ones;
            ``None`` where the ranker does not read it.
        removed: Tombstones: ascending positions of items that are answered no more. They keep their places everywhere.
        last_event: Newest timestamp in training and updates; ``None`` where the log had none.
        history: One record per epoch of the training.
        best_epoch: Epoch that was kept; 0 without epochs.
        version: Counts the changes since the fit.
    """

    catalogue: Dataset
    train: sp.csr_matrix
    valid: sp.csr_matrix
    features: Mapping[str, Features]
    preparation: Preparation
    ranker: Ranker
    space: AlignedSpace | None = None
    order: sp.csr_matrix | None = None
    removed: NDArray[np.int64] = field(default_factory=_NOTHING.copy)
    last_event: float | None = None
    history: tuple[Mapping[str, float], ...] = ()
    best_epoch: int = 0
    version: int = 0

    @property
    def users(self) -> IdMap:
        """Ids of the known users."""
        return self.catalogue.users

    @property
    def items(self) -> IdMap:
        """Ids of the catalogue."""
        return self.catalogue.items

    @property
    def seen(self) -> sp.csr_matrix:
        """``[num_users, num_items]``: what every user has had already, in training or validation."""
        seen: sp.csr_matrix = self.train + self.valid
        return seen

    def seen_by(self, user_index: NDArray[np.int64]) -> sp.csr_matrix:
        """Returns ``[len(user_index), num_items]``: what each has had already; nothing for a stranger (index -1)."""
        rows = np.maximum(user_index, 0)
        seen = self.train[rows] + self.valid[rows]
        known = sp.csr_matrix(sp.diags((user_index >= 0).astype(np.float32)) @ seen)
        known.eliminate_zeros()  # what stands in the rows of strangers
        return known

    @property
    def popularity(self) -> NDArray[np.int64]:
        """``[num_items]``: distinct users of each item in training."""
        return np.bincount(self.train.indices, minlength=self.train.shape[1])

    @property
    def offered(self) -> NDArray[np.bool_]:
        """``[num_items]``: which items were not removed."""
        offered = np.ones(len(self.items), dtype=np.bool_)
        offered[self.removed] = False
        return offered


def save_state(state: RecommenderState, path: str | Path, config: Mapping[str, Any]) -> None:
    """Writes a state as a checksummed folder, all at once or not at all.

    Args:
        state: What to write.
        path: The folder; a saved recommender that is already there is replaced.
        config: The configuration, as plain values.

    Raises:
        StorageError: The folder cannot be written; what was there before survives.
    """
    ranker = state.ranker.state()
    tensors = {f"ranker.{name}": value for name, value in ranker.tensors.items()}
    for name in ("train", "valid"):
        tensors |= csr_tensors(name, getattr(state, name))
    for name, feature in state.features.items():
        tensors[f"features.{name}.values"], tensors[f"features.{name}.owner_index"] = feature.tensors()
    if state.space is not None:
        tensors |= {f"space.{name}": value for name, value in state.space.tensors().items()}
    if state.order is not None:
        tensors |= csr_tensors("order", state.order)
    tensors["removed"] = torch.from_numpy(state.removed)
    tensors |= {f"preparation.{name}": torch.from_numpy(value) for name, value in state.preparation.arrays().items()}

    def write(folder: Path) -> None:
        save_dataset(state.catalogue, folder / _CATALOGUE)
        save_file({name: value.detach().contiguous() for name, value in tensors.items()}, folder / _TENSORS)

    facts = {
        "config": config,
        "ranker": state.ranker.name,
        "ranker_facts": ranker.facts,
        "features": {name: _feature_facts(feature) for name, feature in state.features.items()},
        "preparation": state.preparation.facts(),
        "space": None if state.space is None else state.space.facts(),
        "last_event": state.last_event,
        "history": [dict(record) for record in state.history],
        "best_epoch": state.best_epoch,
        "state_version": state.version,
    }
    write_folder(path, write, _KIND, FORMAT_VERSION, facts)


def check_place(path: str | Path) -> None:
    """Finds out before a fit whether :func:`save_state` could write there.

    Raises:
        StorageError: It could not.
    """
    check_writable(path, _KIND)


def load_state(path: str | Path) -> tuple[RecommenderState, dict[str, Any]]:
    """Reads what :func:`save_state` wrote; returns the state and the configuration as plain values.

    Raises:
        StorageError: The folder is absent, damaged, altered, or of a newer format.
    """
    return read_consistently(path, _KIND, FORMAT_VERSION, _read_state)


def _read_state(folder: Path, manifest: Mapping[str, Any]) -> tuple[RecommenderState, dict[str, Any]]:
    facts = manifest["facts"] if manifest["version"] > 1 else _from_version_1(manifest["facts"])
    catalogue = load_dataset(folder / _CATALOGUE)
    # A copy lies where torch would have put it: products over memory of another alignment differ in the last bits.
    tensors = {name: value.clone() for name, value in load_file(folder / _TENSORS).items()}
    ranker = RANKERS[facts["ranker"]].from_state(RankerState(below("ranker.", tensors), facts["ranker_facts"]))
    arrays = {name: value.numpy() for name, value in below("preparation.", tensors).items()}
    space = facts.get("space")  # formats before 3 had none
    state = RecommenderState(
        catalogue=catalogue,
        train=csr_matrix("train", tensors, catalogue.num_items),
        valid=csr_matrix("valid", tensors, catalogue.num_items),
        features={name: _feature(name, saved, tensors) for name, saved in facts["features"].items()},
        preparation=Preparation.restore(arrays, facts["preparation"]),
        ranker=ranker,
        space=None if space is None else AlignedSpace.restore(below("space.", tensors), space),
        order=csr_matrix("order", tensors, catalogue.num_items) if "order.indptr" in tensors else None,
        removed=tensors["removed"].numpy() if "removed" in tensors else _NOTHING,
        last_event=facts["last_event"],
        history=tuple(facts["history"]),
        best_epoch=facts["best_epoch"],
        version=facts["state_version"],
    )
    return state, facts["config"]


def _from_version_1(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Adds what format 1 did not say: it knew no time, and of the preparation only the kinds of scaling."""
    preparation = {"scaling": facts["preparation"], "missing": facts["config"]["features"]["missing"]}
    return {**facts, "preparation": preparation, "last_event": None}


def _feature_facts(feature: Features) -> dict[str, Any]:
    return {
        "of": feature.of,
        "encoder": None if feature.encoder is None else dataclasses.asdict(feature.encoder),
        "report": dataclasses.asdict(feature.report),
    }


def _feature(name: str, saved: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Features:
    return Features(
        name=name,
        of=saved["of"],
        values=tensors[f"features.{name}.values"].numpy(),
        owner_index=tensors[f"features.{name}.owner_index"].numpy(),
        encoder=None if saved["encoder"] is None else EncoderCard(**saved["encoder"]),
    )
