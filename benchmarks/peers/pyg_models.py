"""Fits the LightGCN of PyG, trained as in its own example (https://github.com/pyg-team/pytorch_geometric)."""

from collections.abc import Mapping
from typing import Any

import torch

from gnnrec.fitting import resolve_device
from harness.task import FitTask, FittedModel
from peers.factors import inner_products

_BATCH, _MAX_EPOCHS = 8192, 1000
_EPOCHS_BETWEEN_LOOKS, _PATIENCE = 5, 10  # looks at the validation recall without a better one


def fit_lightgcn(task: FitTask, hyperparameters: Mapping[str, Any]) -> FittedModel:
    """He et al. 2020: BPR with one negative per pair, propagation over the whole graph in every step.

    The adjacency matrix is normalised once and kept as a sparse tensor, which PyG recommends for speed.
    """
    from torch_geometric.nn.models import LightGCN

    options = dict(hyperparameters)
    learning_rate, lambda_reg = options.pop("learning_rate"), options.pop("lambda_reg")
    epochs = options.pop("epochs", _MAX_EPOCHS)
    device = resolve_device(task.device)
    torch.manual_seed(task.seed)
    num_users, num_items = task.pairs.shape
    user_index, item_index = (torch.from_numpy(index).long().to(device) for index in task.pairs.nonzero())
    adjacency = normalised_adjacency(user_index, item_index + num_users, num_users + num_items)
    model = LightGCN(num_users + num_items, normalize=False, **options).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)

    best_recall, best_epoch, best_vectors = -1.0, 0, None
    for epoch in range(1, epochs + 1):
        for batch in torch.randperm(len(user_index), device=device).split(_BATCH):
            user, liked = user_index[batch], item_index[batch] + num_users
            other = torch.randint(num_users, num_users + num_items, (len(batch),), device=device)
            labels = torch.stack([user.repeat(2), torch.cat([liked, other])])
            liked_score, other_score = model(adjacency, labels).chunk(2)
            loss = model.recommendation_loss(liked_score, other_score, labels.unique(), lambda_reg)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if task.valid is not None and epoch % _EPOCHS_BETWEEN_LOOKS == 0:
            vectors = _vectors(model, adjacency)
            recall = task.validation_recall(inner_products(vectors[:num_users], vectors[num_users:]))
            if recall > best_recall:
                best_recall, best_epoch, best_vectors = recall, epoch, vectors
            if epoch - best_epoch >= _PATIENCE * _EPOCHS_BETWEEN_LOOKS:
                break
    if best_vectors is None:
        best_epoch, best_vectors = epoch, _vectors(model, adjacency)
    return FittedModel(inner_products(best_vectors[:num_users], best_vectors[num_users:]), best_epoch, epoch)


def normalised_adjacency(user: torch.Tensor, item: torch.Tensor, size: int) -> torch.Tensor:
    """Returns the symmetrically normalised adjacency matrix ``[size, size]``, in CSR."""
    index = torch.stack([torch.cat([user, item]), torch.cat([item, user])])
    degree = torch.bincount(index[0], minlength=size).float()
    value = (degree[index[0]] * degree[index[1]]).rsqrt()
    return torch.sparse_coo_tensor(index, value, (size, size)).coalesce().to_sparse_csr()


@torch.no_grad()
def _vectors(model: Any, adjacency: torch.Tensor) -> torch.Tensor:
    return model.get_embedding(adjacency).clone()
