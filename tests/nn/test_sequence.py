from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from gnnrec.errors import ConfigError
from gnnrec.nn.message_graph import MessageGraph
from gnnrec.nn.model_config import ModelConfig
from gnnrec.nn.multimodal import MultimodalGraphModel
from gnnrec.nn.sequence import SEQUENCE_ENCODERS, GRUEncoder, Histories
from gnnrec.training.config import TrainingConfig
from gnnrec.training.loop import train

# User 1 chose 7, 5, 9 and then 6; user 0 chose 4; user 2 nothing.
EDGES = torch.tensor([[1, 1, 0, 1, 1], [5, 6, 4, 7, 9]])
PLACE = torch.tensor([2.0, 8.0, 1.0, 1.0, 3.0])
HISTORIES = Histories.from_edges(EDGES, PLACE, 3)
ENCODERS = sorted(SEQUENCE_ENCODERS)


def test_histories_are_in_order() -> None:
    assert HISTORIES.last(torch.tensor([1, 2, 0]), 10).tolist() == [[7, 5, 9, 6], [-1] * 4, [4, -1, -1, -1]]
    assert HISTORIES.last(torch.tensor([1, 0]), 2).tolist() == [[9, 6], [4, -1]]
    assert HISTORIES.last(torch.tensor([2]), 5).shape == (1, 0)


def test_an_edge_is_preceded_by_what_came_before_it() -> None:
    before = HISTORIES.before(EDGES[0], torch.arange(5), 2)
    assert before.tolist() == [[7, -1], [5, 9], [-1, -1], [-1, -1], [7, 5]]


def test_events_that_share_a_place_stay_as_they_come() -> None:
    tied = Histories.from_edges(torch.tensor([[0, 0, 0], [3, 1, 2]]), torch.ones(3), 1)
    assert tied.last(torch.tensor([0]), 3).tolist() == [[3, 1, 2]]


@pytest.mark.parametrize("name", ENCODERS)
def test_padding_is_not_read_and_order_is(name: str) -> None:
    torch.manual_seed(0)
    encoder = SEQUENCE_ENCODERS[name](6, 5).eval()
    x = torch.randn(2, 5, 6)
    short = encoder(x[:, :3], torch.tensor([3, 2]))
    padded = encoder(x, torch.tensor([3, 2]))
    torch.testing.assert_close(short, padded)
    turned = encoder(x[:, [1, 0, 2]], torch.tensor([3, 3]))
    assert not torch.allclose(turned[0], short[0], atol=1e-3)


def test_the_gru_is_that_of_torch_on_packed_rows() -> None:
    torch.manual_seed(0)
    encoder, x, count = GRUEncoder(4, 6), torch.randn(3, 6, 4), torch.tensor([6, 1, 4])
    packed = nn.utils.rnn.pack_padded_sequence(x, count, batch_first=True, enforce_sorted=False)
    torch.testing.assert_close(encoder(x, count), encoder.linear(encoder.recurrent(packed)[1][0]))


def in_order(graph: MessageGraph) -> MessageGraph:
    """Lets each user's items come in descending order."""
    histories = Histories.from_edges(graph.edge_index, -graph.edge_index[1], graph.num_users)
    return replace(graph, histories=histories)


@pytest.mark.parametrize("decoder", ["cosine", "dot"])
@pytest.mark.parametrize("name", ENCODERS)
def test_the_user_is_moved_by_what_the_encoder_makes_of_the_events(
    message_graph: Callable[..., MessageGraph], name: str, decoder: str
) -> None:
    graph = in_order(message_graph())
    torch.manual_seed(0)
    model = MultimodalGraphModel(
        graph.shape, ModelConfig(embedding_dim=9, sequence_encoder=name, sequence_length=4, decoder=decoder)
    ).eval()
    embeddings = model(graph)
    today = model.users_today(embeddings.user, embeddings.item, graph.histories)
    events = torch.stack([torch.sort(graph.edge_index[1][graph.edge_index[0] == user])[0][:4] for user in range(40)])
    told = model.sequence(embeddings.item[events.flip(1), :-1], torch.full((40,), 4))
    mixed = embeddings.user[:, :-1] + 0.1 * (told / told.norm(dim=1, keepdim=True) if decoder == "cosine" else told)
    expected = mixed / mixed.norm(dim=1, keepdim=True) if decoder == "cosine" else mixed
    torch.testing.assert_close(today, torch.cat([expected, torch.ones(40, 1)], dim=1))


def test_without_events_or_an_encoder_the_user_stays(message_graph: Callable[..., MessageGraph]) -> None:
    graph = in_order(message_graph())
    plain = MultimodalGraphModel(graph.shape, ModelConfig(embedding_dim=9))
    embeddings = plain(graph)
    assert plain.users_today(embeddings.user, embeddings.item, graph.histories) is embeddings.user
    model = MultimodalGraphModel(graph.shape, ModelConfig(embedding_dim=9, sequence_encoder="gru"))
    of_one = torch.tensor([[-1, -1], [3, -1]])
    moved = model.after_events(embeddings.user[:2], embeddings.item, of_one)
    torch.testing.assert_close(moved[0], embeddings.user[0])
    assert not torch.allclose(moved[1], embeddings.user[1])


def test_a_user_in_training_knows_nothing_of_the_event_or_of_later_ones(
    message_graph: Callable[..., MessageGraph], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = in_order(message_graph())
    model = MultimodalGraphModel(graph.shape, ModelConfig(embedding_dim=9, sequence_encoder="gru"))
    told: list[torch.Tensor] = []
    original = model.after_events

    def watched(user: torch.Tensor, item: torch.Tensor, events: torch.Tensor) -> torch.Tensor:
        told.append(events)
        return original(user, item, events)

    monkeypatch.setattr(model, "after_events", watched)
    result = train(model, graph, TrainingConfig(epochs=1, batch_size=10_000), seed=0)
    assert len(result.history) == 1
    lengths = torch.cat([(events >= 0).sum(dim=1) for events in told])
    # Every user once with each number of events before: 0, 1, 2, …
    assert torch.bincount(lengths).tolist() == [int((graph.user_degree > count).sum()) for count in range(6)]


def test_options_are_checked(message_graph: Callable[..., MessageGraph]) -> None:
    with pytest.raises(ConfigError, match="'sequence_encoder' needs architecture='multimodal'"):
        ModelConfig(architecture="lightgcn", sequence_encoder="gru")
    with pytest.raises(ConfigError, match="'sequence_length' must be at least 1, got 0"):
        ModelConfig(sequence_length=0)
    graph = message_graph()
    model = MultimodalGraphModel(graph.shape, ModelConfig(sequence_encoder="gru"))
    with pytest.raises(ConfigError, match="the graph has no order"):
        train(model, graph, TrainingConfig(epochs=1), seed=0)
