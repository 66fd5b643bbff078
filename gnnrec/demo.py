"""Walks the whole road on real films and shows what comes out: quality, recommendations, a new film, pictures."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gnnrec.config import write_config
from gnnrec.data import catalogue, split
from gnnrec.data.dataset import Dataset
from gnnrec.errors import StorageError
from gnnrec.evaluation.beyond_accuracy import beyond_accuracy
from gnnrec.evaluation.protocol import Evaluation
from gnnrec.evaluation.report import plot_embeddings, plot_recall_by_degree, plot_training
from gnnrec.evaluation.significance import compare
from gnnrec.evaluation.slices import sliced
from gnnrec.export.parquet import export_parquet
from gnnrec.recommender import Recommender
from gnnrec.storage import whole_file

__all__ = ["DemoResult", "run_demo"]

# As many epochs as validation needed: after 20, recall@20 on the validation pairs rises by less than one hundredth.
_EPOCHS = 20
_SHOWN = 8  # films in each list
_WELL_KNOWN = 10  # training ratings of the films on the map: of fewer there is little to see
_INVENTED = {"title": "The Last Orbit of Kepler", "genres": "Adventure, Sci-Fi, Thriller"}


@dataclass
class DemoResult:
    """What the demo measured.

    Attributes:
        quality: Model → measure → value on the test pairs.
        seconds: Stage → wall time.
        files: What was written.
    """

    quality: dict[str, dict[str, float]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times one stage."""
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started


def run_demo(output: str | Path, dataset: Dataset | None = None, epochs: int = _EPOCHS) -> DemoResult:
    """Fits, measures and explores a recommender of films, and writes model, embeddings and pictures.

    Args:
        output: Folder to write into.
        dataset: Films with the columns ``title`` and ``genres``, and ratings; MovieLens of 2016 when not given.
        epochs: At most this many passes over the ratings.

    Raises:
        MissingPackageError: A package of the extra ``demo`` is not installed.
        StorageError: The folder cannot be written.
    """
    console, result, output = Console(), DemoResult(), Path(output)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write into {str(output)!r}: {error}") from error

    with result.stage("load and clean"):
        data = catalogue.load("movielens") if dataset is None else dataset
        train, valid, test = data.split(split.random(valid=0.1, test=0.2))
    _print_data(console, data)

    recommender = Recommender(epochs=epochs)
    recommender.fit(train, valid)
    assert recommender.fit_report is not None  # it was just fitted
    result.seconds |= recommender.fit_report.stage_seconds
    models = {"gnnrec": recommender}
    with result.stage("fit baselines"):
        models |= {name: Recommender.preset(name).fit(train, valid) for name in ("item-knn", "popularity")}
    with result.stage("evaluate"):
        evaluations = {name: model.evaluate(test) for name, model in models.items()}
        result.quality = {name: _quality(evaluation, train) for name, evaluation in evaluations.items()}
    _print_quality(console, result.quality, evaluations)

    films = _Films(data)
    with result.stage("recommend"):
        lists = recommender.recommend(data.users.ids, k=10)
    _print_person(console, recommender, films, train, test)
    with result.stage("write"):
        result.files = _write(output, recommender, films, lists)
        result.files += _draw(output, recommender, films, evaluations, train, test)
    with result.stage("add a film"):
        _print_new_film(console, recommender, films, train)

    console.print(_table("Seconds", [*result.seconds.items(), ("all", sum(result.seconds.values()))], "{:.1f}"))
    console.print("Written: " + ", ".join(str(file) for file in result.files), soft_wrap=True)
    return result


class _Films:
    """Titles and genres by id, and who likes what.

    Args:
        data: The films and their ratings.
    """

    def __init__(self, data: Dataset) -> None:
        assert data.item_table is not None  # the demo's data have titles
        table = data.item_table.set_index(pd.Index(data.items.ids))
        self.title = table["title"].fillna("(no title)")
        self.genres = table["genres"].fillna("")

    def liked(self, train: Dataset, user: object) -> list[str]:
        """Returns the titles that a user rated highest in training, best first."""
        events = train.events
        rows = np.flatnonzero(events.user_index == train.users.index_of([user])[0])
        stars = np.ones(len(rows)) if events.weight is None else events.weight[rows]
        best = rows[np.argsort(-stars, kind="stable")[:_SHOWN]]
        return self.title.loc[train.items.ids_of(events.item_index[best])].tolist()


def _quality(evaluation: Evaluation, train: Dataset) -> dict[str, float]:
    lists = beyond_accuracy(evaluation, train.interaction_matrix())
    return {**evaluation.values, **{name: lists[name] for name in ("coverage", "novelty", "personalization")}}


def _print_data(console: Console, data: Dataset) -> None:
    console.print(_table("Films and ratings", data.describe().rows()))
    if data.cleaning_report is not None:
        console.print(f"Cleaning: {data.cleaning_report}\n", highlight=False)


def _print_quality(
    console: Console, quality: Mapping[str, Mapping[str, float]], evaluations: Mapping[str, Evaluation]
) -> None:
    measures = list(quality["gnnrec"])
    table = Table("model", *measures, title="Quality on held-out ratings", title_justify="left", title_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, values in quality.items():
        table.add_row(name, *(f"{values[measure]:.4f}" for measure in measures))
    console.print(table)
    for baseline in list(quality)[1:]:
        difference = compare(evaluations["gnnrec"], evaluations[baseline])
        console.print(f"recall@20 against {baseline}: {difference}", highlight=False, soft_wrap=True)
    console.print(
        "coverage: share of the films in any list; novelty: bits; personalization: unlikeness of lists\n",
        soft_wrap=True,
    )


def _print_person(console: Console, recommender: Recommender, films: _Films, train: Dataset, test: Dataset) -> None:
    """Shows what one person liked beside what is recommended; held-out films among these carry a star."""
    events = np.bincount(train.events.user_index, minlength=train.num_users)
    position = int(np.argsort(events, kind="stable")[train.num_users // 2])
    user = train.users.ids_of(np.array([position]))[0]
    answer = recommender.recommend([user], k=_SHOWN)
    held_out = set(test.items.ids_of(test.events.item_index[test.events.user_index == position]).tolist())
    recommended = [films.title[item] + (" *" if item in held_out else "") for item in answer["item_id"].tolist()]
    console.print(
        _side_by_side(
            f"User {user}, with a history of middling length",
            "liked most",
            films.liked(train, user),
            "recommended (* held out: really watched)",
            recommended,
        )
    )


def _print_new_film(console: Console, recommender: Recommender, films: _Films, train: Dataset) -> None:
    """Adds a film that does not exist, and shows its neighbours and its audience."""
    new = int(recommender.state.items.ids.max()) + 1
    recommender.add_items(pd.DataFrame([{"item_id": new, **_INVENTED}]))
    similar = recommender.similar_items([new], k=_SHOWN)["item_id"]
    neighbours = [f"{films.title[item]}: {films.genres[item]}" for item in similar]

    num_items = len(recommender.state.items)
    everything = recommender.recommend(train.users.ids, k=num_items, exclude_seen=False)
    audience = everything[everything["item_id"] == new].sort_values("rank", kind="stable")
    people = [
        f"user {user} (rank {rank:,} of {num_items:,}): " + "; ".join(films.liked(train, user)[:2])
        for user, rank in audience[["user_id", "rank"]].head(_SHOWN).itertuples(index=False)
    ]
    title = f'An invented new film: "{_INVENTED["title"]}" ({_INVENTED["genres"]}). Nobody has seen it.'
    console.print(
        _side_by_side(title, "most similar films", neighbours, "first in its audience, and what they like", people)
    )
    genre = _INVENTED["genres"].split(", ")[1]
    share = _share_of(genre, films, train)
    first = train.users.find(audience["user_id"].head(max(1, len(audience) // 10)).to_numpy())
    console.print(
        f"{genre} makes up {share[first].mean():.0%} of the histories of the tenth of the people for whom it ranks "
        f"highest, and {share.mean():.0%} of all histories.\n",
        highlight=False,
        soft_wrap=True,
    )


def _share_of(genre: str, films: _Films, train: Dataset) -> NDArray[np.float64]:
    """Returns the share of a genre in the history of each user ``[num_users]``."""
    of_genre = films.genres.loc[train.items.ids].str.contains(genre, regex=False).to_numpy(dtype=np.float64)
    history = train.interaction_matrix()
    return np.asarray((history @ of_genre) / np.maximum(np.diff(history.indptr), 1))


def _write(output: Path, recommender: Recommender, films: _Films, lists: pd.DataFrame) -> list[Path]:
    recommender.save(output / "model")
    files = export_parquet(recommender.embeddings("user"), recommender.embeddings("item"), output / "embeddings")
    titled = lists.assign(title=lists["item_id"].map(films.title))
    with whole_file(output / "config.toml") as file:
        write_config(recommender.config, file)
    with whole_file(output / "recommendations.csv") as file:
        titled.to_csv(file, index=False)
    return [output / "model", output / "config.toml", *files, output / "recommendations.csv"]


def _draw(
    output: Path,
    recommender: Recommender,
    films: _Films,
    evaluations: Mapping[str, Evaluation],
    train: Dataset,
    test: Dataset,
) -> list[Path]:
    files = [output / name for name in ("training.png", "recall_by_degree.png", "embeddings.png")]
    plot_training(recommender.state.history, files[0])
    pairs = (test.interaction_matrix(), train.interaction_matrix())
    plot_recall_by_degree({name: sliced(evaluation, *pairs) for name, evaluation in evaluations.items()}, files[1])
    ids, vectors = recommender.embeddings("item")
    known = recommender.state.popularity >= _WELL_KNOWN
    first_genre = films.genres.loc[ids[known]].str.partition(",")[0].replace("", None)
    title = f"Films with {_WELL_KNOWN} or more ratings, by first genre"
    plot_embeddings(vectors[known], first_genre.tolist(), files[2], title=title)
    return files


def _table(title: str, rows: Sequence[tuple[str, object]], form: str = "{}") -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for what, value in rows:
        table.add_row(what, form.format(value))
    return table


def _side_by_side(title: str, left: str, left_rows: list[str], right: str, right_rows: list[str]) -> Table:
    table = Table(left, right, title=escape(title), title_justify="left", title_style="bold")
    length = max(len(left_rows), len(right_rows))
    for number in range(length):
        cells = [rows[number] if number < len(rows) else "" for rows in (left_rows, right_rows)]
        table.add_row(*map(escape, cells))
    return table
