"""``gnnrec fit``: from logs and media to a fitted recommender in a folder."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gnnrec.cli import data
from gnnrec.cli.options import parse_config, parse_modalities, parse_split
from gnnrec.cli.processes import DistributedOption, part, runs_elsewhere
from gnnrec.cli.tables import held_out_frame, print_frame, print_rows, write_frame
from gnnrec.config import write_config
from gnnrec.errors import StorageError
from gnnrec.storage import whole_file

if TYPE_CHECKING:
    from gnnrec.data.dataset import Dataset
    from gnnrec.recommender import Recommender

__all__ = ["fit"]


def fit(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write the model and its files into.")],
    interactions: data.InteractionsArgument = None,
    dataset: data.DatasetOption = None,
    items: data.ItemsOption = None,
    users: data.UsersOption = None,
    column: data.ColumnOption = data.NOTHING,
    positive_from: data.PositiveFromOption = None,
    clean: data.CleanOption = data.NOTHING,
    strict: data.StrictOption = False,
    relation: data.RelationOption = data.NOTHING,
    split: data.SplitOption = None,
    text: data.TextOption = data.NOTHING,
    image: data.ImageOption = data.NOTHING,
    audio: data.AudioOption = data.NOTHING,
    video: data.VideoOption = data.NOTHING,
    vectors: data.VectorsOption = data.NOTHING,
    encoder: data.EncoderOption = data.NOTHING,
    media_root: data.MediaRootOption = None,
    config: data.ConfigOption = None,
    preset: data.PresetOption = None,
    set_: data.SetOption = data.NOTHING,
    seed: data.SeedOption = None,
    device: data.DeviceOption = None,
    refit: Annotated[
        bool,
        typer.Option(
            "--refit", help="Fit once more, on the events that chose the epochs too.", rich_help_panel="Model"
        ),
    ] = False,
    run_dir: Annotated[Path | None, typer.Option(help="Folder for checkpoints.", rich_help_panel="Model")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint in --run-dir.", rich_help_panel="Model")
    ] = False,
    distributed: DistributedOption = None,
) -> None:
    """Fit a recommender and write it to a folder.

    The folder gets `model/` (for the other commands and `gnnrec.load`), `config.toml` (every option, defaults
    included, but those that the fit is left to choose; give it back with --config) and, with --split, `test.parquet`.
    A modality whose name begins with `user:` belongs to the users.

    For instance

    `gnnrec fit log.csv --items items.csv --text plot=title,overview --image poster=poster_path -o run`

    `gnnrec fit --dataset movielens --split random:valid=0.1,test=0.2 --set epochs=20 -o run`

    `gnnrec fit log.parquet --distributed 4 --run-dir checkpoints -o run`
    """
    if runs_elsewhere(distributed):
        return
    from gnnrec.state import check_place

    check_place(output / "model")
    specs = parse_modalities(
        {"text": text, "image": image, "audio": audio, "video": video, "vectors": vectors}, encoder, media_root
    )
    options = parse_config(config, preset, set_, seed, device)
    train, valid, test = data.read_parts(
        interactions,
        dataset,
        items=items,
        users=users,
        column=column,
        positive_from=positive_from,
        clean=clean,
        strict=strict,
        relation=relation,
        specs=specs,
        media_root=media_root,
        splitter=parse_split(split) if split is not None else None,
    )

    from gnnrec.recommender import Recommender

    recommender = Recommender(config=options)
    shown = logging.getLogger("gnnrec").isEnabledFor(logging.WARNING)
    recommender.fit(
        train,
        valid,
        refit=refit,
        run_dir=run_dir,
        resume=resume,
        progress=shown,
        distributed=distributed is not None,
    )
    if part.rank:
        return  # the first process writes
    recommender.save(output / "model")
    _write_beside(output, recommender, test)
    _print_report(recommender)
    if test is not None and len(test.events):
        print_frame("Test", recommender.evaluate(test).to_frame())
    typer.echo(f"written to {output}")


def _write_beside(output: Path, recommender: "Recommender", test: "Dataset | None") -> None:
    """Writes the resolved configuration and the held-out events beside the model."""
    try:
        with whole_file(output / "config.toml") as file:
            write_config(recommender.config, file)
        if test is not None and len(test.events):
            write_frame(held_out_frame(test), str(output / "test.parquet"))
        else:
            (output / "test.parquet").unlink(missing_ok=True)  # that of an earlier fit
    except OSError as error:
        raise StorageError(f"cannot write into {str(output)!r}: {error}") from error


def _print_report(recommender: "Recommender") -> None:
    report = recommender.fit_report
    assert report is not None  # it was just fitted
    print_rows("Seconds", report.stage_seconds.items())
    media = [(name, m.given, m.missing, m.unreadable, m.truncated) for name, m in report.media.items()]
    if media:
        print_rows("Media", media, ("modality", "given", "missing", "unreadable", "truncated"))
