"""A sentence finds films by what their plots say and their posters show; a poster finds films; both together do, too.

    python examples/search_movies.py --data ml-100k-multimodal --output search-output

prints the titles and writes the posters of what was found to ``found.png``. The folder is that of
``movies_with_posters.py``.
"""

import argparse
import os
from pathlib import Path

import pandas as pd
from movies_with_posters import read_films
from PIL import Image, ImageDraw

import gnnrec as gr

POSTER = (92, 138)  # pixels
LINE = 16


def fit(data: Path, films: pd.DataFrame, media: Path) -> gr.Recommender:
    """Encodes plots and posters and learns the space that both share; the ranker itself needs no training."""
    ratings = pd.read_csv(data / "u.data", sep="\t", names=["user_id", "item_id", "rating", "timestamp"])
    dataset = gr.Dataset.from_frames(
        ratings[ratings["item_id"].isin(films["item_id"])],
        items=films,
        # Posters are tall: seen whole, not by their middle squares, they tell more.
        modalities={
            "plot": gr.Text(["title", "overview"]),
            "poster": gr.Image("poster", encoder="efficientnet-lite0-whole"),
        },
        media_root=media,
    )
    return gr.Recommender.preset("content-knn").fit(dataset)


def contact_sheet(rows: dict[str, list[Path]]) -> Image.Image:
    """Draws one row of posters below each heading."""
    height = POSTER[1] + LINE
    sheet = Image.new("RGB", (max(map(len, rows.values())) * POSTER[0], len(rows) * height), "white")
    for number, (heading, posters) in enumerate(rows.items()):
        ImageDraw.Draw(sheet).text((2, number * height + 2), heading, fill="black")
        for place, poster in enumerate(posters):
            with Image.open(poster) as picture:
                sheet.paste(picture.convert("RGB").resize(POSTER), (place * POSTER[0], number * height + LINE))
    return sheet


def main(data: Path, output: Path, max_films: int | None = None, k: int = 8) -> dict[str, list[int]]:
    media = output / "media"
    films = read_films(data, media)[:max_films]
    recommender = fit(data, films, media)

    space_opera = media / films.set_index("item_id")["poster"][50]  # Star Wars
    found = {}
    for sentence in (
        "rebels fight an evil empire in outer space",
        "toys that are alive when nobody looks",
        "a detective hunts a serial killer",
        "two people fall in love in New York",
    ):
        found[f"plot: {sentence}"] = recommender.search(sentence, k=k, within="plot")
        found[f"poster: {sentence}"] = recommender.search(sentence, k=k, within="poster")
    found["the poster of Star Wars"] = recommender.search(image=space_opera, k=k)
    found["posters like that of Star Wars"] = recommender.search(image=space_opera, k=k, within="poster")
    funny = {"text": "a funny comedy", "image": space_opera, "k": k}
    found["that poster, .3, and 'a funny comedy', .7"] = recommender.search(
        **funny, weights={"text": 0.7, "image": 0.3}
    )
    found["that poster, .7, and 'a funny comedy', .3"] = recommender.search(
        **funny, weights={"text": 0.3, "image": 0.7}
    )
    found["both, and person 1, a third each"] = recommender.search(**funny, user=1)

    table = films.set_index("item_id")
    for heading, answer in found.items():
        print(heading, *table["title"][answer["item_id"]], sep="\n  ")
    rows = {
        heading: [media / poster for poster in table["poster"][answer["item_id"]].dropna()]
        for heading, answer in found.items()
    }
    contact_sheet(rows).save(output / "found.png")
    return {heading: answer["item_id"].tolist() for heading, answer in found.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("GNNREC_DATA_DIR", ".")) / "ml-100k-multimodal"
    parser.add_argument("--data", type=Path, default=default, help="default: ml-100k-multimodal below GNNREC_DATA_DIR")
    parser.add_argument("--output", type=Path, default=Path("search-output"))
    arguments = parser.parse_args()
    main(arguments.data, arguments.output)
