import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import Tensor

from gnnrec.graph.build import GraphConfig, build_graph
from gnnrec.nn.message_graph import MessageGraph
from gnnrec.nn.model_config import ModelConfig
from gnnrec.nn.multimodal import MultimodalGraphModel
from gnnrec.nn.spectral import spectral_embeddings
from gnnrec.rankers.base import RankingTask
from gnnrec.rankers.neural import NeuralRanker
from gnnrec.rankers.neural_config import NeuralConfig
from gnnrec.training.config import TrainingConfig


def random_pairs(num_users: int, num_items: int, share: float, seed: int = 0) -> sp.csr_matrix:
    matrix = sp.random(num_users, num_items, density=share, random_state=np.random.default_rng(seed), format="csr")
    matrix.data[:] = 1
    return matrix.astype(np.float32)


def embedded(matrix: sp.csr_matrix, dim: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    graph = message_graph(matrix)
    torch.manual_seed(seed)
    degree = torch.cat([graph.user_degree, graph.item_degree])
    user, item = spectral_embeddings(graph.interactions, degree, graph.num_users, dim).split(matrix.shape)
    return user, item


def message_graph(matrix: sp.csr_matrix) -> MessageGraph:
    return MessageGraph.from_hetero_data(build_graph(matrix, config=GraphConfig(similar_items=0, co_occurring_items=0)))


def test_products_are_the_best_low_rank_approximation():
    matrix = random_pairs(60, 40, 0.2)
    row, column = np.maximum(matrix.sum(axis=1), 1), np.maximum(matrix.sum(axis=0), 1)
    left, values, right = np.linalg.svd(np.asarray(matrix.toarray() / np.sqrt(row) / np.sqrt(column)))
    best = (left[:, :8] * values[:8]) @ right[:8]
    user, item = embedded(matrix, 8)
    plain = (user / torch.from_numpy(row).sqrt()) @ (item / torch.from_numpy(column.T).sqrt()).T
    product = plain.double().numpy()
    scale = (product * best).sum() / (best**2).sum()
    np.testing.assert_allclose(product, scale * best, atol=0.02 * np.abs(product).max())
    assert user.norm(dim=1).mean() == pytest.approx(1, rel=1e-5)
    assert item.norm(dim=1).mean() == pytest.approx(1, rel=1e-5)


def test_two_tastes_are_told_apart():
    # Users 0–19 choose among items 0–9, users 20–39 among items 10–19.
    matrix = sp.block_diag([random_pairs(20, 10, 0.5, seed=1), random_pairs(20, 10, 0.5, seed=2)], format="csr")
    user, item = (torch.nn.functional.normalize(side) for side in embedded(matrix, 2))
    scores = user @ item.T
    assert scores[:20, :10].min() > scores[:20, 10:].max() + 0.5
    assert scores[20:, 10:].min() > scores[20:, :10].max() + 0.5


def test_more_directions_than_nodes_and_nodes_without_interactions():
    matrix = sp.csr_matrix(np.array([[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]], dtype=np.float32))
    user, item = embedded(matrix, 8)
    assert user.shape == (3, 8)
    assert item.shape == (4, 8)
    assert torch.isfinite(user).all()
    assert torch.isfinite(item).all()
    assert torch.equal(user[2], torch.zeros(8))
    assert torch.equal(item[2:], torch.zeros(2, 8))
    assert torch.equal(user[:, 3:], torch.zeros(3, 5))


def test_the_seed_fixes_it():
    matrix = random_pairs(60, 40, 0.1)
    for first, second in zip(embedded(matrix, 8, seed=3), embedded(matrix, 8, seed=3), strict=True):
        assert torch.equal(first, second)


def test_training_starts_from_it_with_short_vectors():
    matrix = random_pairs(60, 40, 0.2)
    user, item = embedded(matrix, 15)
    graph = message_graph(matrix)
    model = MultimodalGraphModel(graph.shape, ModelConfig(embedding_dim=16, initialisation="spectral"))
    torch.manual_seed(0)
    model.initialise(graph)
    torch.testing.assert_close(model.users.identity.weight.detach(), 0.1 * user)
    torch.testing.assert_close(model.items.identity.weight.detach(), 0.1 * item)
    drawn = MultimodalGraphModel(graph.shape, ModelConfig(embedding_dim=16))
    before = drawn.users.identity.weight.detach().clone()
    drawn.initialise(graph)
    assert torch.equal(drawn.users.identity.weight, before)


def test_a_fit_that_hardly_learns_ranks_by_it():
    # Two tastes; training at a rate of next to nothing leaves what it started from.
    matrix = sp.block_diag([random_pairs(40, 20, 0.4, seed=1), random_pairs(40, 20, 0.4, seed=2)], format="csr")

    def contrast(initialisation: str) -> float:
        config = NeuralConfig(
            model=ModelConfig(embedding_dim=4, item_bias=False, initialisation=initialisation, linear_part="none"),
            training=TrainingConfig(epochs=1, learning_rate=1e-9),
        )
        ranker, _ = NeuralRanker.fit(RankingTask(build_graph(matrix), matrix), config)
        scores = ranker.score(np.arange(80))
        same = torch.cat([scores[:40, :20], scores[40:, 20:]])
        return float(same.mean() - torch.cat([scores[:40, 20:], scores[40:, :20]]).mean())

    assert contrast("spectral") > 0.5 + contrast("random")
