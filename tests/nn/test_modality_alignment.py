from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

import gnnrec as gr
from gnnrec.errors import ConfigError
from gnnrec.nn.alignment import OBJECTIVES, AlignedRows, WeightedObjectives
from gnnrec.nn.fusion.blocks import Blocks
from gnnrec.nn.message_graph import MessageGraph
from gnnrec.nn.model_config import ModelConfig
from gnnrec.nn.multimodal import MultimodalGraphModel

MakeGraph = Callable[..., MessageGraph]
NUM_ITEMS = 120


def with_sound(graph: MessageGraph) -> MessageGraph:
    """Adds a second modality, which every third item lacks, and labels."""
    owner = torch.tensor([item for item in range(graph.num_items) if item % 3])
    return replace(
        graph,
        x_dict={**graph.x_dict, "sound": torch.randn(len(owner), 5, generator=torch.Generator().manual_seed(0))},
        owner_dict={**graph.owner_dict, "sound": owner},
        described={**graph.described, "sound": "item"},
        labels={"shelf": torch.arange(graph.num_items) % 4},
    )


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_every_objective_teaches_the_projections(message_graph: MakeGraph, name: str) -> None:
    graph = with_sound(message_graph())
    torch.manual_seed(0)
    model = MultimodalGraphModel(graph.shape, ModelConfig(embedding_dim=9, modality_alignment={name: 0.5})).eval()
    users, items = graph.edge_index[:, graph.edge_index[1] > 4]
    embeddings = model(graph)
    loss = model.alignment_loss(embeddings, graph, users, items)
    assert loss is not None
    loss.backward()
    assert any(weight.grad is not None and weight.grad.any() for weight in model.items.alignment.parameters())
    assert model.users.identity.weight.grad is None  # people teach, and do not follow

    chosen = torch.unique(items)
    blocks = Blocks.of(embeddings.item_rows.of(chosen), 2)
    same = WeightedObjectives({name: 0.5}, 2, 8, graph.shape.tasks).eval()
    same.load_state_dict(model.alignment_objectives.state_dict())
    by_hand = same(
        AlignedRows(
            blocks.x,
            blocks.filled,
            embeddings.user_mixed[torch.unique(users)],
            {"shelf": graph.labels["shelf"][chosen]},
        )
    )
    torch.testing.assert_close(loss, by_hand)


def test_nothing_is_asked_by_default(message_graph: MakeGraph) -> None:
    graph = with_sound(message_graph())
    model = MultimodalGraphModel(graph.shape, ModelConfig(embedding_dim=9))
    assert model.alignment_loss(model(graph), graph, *graph.edge_index) is None


def test_labels_and_media_are_asked_for_by_name(message_graph: MakeGraph) -> None:
    graph = replace(with_sound(message_graph()), labels={})
    with pytest.raises(ConfigError, match="'multi-task' predicts labels; name columns in the option 'labels'"):
        MultimodalGraphModel(graph.shape, ModelConfig(modality_alignment={"multi-task": 1.0}))
    with pytest.raises(ConfigError, match="no alignment objective 'infoncee'; did you mean 'infonce'"):
        ModelConfig(modality_alignment={"infoncee": 1.0})
    with pytest.raises(ConfigError, match="'modality_alignment' needs"):
        ModelConfig(modality_alignment={"infonce": 1.0}, content="none")


@pytest.fixture(scope="module")
def shop() -> gr.Dataset:
    """Two media of each item show one hidden taste through different random maps."""
    rng = np.random.default_rng(0)
    item, user = rng.normal(size=(NUM_ITEMS, 6)), rng.normal(size=(80, 6))
    liked = np.argsort(-(user @ item.T), axis=1)[:, :15]
    log = pd.DataFrame({"user_id": np.repeat(np.arange(80), 15), "item_id": liked.ravel()})
    media = {
        name: gr.Vectors(item @ rng.normal(size=(6, width)), np.arange(NUM_ITEMS))
        for name, width in (("words", 12), ("look", 20))
    }
    table = pd.DataFrame({"item_id": np.arange(NUM_ITEMS), "shelf": np.where(item[:, 0] > 0, "left", "right")})
    return gr.Dataset.from_frames(log, items=table, modalities=media)


@torch.no_grad()
def matched_cosine(recommender: gr.Recommender) -> float:
    model = recommender.state.ranker.model
    words, look = (
        F.normalize(
            model.items.alignment({name: torch.from_numpy(np.array(recommender.state.features[name].values))})[name]
        )
        for name in ("words", "look")
    )
    cosine = words @ look.T
    return float(cosine.diagonal().mean() - cosine.mean())


def test_training_holds_the_modalities_together(shop: gr.Dataset) -> None:
    options = {"epochs": 5, "embedding_dim": 17, "similar_items": 0}
    apart, together = (
        gr.Recommender(**options, modality_alignment=weights).fit(shop, progress=False)
        for weights in ({}, {"infonce": 1.0})
    )
    assert matched_cosine(together) > 0.3 + matched_cosine(apart)
    assert all("modalities" in record for record in together.state.history)
    assert "modalities" not in apart.state.history[0]


def test_labels_come_from_the_item_table(shop: gr.Dataset) -> None:
    fitted = gr.Recommender(epochs=3, embedding_dim=17, labels=["shelf"], modality_alignment={"multi-task": 1.0})
    fitted.fit(shop, progress=False)
    assert fitted.state.history[-1]["modalities"] < fitted.state.history[0]["modalities"] < 0.8
    assert fitted.state.ranker.shape.tasks == {"shelf": 2}


def test_one_modality_alone_has_nothing_to_be_aligned_with(
    message_graph: MakeGraph, caplog: pytest.LogCaptureFixture
) -> None:
    model = MultimodalGraphModel(message_graph().shape, ModelConfig(modality_alignment={"infonce": 0.5}))
    assert model.alignment_objectives is None
    assert "nothing is aligned" in caplog.text
