from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnrec.errors import ConfigError
from gnnrec.nn.message_graph import MessageGraph
from gnnrec.nn.model_config import ModelConfig
from gnnrec.nn.multimodal import MultimodalGraphModel
from gnnrec.nn.sequence import SEQUENCE_ENCODERS, Histories, LastEvents
from gnnrec.training.config import TrainingConfig
from gnnrec.training.loop import train

# User 1 chose 7, 5, 9 and then 6; user 0 chose 4; user 2 nothing.
EDGES = torch.tensor([[1, 1, 0, 1, 1], [5, 6, 4, 7, 9]])
PLACE = torch.tensor([2.0, 8.0, 1.0, 1.0, 3.0])
HISTORIES = Histories.from_edges(EDGES, PLACE, 3)
ENCODERS = sorted(SEQUENCE_ENCODERS)


def told(events: LastEvents) -> list[list[int]]:
    """What comes before each moment."""
    rows = events.item_index.tolist()
    return [rows[row][:count] for row, count in zip(events.row.tolist(), events.count.tolist(), strict=True)]


def test_histories_are_in_order() -> None:
    last = HISTORIES.last(torch.tensor([1, 2, 0]), 10)
    assert last.item_index.tolist() == [[7, 5, 9, 6], [-1] * 4, [4, -1, -1, -1]]
    assert told(last) == [[7, 5, 9, 6], [], [4]]
    assert told(HISTORIES.last(torch.tensor([1, 0]), 2)) == [[9, 6], [4]]
    assert told(HISTORIES.last(torch.tensor([2]), 5)) == [[]]


@pytest.mark.parametrize(
    ("length", "expected"),
    [(1, [[7], [9], [], [], [5]]), (2, [[7], [5, 9], [], [], [7, 5]]), (9, [[7], [7, 5, 9], [], [], [7, 5]])],
)
def test_an_edge_is_preceded_by_what_came_before_it(length: int, expected: list[list[int]]) -> None:
    assert told(HISTORIES.before(EDGES[0], torch.arange(5), length)) == expected


@given(lengths=st.lists(st.integers(0, 12), min_size=1, max_size=5), length=st.integers(1, 7), seed=st.integers(0, 99))
def test_a_row_serves_several_edges_and_tells_none_of_what_comes_later(
    lengths: list[int], length: int, seed: int
) -> None:
    user = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    item = torch.arange(len(user)) + 100  # in the order of time, user by user
    shuffled = torch.randperm(len(user), generator=torch.Generator().manual_seed(seed))
    histories = Histories.from_edges(torch.stack([user, item])[:, shuffled], item[shuffled], len(lengths))
    events = histories.before(user[shuffled], torch.arange(len(user)), length)
    for edge, before in zip(shuffled.tolist(), told(events), strict=True):
        own = item[(user == user[edge]) & (item < item[edge])].tolist()
        assert before == own[len(own) - len(before) :]
        assert min(len(own), length // 2 + 1) <= len(before) <= length
    assert len(events.item_index) <= sum(-(-count // ((length + 1) // 2)) for count in lengths)
    assert events.item_index.shape[1] <= length


def test_events_that_share_a_place_stay_as_they_come() -> None:
    tied = Histories.from_edges(torch.tensor([[0, 0, 0], [3, 1, 2]]), torch.ones(3), 1)
    assert told(tied.last(torch.tensor([0]), 3)) == [[3, 1, 2]]


@pytest.mark.parametrize("name", ENCODERS)
def test_an_event_hears_of_those_before_it_in_their_order_and_of_no_other(name: str) -> None:
    torch.manual_seed(0)
    encoder = SEQUENCE_ENCODERS[name](6, 5).eval()
    x = torch.randn(2, 5, 6)
    heard = encoder(x)
    torch.testing.assert_close(encoder(x[:, :3]), heard[:, :3])
    turned = encoder(x[:, [1, 0, 2, 3, 4]])
    assert (turned - heard)[:, 1:].abs().amax(dim=2).min() > 1e-4


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
    heard = model.sequence(embeddings.item[events.flip(1), :-1])[:, -1]
    mixed = embeddings.user[:, :-1] + 0.1 * (heard / heard.norm(dim=1, keepdim=True) if decoder == "cosine" else heard)
    expected = mixed / mixed.norm(dim=1, keepdim=True) if decoder == "cosine" else mixed
    torch.testing.assert_close(today, torch.cat([expected, torch.ones(40, 1)], dim=1))


def test_blocks_of_users_do_not_matter(
    message_graph: Callable[..., MessageGraph], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = in_order(message_graph())
    model = MultimodalGraphModel(graph.shape, ModelConfig(embedding_dim=9, sequence_encoder="gru")).eval()
    with torch.no_grad():
        embeddings = model(graph)
        whole = model.users_today(embeddings.user, embeddings.item, graph.histories)
        monkeypatch.setattr("gnnrec.nn.model._USERS_AT_ONCE", 7)
        in_blocks = model.users_today(embeddings.user, embeddings.item, graph.histories)
    torch.testing.assert_close(in_blocks, whole)


def test_without_events_or_an_encoder_the_user_stays(message_graph: Callable[..., MessageGraph]) -> None:
    graph = in_order(message_graph())
    plain = MultimodalGraphModel(graph.shape, ModelConfig(embedding_dim=9))
    embeddings = plain(graph)
    assert plain.users_today(embeddings.user, embeddings.item, graph.histories) is embeddings.user
    model = MultimodalGraphModel(graph.shape, ModelConfig(embedding_dim=9, sequence_encoder="gru"))
    of_one = LastEvents(torch.tensor([[-1, -1], [3, -1]]), row=torch.tensor([0, 1]), count=torch.tensor([0, 1]))
    moved = model.after_events(embeddings.user[:2], embeddings.item, of_one)
    torch.testing.assert_close(moved[0], embeddings.user[0])
    assert not torch.allclose(moved[1], embeddings.user[1])


def test_a_user_in_training_knows_nothing_of_the_event_or_of_later_ones(
    message_graph: Callable[..., MessageGraph], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = in_order(message_graph())
    model = MultimodalGraphModel(graph.shape, ModelConfig(embedding_dim=9, sequence_encoder="gru"))
    seen: list[LastEvents] = []
    original = model.after_events

    def watched(user: torch.Tensor, item: torch.Tensor, events: LastEvents) -> torch.Tensor:
        seen.append(events)
        return original(user, item, events)

    monkeypatch.setattr(model, "after_events", watched)
    result = train(model, graph, TrainingConfig(epochs=1, batch_size=10_000), seed=0)
    assert len(result.history) == 1
    lengths = torch.cat([events.count for events in seen])
    # Every user once with each number of events before: 0, 1, 2, …
    assert torch.bincount(lengths).tolist() == [int((graph.user_degree > count).sum()) for count in range(6)]


def test_options_are_checked(message_graph: Callable[..., MessageGraph]) -> None:
    with pytest.raises(ConfigError, match="'sequence_length' must be at least 1, got 0"):
        ModelConfig(sequence_length=0)
    graph = message_graph()
    model = MultimodalGraphModel(graph.shape, ModelConfig(sequence_encoder="gru"))
    with pytest.raises(ConfigError, match="the graph has no order"):
        train(model, graph, TrainingConfig(epochs=1), seed=0)
