"""From a log, texts and pictures on disk to recommendations, in a shop whose customers' tastes are known."""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import gnnrec as gr


def main(folder: Path, epochs: int = 20) -> gr.Recommender:
    shop = gr.synthetic.shop(num_users=200, num_items=100, num_tastes=4)
    items = shop.write_media(folder)  # item_id, title, description, picture, …; some items lack a medium

    data = gr.Dataset.from_frames(
        shop.interactions,  # user_id, item_id, rating, timestamp
        items=items,
        modalities={"text": gr.Text(["title", "description"]), "picture": gr.Image("picture")},
        media_root=folder,
    )
    print(data.describe(), data.cleaning_report, sep="\n")

    train, valid, test = data.split(gr.split.random(valid=0.1, test=0.2))
    recommender = gr.Recommender(embedding_dim=32, epochs=epochs).fit(train, valid)
    popularity = gr.Recommender.preset("popularity").fit(train, valid)
    print(recommender.evaluate(test), popularity.evaluate(test), sep="\n")

    user = shop.users["user_id"][0]
    print(recommender.recommend([user], k=5).merge(items[["item_id", "title"]]))
    print(recommender.similar_items(items["item_id"][:1], k=3).merge(items[["item_id", "title"]]))

    recommender.save(folder / "model")
    return gr.load(folder / "model")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, help="folder for media and model; a temporary one when not given")
    given = parser.parse_args().output
    if given is not None:
        main(given)
    else:
        with TemporaryDirectory() as temporary:
            main(Path(temporary))
