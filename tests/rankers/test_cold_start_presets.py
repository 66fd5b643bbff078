"""What the references for new items are there for: items that nobody has chosen reach the people of their taste."""

from dataclasses import replace

import numpy as np
import pytest

import gnnrec as gr
from gnnrec.graph.build import build_graph
from gnnrec.modalities.features import Features
from gnnrec.presets import PRESETS
from gnnrec.rankers.base import RankingTask
from gnnrec.rankers.neural import NeuralRanker
from gnnrec.rankers.neural_config import NeuralConfig
from gnnrec.testing import PlantedGraph, planted_graph


@pytest.fixture(scope="module")
def shop() -> PlantedGraph:
    """200 people and 160 items of 4 tastes; 16 items are new."""
    return planted_graph(200, 160, num_new=16)


def fit(name: str, planted: PlantedGraph, features: dict[str, Features], **options: object) -> NeuralRanker:
    preset = PRESETS[name].with_options({"embedding_dim": 16, "epochs": 12, "learning_rate": 0.02, **options})
    graph = build_graph(planted.train, features, config=preset.graph)
    config = NeuralConfig(preset.model, preset.training, preset.graph.similar_items)
    return NeuralRanker.fit(RankingTask(graph, planted.train), config)[0]


def purity_of_new_items(ranker: NeuralRanker, planted: PlantedGraph) -> float:
    """Share of each user's four best new items that match the user's taste; chance is .25."""
    scores = ranker.score(np.arange(len(planted.user_taste))).numpy()[:, planted.new_items]
    best = np.argsort(-scores, axis=1)[:, :4]
    return float((planted.item_taste[planted.new_items][best] == planted.user_taste[:, None]).mean())


@pytest.mark.parametrize("name", ["dropoutnet", "clcrec", "generative"])
def test_new_items_reach_the_right_users_by_their_content(name: str, shop: PlantedGraph) -> None:
    assert purity_of_new_items(fit(name, shop, shop.features), shop) > 0.6
    content = shop.features["content"]
    noise = np.random.default_rng(0).normal(size=content.values.shape).astype(np.float32)
    assert purity_of_new_items(fit(name, shop, {"content": replace(content, values=noise)}), shop) < 0.4


@pytest.mark.parametrize("name", ["clcrec", "generative"])
def test_the_auxiliary_loss_is_what_teaches_the_encoder(name: str, shop: PlantedGraph) -> None:
    shown = {"identity_dropout": 0.0} if name == "clcrec" else {}
    untaught = fit(name, shop, shop.features, **shown, auxiliary={})
    assert purity_of_new_items(untaught, shop) < 0.5


@pytest.mark.parametrize("preset", ["gnnrec", "freedom", "pgl"])
def test_new_items_do_not_depend_on_how_they_come(preset):
    shop = gr.synthetic.shop(num_users=60, num_items=40, seed=0)
    look = shop.vectors()
    data = gr.Dataset.from_frames(shop.interactions, modalities={"look": look})
    known = data.without(items=np.isin(data.items.ids, look.ids[35:]))
    once, singly = (
        gr.Recommender.preset(preset, embedding_dim=8, epochs=2).fit(known, progress=False) for _ in range(2)
    )
    once.add_items(vectors={"look": gr.Vectors(look.matrix[35:], look.ids[35:])})
    for row in range(35, 40):
        singly.add_items(vectors={"look": gr.Vectors(look.matrix[row : row + 1], look.ids[row : row + 1])})
    people = np.arange(len(once.state.users))
    np.testing.assert_allclose(once.state.ranker.score(people), singly.state.ranker.score(people), atol=1e-5)
