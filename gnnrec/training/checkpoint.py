"""Writes the state of a training run to disk after each epoch, and reads it back exactly."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from gnnrec.config import to_dict
from gnnrec.errors import ConfigError
from gnnrec.evaluation.validation import ValidationPairs
from gnnrec.named_tensors import below
from gnnrec.nn.message_graph import MessageGraph
from gnnrec.nn.model import GraphModel
from gnnrec.storage import read_folder, recover, write_folder
from gnnrec.training.config import TrainingConfig
from gnnrec.training.tables import Tables

__all__ = ["REFIT", "WITH_ORDER", "Checkpoint", "fingerprint", "forget_later_trainings"]

_KIND, _VERSION = "gnnrec training checkpoint", 1
_FOLDER, _TENSORS = "checkpoint", "tensors.safetensors"
# Folders below that of a run, of what is trained after it.
WITH_ORDER, REFIT = "with-order", "refit"


def fingerprint(
    config: TrainingConfig,
    seed: int,
    model: GraphModel,
    graph: MessageGraph,
    validation: ValidationPairs | None = None,
    goes_on: Mapping[str, Tensor] | None = None,
) -> str:
    """Digest of what determines a run, so that no other run is continued by mistake.

    The validation pairs are part of it, and the weights that an earlier fit left (``goes_on``). The values of features,
    and neighbours by them, are left out: prepared again, they may differ in their last bits. The number of epochs is
    left out too, so that a run can go on for longer.
    """
    options = to_dict(config) | {"epochs": None, "seed": seed}
    digest = hashlib.sha256(json.dumps([options, to_dict(model.config), to_dict(graph.shape)]).encode())
    order = () if graph.histories is None else (graph.histories.position,)
    weights = () if graph.edge_weight is None else (graph.edge_weight,)
    for tensor in (graph.edge_index, *graph.owner_dict.values(), *order, *weights, *_given_relations(graph)):
        digest.update(tensor.cpu().numpy().tobytes())
    for name, label in sorted(graph.labels.items()):
        digest.update(name.encode() + label.cpu().numpy().tobytes())
    if validation is not None:
        for matrix in (validation.pairs, validation.mask):
            digest.update(b"validation" + matrix.indptr.tobytes() + matrix.indices.tobytes())
    for name, weight in sorted((goes_on or {}).items()):
        digest.update(name.encode() + weight.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def _given_relations(graph: MessageGraph) -> Iterator[Tensor]:
    for _, operators in sorted(graph.relations.items()):  # what they are called is in the shape of the graph
        for name, operator in sorted(operators.items()):
            if name not in {f"similar_by_{modality}" for modality in graph.described}:
                matrix = operator.forward_matrix
                yield from (matrix.crow_indices(), matrix.col_indices(), matrix.values())


def forget_later_trainings(run_dir: Path) -> None:
    """Removes the checkpoints that an earlier run left of what comes after its first training."""
    for name in (WITH_ORDER, REFIT):
        if recover(run_dir / name / _FOLDER):
            shutil.rmtree(run_dir / name / _FOLDER)


class Checkpoint:
    """The one checkpoint of a run; each save replaces the last atomically.

    Args:
        run_dir: Folder of the run.
        run: Fingerprint of the run.
    """

    def __init__(self, run_dir: Path, run: str) -> None:
        self.folder = Path(run_dir) / _FOLDER
        self.run = run

    def exists(self) -> bool:
        """Whether there is something to go on from."""
        return recover(self.folder)

    def save(
        self,
        model: GraphModel,
        optimizer: torch.optim.Optimizer,
        history: list[dict[str, float]],
        best_epoch: int,
        best_weights: dict[str, Tensor],
        tables: Tables | None = None,
        *,
        write: bool = True,
    ) -> None:
        """Writes weights, optimiser state, best weights and history.

        Args:
            model: The model.
            optimizer: What moves its weights.
            history: One record per epoch.
            best_epoch: The best of them.
            best_weights: Its weights.
            tables: Of the model. Where they are split among processes all of them must call, and whole ones are
                written, so that any number of processes can go on.
            write: Not just take part in that.

        Raises:
            StorageError: The folder cannot be written; the previous checkpoint survives.
        """
        weights = [name for name, _ in model.named_parameters()]
        states = [("model", model.state_dict()), ("best", best_weights)]
        parts = [(f"{kind}.{name}", name, value) for kind, state in states for name, value in state.items()]
        for index, state in optimizer.state_dict()["state"].items():
            parts += [(f"optimizer.{index}.{key}", weights[index], value) for key, value in state.items()]
        tables = Tables(model) if tables is None else tables
        tensors = {}
        for key, name, value in parts:
            whole = tables.gather(name, value.detach())
            if write:
                tensors[key] = whole.cpu().contiguous()
        if not write:
            return

        def write_tensors(folder: Path) -> None:
            save_file(tensors, folder / _TENSORS)

        facts = {"run": self.run, "history": history, "best_epoch": best_epoch}
        write_folder(self.folder, write_tensors, _KIND, _VERSION, facts)

    def restore(
        self, model: GraphModel, optimizer: torch.optim.Optimizer, tables: Tables | None = None
    ) -> tuple[list[dict[str, float]], int, dict[str, Tensor]]:
        """Loads weights and optimiser state in place; returns history, best epoch and best weights.

        Args:
            model: The model.
            optimizer: What moves its weights.
            tables: Of the model; where they are split among processes each one takes its rows.

        Raises:
            ConfigError: The checkpoint belongs to a run with other options or data.
            StorageError: The checkpoint is damaged.
        """
        facts = read_folder(self.folder, _KIND, _VERSION)["facts"]
        if facts["run"] != self.run:
            raise ConfigError(
                f"the checkpoint in {str(self.folder)!r} was written with other options or data; "
                "use the same ones, or another run_dir"
            )
        tensors = load_file(self.folder / _TENSORS, device=str(model.device))
        tables = Tables(model) if tables is None else tables
        weights, best = (
            {name: tables.cut(name, value) for name, value in below(kind, tensors).items()}
            for kind in ("model.", "best.")
        )
        model.load_state_dict(weights)
        names = [name for name, _ in model.named_parameters()]
        state: dict[int, dict[str, Any]] = {}
        for place, value in below("optimizer.", tensors).items():
            index, key = place.split(".", 1)
            state.setdefault(int(index), {})[key] = tables.cut(names[int(index)], value)
        optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
        return list(facts["history"]), int(facts["best_epoch"]), best
