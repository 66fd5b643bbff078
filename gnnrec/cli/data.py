"""The options that say which data and which model, and what they read: shared by the commands that fit."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gnnrec.cli.options import parse_cleaning, parse_pairs, parse_relations
from gnnrec.cli.tables import print_rows
from gnnrec.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gnnrec.data.dataset import Dataset
    from gnnrec.data.schema import ModalitySpec
    from gnnrec.data.split import Splitter

__all__ = [
    "NOTHING",
    "AudioOption",
    "CleanOption",
    "ColumnOption",
    "ConfigOption",
    "DatasetOption",
    "DeviceOption",
    "EncoderOption",
    "ImageOption",
    "InteractionsArgument",
    "ItemsOption",
    "MediaRootOption",
    "PositiveFromOption",
    "PresetOption",
    "RelationOption",
    "SeedOption",
    "SetOption",
    "SplitOption",
    "StrictOption",
    "TextOption",
    "UsersOption",
    "VectorsOption",
    "VideoOption",
    "read_parts",
]

NOTHING: list[str] = []


def _data(*names: str, **what: Any) -> Any:
    return typer.Option(*names, rich_help_panel="Data", **what)


def _media(metavar: str, **what: Any) -> Any:
    return typer.Option(metavar=metavar, rich_help_panel="Media", **what)


def _model(*names: str, **what: Any) -> Any:
    return typer.Option(*names, rich_help_panel="Model", **what)


InteractionsArgument = Annotated[
    str | None, typer.Argument(help="The log: path or glob of CSV, TSV, Parquet or JSON lines.", show_default=False)
]
DatasetOption = Annotated[str | None, _data(help="A public data set instead (see `gnnrec datasets list`).")]
ItemsOption = Annotated[str | None, _data(help="Table with one row per item_id.")]
UsersOption = Annotated[str | None, _data(help="Table with one row per user_id.")]
ColumnOption = Annotated[list[str], _data(metavar="ROLE=COLUMN", help="Name a column: user_id=customer.")]
PositiveFromOption = Annotated[float | None, _data(help="Events with a smaller weight are not positive.")]
CleanOption = Annotated[list[str], _data(metavar="RULE=VALUE", help="A cleaning rule: min_user_events=5.")]
StrictOption = Annotated[bool, _data("--strict", help="A bad row is an error.")]
RelationOption = Annotated[list[str], _data(metavar="NAME=FILE", help="Edges between users; item:NAME= between items.")]
SplitOption = Annotated[
    str | None,
    _data(
        help="Hold out events for testing: random, leave-last, by-time, cold-items, cold-users or column:NAME, "
        "with options as in random:valid=0.1,test=0.2,seed=0. Without it, all events are fitted on."
    ),
]
TextOption = Annotated[list[str], _media("NAME=COLUMN[,COLUMN]", help="Text columns.")]
ImageOption = Annotated[list[str], _media("NAME=COLUMN", help="A column of picture paths.")]
AudioOption = Annotated[list[str], _media("NAME=COLUMN", help="A column of sound paths.")]
VideoOption = Annotated[list[str], _media("NAME=COLUMN", help="A column of video paths.")]
VectorsOption = Annotated[
    list[str],
    _media(
        "NAME=FILE",
        help="Precomputed vectors: a table with an id column, or an .npy matrix whose row number is the id.",
    ),
]
EncoderOption = Annotated[list[str], _media("NAME=ENCODER", help="Another encoder than auto.")]
MediaRootOption = Annotated[Path | None, _media("PATH", help="Folder that relative media paths start from.")]
ConfigOption = Annotated[Path | None, _model(help="TOML file with options.")]
PresetOption = Annotated[str | None, _model(help="A published model or baseline: lightgcn, vbpr, …")]
SetOption = Annotated[list[str], _model("--set", metavar="OPTION=VALUE", help="A single option: epochs=20.")]
SeedOption = Annotated[int | None, _model(help="Fixes everything random.")]
DeviceOption = Annotated[str | None, _model(help="auto, cpu or cuda.")]


def read_parts(
    interactions: str | None,
    dataset: str | None,
    *,
    items: str | None,
    users: str | None,
    column: list[str],
    positive_from: float | None,
    clean: list[str],
    strict: bool,
    relation: list[str],
    specs: "Mapping[str, ModalitySpec]",
    media_root: Path | None,
    splitter: "Splitter | None",
) -> "tuple[Dataset, Dataset | None, Dataset | None]":
    """Reads the data that the options name, shows what they are, and splits them.

    Returns:
        (train, valid, test); the last two are ``None`` without a splitter, and valid also where it has no event.

    Raises:
        ConfigError: Neither or both of a log and a public data set, or options that a data set does not take.
        DataError: The data cannot be read.
    """
    if (interactions is None) == (dataset is None):
        raise ConfigError("give either a log or --dataset NAME")

    from gnnrec.data import catalogue
    from gnnrec.data.dataset import Dataset

    if dataset is not None:
        if any((items, users, column, clean, strict, relation, specs, media_root, positive_from is not None)):
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
    if splitter is None:
        return data, None, None
    train, valid, test = data.split(splitter)
    return train, valid if len(valid.events) else None, test
