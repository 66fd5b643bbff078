"""``gnnrec fit``: from logs and media to a fitted recommender in a folder."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gnnrec.cli.options import parse_cleaning, parse_config, parse_modalities, parse_pairs, parse_relations, parse_split
from gnnrec.cli.tables import held_out_frame, print_frame, print_rows
from gnnrec.config import write_config
from gnnrec.errors import ConfigError, StorageError

if TYPE_CHECKING:
    from gnnrec.data.dataset import Dataset
    from gnnrec.recommender import Recommender

__all__ = ["fit"]

_DATA, _MEDIA, _MODEL = "Data", "Media", "Model"
_NOTHING: list[str] = []


def fit(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write the model and its files into.")],
    interactions: Annotated[
        str | None,
        typer.Argument(help="The log: path or glob of CSV, TSV, Parquet or JSON lines.", show_default=False),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="A public data set instead (see `gnnrec datasets list`).", rich_help_panel=_DATA)
    ] = None,
    items: Annotated[str | None, typer.Option(help="Table with one row per item_id.", rich_help_panel=_DATA)] = None,
    users: Annotated[str | None, typer.Option(help="Table with one row per user_id.", rich_help_panel=_DATA)] = None,
    column: Annotated[
        list[str], typer.Option(metavar="ROLE=COLUMN", help="Name a column: user_id=customer.", rich_help_panel=_DATA)
    ] = _NOTHING,
    positive_from: Annotated[
        float | None, typer.Option(help="Events with a smaller weight are not positive.", rich_help_panel=_DATA)
    ] = None,
    clean: Annotated[
        list[str],
        typer.Option(metavar="RULE=VALUE", help="A cleaning rule: min_user_events=5.", rich_help_panel=_DATA),
    ] = _NOTHING,
    strict: Annotated[bool, typer.Option("--strict", help="A bad row is an error.", rich_help_panel=_DATA)] = False,
    relation: Annotated[
        list[str],
        typer.Option(metavar="NAME=FILE", help="Edges between users; item:NAME= between items.", rich_help_panel=_DATA),
    ] = _NOTHING,
    split: Annotated[
        str | None,
        typer.Option(
            help="Hold out events for testing: random, leave-last, by-time, cold-items, cold-users or column:NAME, "
            "with options as in random:valid=0.1,test=0.2,seed=0. Without it, all events are fitted on.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    text: Annotated[
        list[str], typer.Option(metavar="NAME=COLUMN[,COLUMN]", help="Text columns.", rich_help_panel=_MEDIA)
    ] = _NOTHING,
    image: Annotated[
        list[str], typer.Option(metavar="NAME=COLUMN", help="A column of picture paths.", rich_help_panel=_MEDIA)
    ] = _NOTHING,
    audio: Annotated[
        list[str], typer.Option(metavar="NAME=COLUMN", help="A column of sound paths.", rich_help_panel=_MEDIA)
    ] = _NOTHING,
    video: Annotated[
        list[str], typer.Option(metavar="NAME=COLUMN", help="A column of video paths.", rich_help_panel=_MEDIA)
    ] = _NOTHING,
    vectors: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=FILE",
            help="Precomputed vectors: a table with an id column, or an .npy matrix whose row number is the id.",
            rich_help_panel=_MEDIA,
        ),
    ] = _NOTHING,
    encoder: Annotated[
        list[str],
        typer.Option(metavar="NAME=ENCODER", help="Another encoder than auto.", rich_help_panel=_MEDIA),
    ] = _NOTHING,
    media_root: Annotated[
        Path | None, typer.Option(help="Folder that relative media paths start from.", rich_help_panel=_MEDIA)
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with options.", rich_help_panel=_MODEL)] = None,
    preset: Annotated[
        str | None, typer.Option(help="A published model or baseline: lightgcn, vbpr, …", rich_help_panel=_MODEL)
    ] = None,
    set_: Annotated[
        list[str],
        typer.Option("--set", metavar="OPTION=VALUE", help="A single option: epochs=20.", rich_help_panel=_MODEL),
    ] = _NOTHING,
    seed: Annotated[int | None, typer.Option(help="Fixes everything random.", rich_help_panel=_MODEL)] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.", rich_help_panel=_MODEL)] = None,
    refit: Annotated[
        bool, typer.Option("--refit", help="Without --split: fit once more on all events.", rich_help_panel=_MODEL)
    ] = False,
    run_dir: Annotated[Path | None, typer.Option(help="Folder for checkpoints.", rich_help_panel=_MODEL)] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint in --run-dir.", rich_help_panel=_MODEL)
    ] = False,
) -> None:
    """Fit a recommender and write it to a folder.

    The folder gets `model/` (for the other commands and `gnnrec.load`), `config.toml` (every option, defaults
    included; give it back with --config) and, with --split, `test.parquet`. A modality whose name begins with `user:`
    belongs to the users.

    For instance

    `gnnrec fit log.csv --items items.csv --text plot=title,overview --image poster=poster_path -o run`

    `gnnrec fit --dataset movielens --split random:valid=0.1,test=0.2 --set epochs=20 -o run`
    """
    specs = parse_modalities(
        {"text": text, "image": image, "audio": audio, "video": video, "vectors": vectors}, encoder, media_root
    )
    options = parse_config(config, preset, set_, seed, device)
    splitter = parse_split(split) if split is not None else None
    if (interactions is None) == (dataset is None):
        raise ConfigError("give either a log or --dataset NAME")

    from gnnrec.data import catalogue
    from gnnrec.data.dataset import Dataset
    from gnnrec.recommender import Recommender

    if dataset is not None:
        if any((items, users, column, clean, strict, relation, specs, positive_from)):
            raise ConfigError("--dataset brings its own tables, media and rules; leave these options out")
        data = catalogue.load(dataset)
    else:
        data = Dataset.from_frames(
            interactions,
            items,
            users,
            specs,
            parse_relations(relation),
            parse_cleaning(clean, strict=strict),
            columns=parse_pairs(column, "--column"),
            positive_from=positive_from,
            media_root=media_root,
        )
    print_rows("Data", data.describe().rows())
    if data.cleaning_report is not None:
        print_rows("Cleaning", data.cleaning_report.rows())

    train, valid, test = (data, None, None) if splitter is None else data.split(splitter)
    if valid is not None and len(valid.events) == 0:
        valid = None
    recommender = Recommender(config=options)
    shown = logging.getLogger("gnnrec").isEnabledFor(logging.WARNING)
    recommender.fit(train, valid, refit=refit, run_dir=run_dir, resume=resume, progress=shown)
    recommender.save(output / "model")
    _write_beside(output, recommender, test)
    _print_report(recommender)
    if test is not None and len(test.events):
        print_frame("Test", recommender.evaluate(test).to_frame())
    typer.echo(f"written to {output}")


def _write_beside(output: Path, recommender: "Recommender", test: "Dataset | None") -> None:
    """Writes the resolved configuration and the held-out events beside the model."""
    try:
        write_config(recommender.config, output / "config.toml")
        if test is not None and len(test.events):
            held_out_frame(test).to_parquet(output / "test.parquet", index=False)
    except OSError as error:
        raise StorageError(f"cannot write into {str(output)!r}: {error}") from error


def _print_report(recommender: "Recommender") -> None:
    report = recommender.fit_report
    assert report is not None  # it was just fitted
    print_rows("Seconds", report.stage_seconds.items())
    media = [(name, m.given, m.missing, m.unreadable, m.truncated) for name, m in report.media.items()]
    if media:
        print_rows("Media", media, ("modality", "given", "missing", "unreadable", "truncated"))
