"""Turns vectors of users and items into the scores of a block of users."""

from typing import Any

import torch
from torch import Tensor

from harness.task import ScoreBlock


def inner_products(user: Any, item: Any) -> ScoreBlock:
    """Scores by the inner products of ``user [num_users, dim]`` and ``item [num_items, dim]``, arrays or tensors."""
    user_vectors, item_vectors = torch.as_tensor(user), torch.as_tensor(item)

    def score_block(user_index: Tensor) -> Tensor:
        return user_vectors[user_index.to(user_vectors.device)] @ item_vectors.T

    return score_block
