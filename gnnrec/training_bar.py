"""Shows the progress of a training run on the terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gnnrec.presets import RecommenderConfig
from gnnrec.training.loop import EpochRecord

__all__ = ["training_bar"]


@contextmanager
def training_bar(config: RecommenderConfig, *, enabled: bool) -> Iterator[Callable[[EpochRecord], None] | None]:
    """Opens a bar of epochs on standard error and gives the function that advances it.

    Args:
        config: Tells how many epochs there may be.
        enabled: Show it, if standard error is a terminal.
    """
    console = Console(stderr=True)
    if not enabled or not console.is_terminal or config.ranker != "neural":
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[score]}"), console=console) as bar:
        task = bar.add_task("training", total=config.training.epochs, score="", visible=False)

        def advance(record: EpochRecord) -> None:
            select_by = config.training.select_by
            score = f"{select_by} {record[select_by]:.4f}" if select_by in record else f"loss {record['loss']:.4f}"
            bar.update(task, completed=int(record["epoch"]), score=score, visible=True)

        yield advance
