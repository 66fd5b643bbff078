"""Finds first embeddings of users and items in closed form, from the spectrum of their interactions."""

from collections.abc import Callable

import torch
from torch import Tensor

from gnnrec.nn.operator import SparseOperator

__all__ = ["leading_directions", "spectral_embeddings"]

# Rounds of power iteration and further directions: where training goes on from them, the leading singular vectors
# need not be exact to more than a few per cent.
_ROUNDS = 6
_FURTHER = 16


@torch.no_grad()
def spectral_embeddings(interactions: SparseOperator, degree: Tensor, num_users: int, dim: int) -> Tensor:
    """Embeds all nodes such that those which share many neighbours lie side by side.

    The leading singular vectors of the normalised interactions ``D_u^-½ R D_i^-½ ≈ U S Vᵀ`` give ``D_u^½ U S^½`` and
    ``D_i^½ V S^½``. The directions are those of spectral co-clustering (Dhillon 2001, section 4); the lengths grow with
    the degree, since a node of many interactions has more to say to its neighbours. The decomposition is that of Halko
    et al. (2011, algorithm 4.4), drawn from torch's global stream.

    Cost: 13 products of the adjacency with ``dim + 16`` columns, and ``O((num_users + num_items) × dim²)``.

    Args:
        interactions: Normalised adjacency of users and items in one index space, users first.
        degree: ``[num_users + num_items]`` interactions of each node.
        num_users: Users.
        dim: Width of the embeddings.

    Returns:
        ``[num_users + num_items, dim]``, of mean length 1 on either side; zero for a node without interactions, and in
        directions beyond the smaller side.
    """
    num_items = len(degree) - num_users

    def users_of(items: Tensor) -> Tensor:
        return (interactions @ torch.cat([items.new_zeros(num_users, items.shape[1]), items]))[:num_users]

    def items_of(users: Tensor) -> Tensor:
        return (interactions @ torch.cat([users, users.new_zeros(num_items, users.shape[1])]))[num_users:]

    rank = min(dim + _FURTHER, num_users, num_items)
    basis = leading_directions(users_of, items_of, torch.randn(num_items, rank, device=degree.device), _ROUNDS)
    user, value, mixture = torch.linalg.svd(users_of(basis), full_matrices=False)
    kept = min(dim, rank)
    root = value[:kept].sqrt()
    sides = user[:, :kept] * root, (basis @ mixture.T)[:, :kept] * root
    lengths = degree.float().sqrt()[:, None].tensor_split([num_users])
    longer = [side * length for side, length in zip(sides, lengths, strict=True)]
    unit = torch.cat([side / side.norm(dim=1).mean().clamp(min=1e-12) for side in longer])
    return torch.nn.functional.pad(unit, (0, dim - kept))


def leading_directions(
    times: Callable[[Tensor], Tensor], transposed_times: Callable[[Tensor], Tensor], start: Tensor, rounds: int
) -> Tensor:
    """Returns an orthonormal basis ``[n, rank]`` of about the leading right singular vectors of a matrix ``[m, n]``.

    Block power iteration of Halko et al. (2011, algorithm 4.4). Cost: ``2 · rounds`` products with ``rank`` columns,
    and ``O(rounds · n · rank²)``.

    Args:
        times: ``[n, rank] -> [m, rank]``, the product with the matrix.
        transposed_times: ``[m, rank] -> [n, rank]``, that with its transpose.
        start: ``[n, rank]`` random numbers; some more columns than directions are wanted.
        rounds: Of iteration; more where the singular values fall slowly.
    """
    basis: Tensor = torch.linalg.qr(start).Q
    for _ in range(rounds):
        basis = torch.linalg.qr(transposed_times(times(basis))).Q
    return basis
