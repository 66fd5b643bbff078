"""From raw poster JPEGs and plot texts of MovieLens 100K to a fitted recommender.

    python examples/movies_with_posters.py --data ml-100k-multimodal --output movies-output

The folder holds MovieLens 100K's own u.data and u.item, posters.zip (one JPEG per film, some films have none) and
items_tmdb.csv (plots). It comes from GroupLens and TMDB, whose terms forbid passing it on.
"""

import argparse
import os
import zipfile
from pathlib import Path

import pandas as pd

import gnnrec as gr


def read_films(data: Path, media: Path) -> pd.DataFrame:
    """Returns item_id, title, overview and poster; unpacks the posters below ``media``."""
    films = pd.read_csv(data / "u.item", sep="|", encoding="latin-1", header=None, usecols=[0, 1])
    films.columns = ["item_id", "title"]
    plots = pd.read_csv(data / "items_tmdb.csv", encoding="utf-8").drop_duplicates("movie_id")
    films["overview"] = films["item_id"].map(plots.set_index("movie_id")["overview"])
    with zipfile.ZipFile(data / "posters.zip") as archive:
        archive.extractall(media)
        present = set(archive.namelist())
    path = "posters/" + films["item_id"].astype(str) + ".jpg"
    films["poster"] = path.where(path.isin(present), None)
    return films


def main(data: Path, output: Path, epochs: int = 30, max_films: int | None = None) -> gr.Recommender:
    ratings = pd.read_csv(data / "u.data", sep="\t", names=["user_id", "item_id", "rating", "timestamp"])
    films = read_films(data, output / "media")[:max_films]
    ratings = ratings[ratings["item_id"].isin(films["item_id"])]
    dataset = gr.Dataset.from_frames(
        ratings,
        items=films,
        modalities={"poster": gr.Image("poster"), "plot": gr.Text(["title", "overview"])},
        media_root=output / "media",
    )
    print(dataset.describe())

    train, valid, test = dataset.split(gr.split.random(valid=0.1, test=0.2))
    recommender = gr.Recommender(epochs=epochs).fit(train, valid)
    for name, report in recommender.fit_report.media.items():
        print(f"{name}: {report.given} given, {report.missing} missing, {report.unreadable} unreadable")
    for stage, seconds in recommender.fit_report.stage_seconds.items():
        print(f"{stage}: {seconds:.1f} s")

    models = {"posters and plots": recommender}
    models |= {name: gr.Recommender.preset(name).fit(train, valid) for name in ("item-knn", "popularity")}
    for name, model in models.items():
        print(name, model.evaluate(test))

    titles = films.set_index("item_id")["title"]
    person = train.users.ids[0]
    print(f"recommended to user {person}:")
    for item in recommender.recommend([person], k=8)["item_id"]:
        print(" ", titles[item])
    recommender.save(output / "model")
    return recommender


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("GNNREC_DATA_DIR", ".")) / "ml-100k-multimodal"
    parser.add_argument("--data", type=Path, default=default, help="default: ml-100k-multimodal below GNNREC_DATA_DIR")
    parser.add_argument("--output", type=Path, default=Path("movies-output"))
    arguments = parser.parse_args()
    main(arguments.data, arguments.output)
