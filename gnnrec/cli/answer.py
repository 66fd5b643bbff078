"""``gnnrec evaluate``, ``recommend``, ``search`` and ``export``: what a fitted recommender answers."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gnnrec.cli.data import ColumnOption, RelationOption, VectorsOption
from gnnrec.cli.options import parse_modalities, parse_numbers, parse_pairs, parse_relations
from gnnrec.cli.processes import DistributedOption, part, runs_elsewhere
from gnnrec.cli.tables import check_output, print_frame, write_frame
from gnnrec.config import suggest
from gnnrec.errors import ConfigError, DataError

if TYPE_CHECKING:
    from gnnrec.data.schema import ModalitySpec
    from gnnrec.recommender import Recommender

__all__ = ["evaluate", "export", "recommend", "search"]

_Model = Annotated[Path, typer.Argument(help="Folder that `gnnrec fit` or `Recommender.save` wrote.")]
_NOTHING: list[str] = []
_NO_PATHS: list[Path] = []


def evaluate(
    model: _Model,
    interactions: Annotated[str, typer.Option(help="Held-out events: a path or glob.")],
    items: Annotated[str | None, typer.Option(help="Table of items, with the media of unseen ones.")] = None,
    media_root: Annotated[Path | None, typer.Option(help="Folder that relative media paths start from.")] = None,
    history: Annotated[str | None, typer.Option(help="Earlier events of users that training never saw.")] = None,
    users: Annotated[str | None, typer.Option(help="Table of users, with the media of unseen ones.")] = None,
    vectors: VectorsOption = _NOTHING,
    relation: RelationOption = _NOTHING,
    column: ColumnOption = _NOTHING,
    positive_from: Annotated[
        float | None,
        typer.Option(help="Events with a smaller weight are not positive; that of the fit when not given."),
    ] = None,
    metrics: Annotated[str, typer.Option(help="Names, with commas between.")] = "recall@20,ndcg@20",
    mask: Annotated[str, typer.Option(help="Pairs hidden from the rankings: train+valid or train.")] = "train+valid",
    candidates: Annotated[str, typer.Option(help="Rank all items, or only cold ones.")] = "all",
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="CSV, TSV, Parquet or JSON lines file, or -.")
    ] = None,
) -> None:
    """Measure the ranking of all items against held-out events.

    For instance `gnnrec evaluate run --interactions run/test.parquet --metrics recall@20,ndcg@20,mrr@10`
    """
    from gnnrec.data.build import build_dataset
    from gnnrec.data.cleaning import Cleaning
    from gnnrec.data.dataset import Dataset
    from gnnrec.data.frames import read_frame
    from gnnrec.data.schema import Text, Vectors, spec_columns

    check_output(output)
    recommender = _load(model)
    specs = recommender.state.catalogue.modalities
    tables = {"item": items, "user": users}
    given = {of: set(read_frame(table, f"--{of}s")[0].columns) for of, table in tables.items() if table is not None}
    media: dict[str, ModalitySpec] = {
        name: spec
        for name, spec in specs.items()
        if not isinstance(spec, Vectors) and not given.get(spec.of, set()).isdisjoint(spec_columns(spec))
    }
    if media_root is not None:
        media = {
            name: spec if isinstance(spec, Text | Vectors) else replace(spec, media_root=media_root)
            for name, spec in media.items()
        }
    text_ids = recommender.state.catalogue.text_ids
    media |= _of_the_model(recommender, parse_modalities({"vectors": vectors}, text_ids=text_ids))

    def read(log: str, **tables: Any) -> Dataset:
        names = parse_pairs(column, "--column")
        return build_dataset(
            log, cleaning=Cleaning(), columns=names, positive_from=positive_from, text_ids=text_ids, **tables
        )

    test = read(
        interactions,
        items=items,
        users=users,
        modalities=media or None,
        relations=parse_relations(relation),
        media_root=media_root,
    )
    evaluation = recommender.evaluate(
        test,
        metrics=[name.strip() for name in metrics.split(",") if name.strip()],
        mask=mask,  # type: ignore[arg-type]  # checked by evaluate
        candidates=candidates,  # type: ignore[arg-type]
        history=read(history) if history is not None else None,
    )
    _give(f"{evaluation.num_users:,} users", evaluation.to_frame(), output)


def recommend(
    model: _Model,
    user: Annotated[list[str], typer.Option("--user", "-u", help="Id of a user; may be repeated.")] = _NOTHING,
    users: Annotated[str | None, typer.Option(help="Table with a column user_id; without both, all users.")] = None,
    k: Annotated[int, typer.Option("-k", help="Items per user.")] = 10,
    include_seen: Annotated[bool, typer.Option("--include-seen", help="Also what the user had already.")] = False,
    on_unknown: Annotated[str, typer.Option(help="For unknown users: raise, skip or popular.")] = "raise",
    new_item_share: Annotated[
        float | None, typer.Option(help="Share of the places that is kept for items without interactions.")
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="CSV, TSV, Parquet or JSON lines file, or - for CSV.")
    ] = None,
    distributed: DistributedOption = None,
) -> None:
    """Rank items for users.

    With --distributed each process ranks for its part of the users, in their order, and writes a file of its own:
    `lists-0-of-4.parquet` and so on.

    For instance

    `gnnrec recommend run --user 42 -k 5`

    `gnnrec recommend run --users people.csv -k 20 --output lists.parquet`

    `gnnrec recommend run -k 20 --output lists.parquet --distributed 4`
    """
    check_output(output)
    if distributed is not None and output in (None, "-"):
        raise ConfigError("--distributed needs --output FILE, of which every process writes a part")
    if runs_elsewhere(distributed):
        return
    recommender = _load(model)
    answer = recommender.recommend(
        _own_share(_user_ids(recommender, user, users)),
        k,
        exclude_seen=not include_seen,
        on_unknown=on_unknown,  # type: ignore[arg-type]  # checked by recommend
        new_item_share=new_item_share,
    )
    _give("Recommendations", answer, output if distributed is None else _own_file(str(output)))


def search(
    model: _Model,
    text: Annotated[list[str], typer.Option("--text", "-t", help="Words; may be repeated.")] = _NOTHING,
    image: Annotated[list[Path], typer.Option(help="A picture file; may be repeated.")] = _NO_PATHS,
    audio: Annotated[list[Path], typer.Option(help="A sound file; may be repeated.")] = _NO_PATHS,
    k: Annotated[int, typer.Option("-k", help="Items per query.")] = 10,
    within: Annotated[str | None, typer.Option(help="The modality to match; without it, the whole item.")] = None,
    weight: Annotated[
        list[str], typer.Option(help="text=NUMBER, image=NUMBER, audio=NUMBER or user=NUMBER; may be repeated.")
    ] = _NOTHING,
    user: Annotated[str | None, typer.Option("--user", "-u", help="Id of a user whose taste counts, too.")] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="CSV, TSV, Parquet or JSON lines file, or - for CSV.")
    ] = None,
) -> None:
    """Find the items that match words, a picture, a sound, or several of these at once.

    For instance

    `gnnrec search run --text "a farm boy saves a galaxy" -k 5`

    `gnnrec search run --text comedy --image poster.jpg --weight text=0.7 --weight image=0.3 --within poster`
    """
    check_output(output)
    recommender = _load(model)
    several = max(len(text), len(image), len(audio)) > 1

    def query(given: list[Any]) -> Any:
        return given[0] if several and len(given) == 1 else given or None  # one beside a list stands for every row

    answer = recommender.search(
        query(text),
        query(image),
        query(audio),
        k,
        within=within,
        weights=parse_numbers(weight, "--weight") or None,
        user=None if user is None else _in_kind_of(recommender, [user])[0],
    )
    _give("Found", answer, output)


def export(
    model: _Model,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write into.")],
    format_: Annotated[str, typer.Option("--format", help="Formats, with commas between: parquet.")] = "parquet",
) -> None:
    """Write the embeddings of users and items for other programs.

    For instance `gnnrec export run --output vectors --format parquet`
    """
    formats = [name.strip() for name in format_.split(",") if name.strip()]
    for file in _load(model).export(output, formats):
        typer.echo(str(file))


def _load(model: Path) -> "Recommender":
    from gnnrec.recommender import load

    return load(model / "model" if (model / "model").is_dir() else model)


def _of_the_model(recommender: "Recommender", given: dict[str, "ModalitySpec"]) -> dict[str, "ModalitySpec"]:
    """Refuses modalities that the model does not know."""
    known = list(recommender.state.features)
    for name in given:
        if name not in known:
            raise ConfigError(
                f"--vectors: the model knows no modality {name!r}{suggest(name, known)} ({', '.join(known) or 'none'})"
            )
    return given


def _user_ids(recommender: "Recommender", single: list[str], table: str | None) -> Any:
    """Returns the ids that were asked for, in the kind of the fitted ones; all users when none were."""
    from gnnrec.data.frames import read_frame
    from gnnrec.data.log import required_column
    from gnnrec.data.schema import COLUMN_ALIASES

    if single and table is not None:
        raise ConfigError("--user and --users exclude each other")
    known = recommender.state.users.ids
    if single:
        return _in_kind_of(recommender, single)
    if table is None:
        return known
    frame, _ = read_frame(table, "--users", texts=() if known.dtype.kind == "i" else COLUMN_ALIASES["user_id"])
    ids = frame[required_column(frame, "user_id", "--users")]
    return ids if known.dtype.kind == "i" else ids.astype(str)


def _own_share(ids: Any) -> Any:
    """Returns the consecutive ids that are this process's to answer; all of them in one that was started alone."""
    return ids[len(ids) * part.rank // part.size : len(ids) * (part.rank + 1) // part.size]


def _own_file(output: str) -> str:
    """Returns the name of the file that this process writes; in their order they hold what one process would write."""
    path, digits = Path(output), len(str(part.size - 1))
    return str(path.with_name(f"{path.stem}-{part.rank:0{digits}d}-of-{part.size}{path.suffix}"))


def _in_kind_of(recommender: "Recommender", words: list[str]) -> list[Any]:
    """Returns ids of users as the model has them, text or whole numbers."""
    if recommender.state.users.ids.dtype.kind != "i":
        return words
    try:
        return [int(word) for word in words]
    except ValueError as error:
        raise DataError(f"--user: the ids of this model are integers ({error})") from error


def _give(title: str, frame: Any, output: str | None) -> None:
    if output is None:
        print_frame(title, frame)
    else:
        write_frame(frame, output)
