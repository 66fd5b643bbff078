"""Joins the processes that torchrun started, and says what each of them does of the work that they share."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from gnnrec.errors import ConfigError
from gnnrec.nn.message_graph import GraphShape
from gnnrec.nn.model import GraphModel
from gnnrec.training.step_loss import StepLoss
from gnnrec.training.steps import Step
from gnnrec.training.tables import Tables

__all__ = ["ALONE", "Processes", "joined"]

# Others wait while the first one validates or encodes media. Nobody waits for the dead: torchrun ends them all.
_PATIENCE = timedelta(days=1)


@dataclass(frozen=True)
class Processes:
    """The processes that train one model together; without arguments this one alone, at no cost.

    Attributes:
        rank: Number of this process, from 0.
        size: How many there are.
        local_rank: Number of this process among those of its machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this is the process that validates, writes and prints."""
        return self.rank == 0

    def share(self, num_pairs: int) -> tuple[slice, float]:
        """Returns which pairs of a batch are those of this process, and what the mean over them counts.

        With these weights, the mean over the processes of what they compute is the mean over the pairs, however
        unequal the shares. A process that is left without a pair takes the first one and counts it for nothing.
        """
        start, stop = (num_pairs * rank // self.size for rank in (self.rank, self.rank + 1))
        if start == stop:
            return slice(0, 1), 0.0
        return slice(start, stop), (stop - start) * self.size / num_pairs

    def own_stream(self, generator: torch.Generator) -> torch.Generator:
        """Returns a source of what need not be alike in all processes; alone, it is the common one."""
        if self.size == 1:
            return generator
        return torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=generator)) + self.rank)

    def tables_of(self, model: GraphModel, shape: GraphShape) -> Tables:
        """Splits the tables of a model among the processes; alone, they stay as they are."""
        if self.size == 1:
            return Tables(model)
        from gnnrec.training.sharded_tables import ShardedTables  # takes seconds to import

        return ShardedTables(model, shape)

    def averaged(self, step_loss: StepLoss, tables: Tables) -> Callable[[Step], dict[str, Tensor]]:
        """Returns the loss of a step such that ``backward`` averages gradients, but for those of tables."""
        if self.size == 1:
            return step_loss
        ignored = [f"model.{name}" for name in tables.names]
        if all(name in ignored for name, _ in step_loss.named_parameters()):
            return step_loss
        # torch has no public way yet to leave weights to others; torchrec uses this one, too.
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(  # type: ignore[no-untyped-call]
            step_loss, ignored
        )
        # Which weights have a part in a step depends on the options and on the pairs: on whether any item has media.
        return DistributedDataParallel(step_loss, find_unused_parameters=True)

    def total(self, values: Mapping[str, float]) -> dict[str, float]:
        """Adds up over all processes."""
        if self.size == 1:
            return dict(values)
        sums = torch.tensor(list(values.values()), dtype=torch.float64)
        dist.all_reduce(sums)
        return dict(zip(values, sums.tolist(), strict=True))

    def told(self, values: Mapping[str, float]) -> dict[str, float]:
        """Returns what the first process says, so that all decide alike; of the others nothing is asked."""
        if self.size == 1:
            return dict(values)
        said: dict[str, float] = json.loads(self._said_by_all(json.dumps(dict(values)))[0])
        return said

    def require_alike(self, value: str, complaint: str) -> None:
        """Compares something with what the other processes have.

        Args:
            value: What must be the same everywhere.
            complaint: What is wrong with a process where it is another than in process 0.

        Raises:
            ConfigError: It is not the same everywhere; every process raises.
        """
        if self.size == 1:
            return
        values = self._said_by_all(value)
        for rank, other in enumerate(values):
            if other != values[0]:
                raise ConfigError(f"process {rank} of {self.size} {complaint}")

    @contextmanager
    def first_on_each_machine(self) -> Iterator[None]:
        """Lets the first process of every machine through, and the others when it is done."""
        if self.size > 1 and self.local_rank > 0:
            dist.barrier()
        yield
        if self.size > 1 and self.local_rank == 0:
            dist.barrier()

    def _said_by_all(self, text: str) -> list[str]:
        """Exchanges texts; as bytes, since torch would pickle them."""
        own = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
        lengths = [torch.empty(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(lengths, torch.tensor([len(own)]))
        longest = int(max(lengths))
        padded = [torch.empty(longest, dtype=torch.uint8) for _ in range(self.size)]
        dist.all_gather(padded, torch.cat([own, own.new_zeros(longest - len(own))]))
        return [bytes(row[: int(length)].tolist()).decode() for row, length in zip(padded, lengths, strict=True)]


ALONE = Processes()


@contextmanager
def joined() -> Iterator[Processes]:
    """Joins the group that torchrun, or whoever set ``RANK`` and its companions, started; leaves it at the end.

    With CUDA each process takes the device of its number on its machine, and devices talk by NCCL; the rest is gloo.

    Raises:
        ConfigError: This process was started alone, or there are more processes on a machine than CUDA devices.
    """
    if dist.is_initialized():
        yield _present()
        return
    if "RANK" not in os.environ:
        raise ConfigError(
            "distributed=True joins the processes that torchrun started, and this one was started alone; run "
            "`torchrun --nproc-per-node 2 SCRIPT`, or in a shell `gnnrec fit … --distributed 2`"
        )
    if torch.cuda.is_available():
        local_rank, num_devices = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if local_rank >= num_devices:
            raise ConfigError(f"process {local_rank} of this machine has no CUDA device: there are {num_devices}")
        torch.cuda.set_device(local_rank)
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=_PATIENCE)
    try:
        yield _present()
    finally:
        dist.destroy_process_group()


def _present() -> Processes:
    return Processes(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", "0")))
