import pytest
import torch

from gnnrec.nn.fusion import FUSIONS, ModalityRows
from gnnrec.nn.node_encoder import NodeEncoder

DIM, NUM_NODES = 8, 4
DEGREE = torch.tensor([0, 1, 3, 300])


def encoder(**options) -> NodeEncoder:
    return NodeEncoder(NUM_NODES, {"plot": 3, "poster": 2}, DIM, **{"fusion": "mean"} | options)


def rows_of(encoder: NodeEncoder) -> ModalityRows:
    """Node 0 has both modalities, nodes 1 and 3 one, node 2 none."""
    generator = torch.Generator().manual_seed(0)
    x_dict = {"poster": torch.randn(2, 2, generator=generator), "plot": torch.randn(2, 3, generator=generator)}
    owner_dict = {"poster": torch.tensor([0, 3]), "plot": torch.tensor([0, 1])}
    return encoder.align(x_dict, owner_dict, NUM_NODES)


def test_rows_keep_their_owner_and_modality() -> None:
    nodes = encoder()
    rows = rows_of(nodes)
    assert rows.owner_index.tolist() == [0, 1, 0, 3]  # plot first: the order of the encoder, not of the call
    assert rows.modality_index.tolist() == [0, 0, 1, 1]
    poster = nodes.align({"poster": torch.ones(1, 2)}, {"poster": torch.tensor([2])}, NUM_NODES)
    assert poster.modality_index.tolist() == [1]
    torch.testing.assert_close(poster.z, nodes.alignment({"poster": torch.ones(1, 2)})["poster"])


@pytest.mark.parametrize("log_evidence", [0.0, 2.0])
def test_content_shrinks_as_interactions_come_in(log_evidence: float) -> None:
    nodes = encoder(content_scale=0.7)
    with torch.no_grad():
        nodes.log_evidence.fill_(log_evidence)
    rows = rows_of(nodes)
    embedded, fused = nodes(rows, DEGREE)
    evidence = torch.tensor(log_evidence).exp()
    share = evidence / (evidence + DEGREE)
    identity = nodes.identity.weight * (DEGREE > 0)[:, None]
    torch.testing.assert_close(embedded, identity + 0.7 * DIM**-0.5 * share[:, None] * fused.x)
    torch.testing.assert_close(embedded[0], 0.7 * DIM**-0.5 * rows.z[[0, 2]].mean(dim=0))


def test_content_is_as_long_as_its_scale_says() -> None:
    nodes = NodeEncoder(50, {"plot": 3}, 64, fusion="mean", content_scale=0.5)
    rows = nodes.align({"plot": torch.randn(50, 3)}, {"plot": torch.arange(50)}, 50)
    new, _ = nodes(rows, torch.zeros(50))
    assert new.norm(dim=1).mean().item() == pytest.approx(0.5, rel=0.01)
    assert nodes.identity.weight.norm(dim=1).mean().item() == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_identity_of_a_node_without_interactions_is_never_used(fusion: str) -> None:
    nodes = encoder(fusion=fusion)
    for weight in nodes.fusion.parameters():
        torch.nn.init.normal_(weight)
    rows = rows_of(nodes)
    before, _ = nodes(rows, DEGREE)
    before.square().sum().backward()
    assert not nodes.identity.weight.grad[0].any()
    assert nodes.identity.weight.grad[1:].any(dim=1).all()
    with torch.no_grad():
        nodes.identity.weight[0] += 5
    after, _ = nodes(rows, DEGREE)
    assert torch.equal(before, after)


def test_new_nodes_may_be_of_any_number() -> None:
    nodes = encoder()
    x_dict, owner_dict = {"plot": torch.randn(9, 3)}, {"plot": torch.arange(9)}
    embedded, _ = nodes(nodes.align(x_dict, owner_dict, 10), torch.zeros(10))
    assert embedded.shape == (10, DIM)
    assert embedded[:9].any(dim=1).all()
    assert not embedded[9].any()


def test_nodes_without_media_are_their_identity() -> None:
    nodes = NodeEncoder(NUM_NODES, {}, DIM, fusion="attention")
    embedded, fused = nodes(None, DEGREE)
    assert fused is None
    assert torch.equal(embedded, nodes.identity.weight * (DEGREE > 0)[:, None])
    assert embedded.shape == (NUM_NODES, DIM)


def test_shares_of_modalities_are_fixed_where_one_is_named() -> None:
    nodes = encoder(fusion="weighted", modality_shares={"poster": 0.2})
    rows = rows_of(nodes)
    _, fused = nodes(rows, DEGREE)
    torch.testing.assert_close(fused.x[0], 0.8 * rows.z[0] + 0.2 * rows.z[2])  # the rest is the plot's
    torch.testing.assert_close(fused.x[[1, 3]], rows.z[[1, 3]])
    assert not list(nodes.fusion.parameters())
    others = encoder(fusion="weighted", modality_shares={"bio": 1.0})
    assert [name for name, _ in others.fusion.named_parameters()] == ["logit"]


def test_reset_starts_again() -> None:
    nodes = encoder(fusion="attention", content_scale=0.7)
    with torch.no_grad():
        for parameter in nodes.parameters():
            parameter.fill_(9)
    nodes.reset_parameters()
    assert nodes.content_scale.item() == pytest.approx(0.7)
    assert nodes.log_evidence.item() == 0
    assert not nodes.fusion.modality_bias.any()
    assert not (nodes.identity.weight == 9).any()
    assert not any((value == 9).any() for value in nodes.alignment.parameters())
