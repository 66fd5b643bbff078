"""``--distributed``: starts this very command in several processes, or takes part in those that torchrun started."""

import logging
import os
import signal
import sys
import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from gnnrec.errors import ConfigError, GnnrecError

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

__all__ = ["DistributedOption", "first_has_said_it", "part", "runs_elsewhere", "tell_the_others"]

DistributedOption = Annotated[
    str | None,
    typer.Option(
        metavar="NUMBER|torchrun", help="Start so many processes here, or take part in those that torchrun started."
    ),
]


@dataclass
class _Part:
    """Which of how many processes this is; known as soon as a command takes part in ``--distributed``."""

    rank: int = 0
    size: int = 1


part = _Part()

_FAILED = "gnnrec: the first process failed"
_FOR_THE_FIRST = timedelta(seconds=10)


def runs_elsewhere(distributed: str | None) -> bool:
    """Starts the processes that are asked for and waits for them; returns whether they have done the command.

    They are started by torch's elastic launcher, with the arguments of this process.

    Raises:
        ConfigError: No number, no torchrun, or another number of processes than torchrun started.
        GnnrecError: A process was killed, or failed without a word of ours.
    """
    part.rank, part.size = 0, 1
    if distributed is None:
        return False
    if distributed != "torchrun" and not (distributed.isdecimal() and int(distributed)):
        raise ConfigError(f"--distributed takes a number of processes, or 'torchrun', not {distributed!r}")
    if "RANK" in os.environ:
        part.rank, part.size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        if part.rank:
            logging.getLogger("gnnrec").setLevel(logging.ERROR)  # the first process says the rest
        if distributed not in ("torchrun", str(part.size)):
            raise ConfigError(
                f"--distributed {distributed}, but torchrun started {part.size}; say --distributed torchrun"
            )
        return False
    if distributed == "torchrun":
        raise ConfigError(
            "--distributed torchrun is for processes that torchrun starts: "
            "`torchrun --nproc-per-node 2 -m gnnrec fit … --distributed torchrun`; "
            "on one machine `gnnrec fit … --distributed 2` does it all"
        )
    _launch(int(distributed))
    return True


def tell_the_others() -> None:
    """Lets the other processes know that the first one has failed and said why."""
    if part.rank or part.size == 1 or not _has_store():
        return
    import torch.distributed as dist

    with suppress(dist.DistError):
        _store().set(_FAILED, "")


def first_has_said_it() -> bool:
    """Returns whether the first process fails as well as this one, so that its message need not be repeated."""
    if part.rank == 0 or not _has_store():
        return False
    import torch.distributed as dist

    try:
        _store().wait([_FAILED])
    except dist.DistError:
        return False
    return True


def _has_store() -> bool:
    """Returns whether torchrun set the variables by which processes find each other; others set some of them only."""
    return "MASTER_ADDR" in os.environ and "MASTER_PORT" in os.environ


def _store() -> "Store":
    """Connects to the store by which torchrun brought the processes together."""
    import torch.distributed as dist

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return dist.TCPStore(address, port, is_master=False, timeout=_FOR_THE_FIRST)  # type: ignore[attr-defined]


def _launch(number: int) -> None:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # What it has to say is said below, in a line.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // number)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=number,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "gnnrec", *sys.argv[1:])
    except ChildFailedError as failed:
        # Where one is killed the others miss it and fail, too.
        rank, failure = min(failed.failures.items(), key=lambda item: (item[1].exitcode >= 0, item[1].timestamp))
        if failure.exitcode > 1:
            raise typer.Exit(failure.exitcode) from None  # it has said why
        how = f"failed with exit code {failure.exitcode}, as it says above"
        if failure.exitcode < 0:
            how = f"was killed by {signal.Signals(-failure.exitcode).name}"
        raise GnnrecError(
            f"process {rank} of {number} {how}; nothing half-done was written. "
            "A fit with --run-dir goes on from its last epoch when the same command is given with --resume"
        ) from None
