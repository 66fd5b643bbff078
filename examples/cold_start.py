"""Items that nobody has chosen yet and people without an id: how well are they served, and how are they added?"""

import pandas as pd

import gnnrec as gr


def main(epochs: int = 20) -> dict[str, float]:
    shop = gr.synthetic.shop(num_users=300, num_items=160, num_tastes=4)
    data = gr.Dataset.from_frames(
        shop.interactions, items=shop.items, modalities={"text": gr.Text(["title", "description"])}
    )

    # A fifth of the items leave training with all their events and texts; evaluate attaches them as add_items does.
    train, valid, test = data.split(gr.split.cold_items(valid=0.1, test=0.2))
    recommender = gr.Recommender(embedding_dim=32, epochs=epochs).fit(train, valid)
    among_new = recommender.evaluate(test, metrics=["recall@5"], candidates="cold").values["recall@5"]
    # As if the texts said nothing: five places drawn blindly among the new items.
    by_chance = 5 / (data.num_items - train.num_items)
    print(f"recall@5 among items that training never saw: {among_new:.3f}, by chance {by_chance:.3f}")

    new = {"item_id": "new", "title": "coral reef captain", "description": "a dolphin follows the tide to the harbour"}
    recommender.add_items(pd.DataFrame([new]))
    print(recommender.similar_items(["new"], k=3).merge(shop.items[["item_id", "title"]]))

    liked = train.items.ids[:2].tolist()
    print(recommender.recommend_for({"somebody": liked}, k=3))
    return {"recall@5": among_new, "by chance": by_chance}


if __name__ == "__main__":
    main()
