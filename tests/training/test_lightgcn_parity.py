"""The preset ``lightgcn`` trains as PyG's LightGCN does: the same losses and the same embeddings, step by step."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch_geometric.nn.models import LightGCN

from gnnrec.nn.architectures import build_model
from gnnrec.nn.message_graph import MessageGraph
from gnnrec.presets import PRESETS
from gnnrec.training.loop import train
from gnnrec.training.objective import Objective

EPOCHS = 4
PRESET = PRESETS["lightgcn"]


def test_the_same_batches_give_the_same_model(graph: MessageGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[Tensor, Tensor, Tensor]] = []
    call = Objective.__call__

    def recorded(self, embeddings, step, users):
        steps.append((step.user_index, step.item_index, step.negative_index[:, 0]))
        return call(self, embeddings, step, users)

    monkeypatch.setattr(Objective, "__call__", recorded)
    config = replace(PRESET.training, epochs=EPOCHS, auxiliary={"regularisation": 1e-2}, learning_rate=0.01)
    torch.manual_seed(3)
    ours = build_model(graph.shape, replace(PRESET.model, embedding_dim=8))
    theirs = LightGCN(graph.num_users + graph.num_items, 8, num_layers=3)
    with torch.no_grad():
        theirs.embedding.weight.copy_(ours(graph).layer_zero)
    result = train(ours, graph, config, seed=0)

    losses = replay(theirs, graph, steps, learning_rate=0.01, decay=1e-2)
    assert len(steps) % EPOCHS == 0
    for record, chunk in zip(result.history, losses.chunk(EPOCHS), strict=True):
        sizes = torch.tensor([len(user) for user, _, _ in steps[: len(chunk)]])
        assert record["loss"] == pytest.approx(((chunk * sizes).sum() / sizes.sum()).item(), rel=1e-5)
    with torch.no_grad():
        out = ours(graph)
        expected = theirs.get_embedding(both_ways(graph))
    torch.testing.assert_close(torch.cat([out.user, out.item]), expected, atol=1e-5, rtol=1e-4)
    assert result.history[-1]["loss"] < 0.97 * result.history[0]["loss"]


def replay(
    model: LightGCN, graph: MessageGraph, steps: list[tuple[Tensor, Tensor, Tensor]], learning_rate: float, decay: float
) -> Tensor:
    """Trains PyG's model on recorded batches; returns the loss of each."""
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    losses = []
    for user, item, negative in steps:
        positive, negative = (torch.stack([user, graph.num_users + other]) for other in (item, negative))
        score = model(both_ways(graph), torch.cat([positive, negative], dim=1))
        nodes = torch.cat([user, positive[1], negative[1]])
        loss = model.recommendation_loss(*score.chunk(2), node_id=nodes, lambda_reg=decay / 2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return torch.tensor(losses)


def both_ways(graph: MessageGraph) -> Tensor:
    user, item = graph.edge_index
    forth = torch.stack([user, item + graph.num_users])
    return torch.cat([forth, forth.flip(0)], dim=1)
