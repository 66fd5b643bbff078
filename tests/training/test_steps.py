"""What a step is given beside its pairs."""

import pytest
import torch

from gnnrec.nn.message_graph import MessageGraph
from gnnrec.training.steps import Step


def test_a_share_of_the_items_is_hidden(graph: MessageGraph) -> None:
    step = Step(graph, torch.arange(graph.edge_index.shape[1]), *graph.edge_index)
    generator = torch.Generator().manual_seed(0)
    drawn = [step.hiding(0.1, generator).hidden_items for _ in range(300)]
    hidden = torch.stack([one for one in drawn if one is not None])
    assert hidden.shape == (300, graph.num_items)
    assert hidden.float().mean().item() == pytest.approx(0.1, abs=0.02)
    assert step.hiding(0.0, generator) is step
