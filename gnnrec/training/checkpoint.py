"""Writes the state of a training run to disk after each epoch, and reads it back exactly."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gnnrec.config import to_dict
from gnnrec.errors import ConfigError
from gnnrec.nn.message_graph import MessageGraph
from gnnrec.nn.model import GraphModel
from gnnrec.storage import below, read_folder, recover, write_folder
from gnnrec.training.config import TrainingConfig

__all__ = ["Checkpoint", "fingerprint"]

_KIND, _VERSION = "gnnrec training checkpoint", 1
_FOLDER, _TENSORS = "checkpoint", "tensors.safetensors"


def fingerprint(config: TrainingConfig, seed: int, model: GraphModel, graph: MessageGraph) -> str:
    """Digest of what determines a run, so that no other run is continued by mistake.

    The values of features are left out: prepared again, they may differ in their last bits. The number of epochs is
    left out too, so that a run can go on for longer.
    """
    options = to_dict(config) | {"epochs": None, "seed": seed}
    digest = hashlib.sha256(json.dumps([options, to_dict(model.config), to_dict(graph.shape)]).encode())
    order = () if graph.histories is None else (graph.histories.position,)
    for index in (graph.edge_index, *graph.owner_dict.values(), *order):
        digest.update(index.cpu().numpy().tobytes())
    return digest.hexdigest()


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
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        history: list[dict[str, float]],
        best_epoch: int,
        best_weights: dict[str, Tensor],
    ) -> None:
        """Writes weights, optimiser state, best weights and history.

        Raises:
            StorageError: The folder cannot be written; the previous checkpoint survives.
        """
        tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in best_weights.items()}
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
        contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}

        def write(folder: Path) -> None:
            save_file(contiguous, folder / _TENSORS)

        facts = {"run": self.run, "history": history, "best_epoch": best_epoch}
        write_folder(self.folder, write, _KIND, _VERSION, facts)

    def restore(
        self, model: nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[list[dict[str, float]], int, dict[str, Tensor]]:
        """Loads weights and optimiser state in place; returns history, best epoch and best weights.

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
        device = next(model.parameters()).device
        tensors = load_file(self.folder / _TENSORS, device=str(device))
        model.load_state_dict(below("model.", tensors))
        optimizer.load_state_dict(optimizer.state_dict() | {"state": _optimizer_state(below("optimizer.", tensors))})
        return list(facts["history"]), int(facts["best_epoch"]), below("best.", tensors)


def _optimizer_state(tensors: dict[str, Tensor]) -> dict[int, dict[str, Any]]:
    state: dict[int, dict[str, Any]] = {}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    return state
