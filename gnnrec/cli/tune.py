"""``gnnrec tune``: from logs and media to the options that fit them best."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from gnnrec.cli import data
from gnnrec.cli.options import parse_config, parse_modalities, parse_space, parse_split
from gnnrec.cli.tables import print_rows

__all__ = ["tune"]


def tune(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write the report and its files into.")],
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
    trials: Annotated[
        int, typer.Option(help="Trials in all, those in the storage included.", rich_help_panel="Search")
    ] = 50,
    timeout: Annotated[
        float | None, typer.Option(help="No trial begins after so many seconds.", rich_help_panel="Search")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes that run trials side by side.", rich_help_panel="Search")] = 1,
    storage: Annotated[
        Path | None, typer.Option(help="File that keeps the trials, to go on from.", rich_help_panel="Search")
    ] = None,
    space: Annotated[
        list[str],
        typer.Option(
            metavar="OPTION[=RANGE]",
            help="Search only these: temperature (its own range), temperature=0.05..0.5, hops=[1,2,3].",
            rich_help_panel="Search",
        ),
    ] = data.NOTHING,
    metric: Annotated[
        str | None, typer.Option(help="Validation metric to maximise: ndcg@10.", rich_help_panel="Search")
    ] = None,
) -> None:
    """Search the options that fit the data best, on validation events only.

    The folder gets `report.md` with two pictures, `trials.csv`, `best.toml` (its options; give it to `gnnrec fit` with
    `--config`) and, unless --storage names another file, `trials.journal`: the same command goes on from there. With
    --split, the test events are left alone: fit with the same --split and measure there.

    For instance

    `gnnrec tune log.csv --items items.csv --text plot=title,overview --trials 50 -o search`

    `gnnrec tune --dataset movielens --split random --space temperature=0.05..0.5 --space 'hops=[1,2,3]' -o search`
    """
    specs = parse_modalities(
        {"text": text, "image": image, "audio": audio, "video": video, "vectors": vectors}, encoder, media_root
    )
    options = parse_config(config, preset, set_, seed, device)
    searched = parse_space(space)
    train, valid, _ = data.read_parts(
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

    from gnnrec.tuning import tune as search

    report = search(
        train,
        valid,
        config=options,
        trials=trials,
        timeout=timeout,
        workers=workers,
        storage=storage or output / "trials.journal",
        space=searched,
        metric=metric,
        progress=logging.getLogger("gnnrec").isEnabledFor(logging.WARNING),
    )
    report.save(output)
    print_rows("Trials", report.trials["state"].value_counts().items())
    print_rows("Options", report.rows(), ("option", "start", "best", "searched"))
    values = [("start", report.start_value), ("best", report.best_value)]
    print_rows("Validation", values, ("", report.metric))
    typer.echo(f"written to {output}")
