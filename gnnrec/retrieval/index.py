"""Turns item vectors into an index that finds each query's best items, exactly or, far faster, nearly so."""

import math
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gnnrec.errors import ConfigError, DataError, MissingPackageError
from gnnrec.selection.topk import check_positive, top_k

__all__ = ["IndexKind", "ItemIndex"]

IndexKind: TypeAlias = Literal["exact", "ivf", "hnsw"]

_NEIGHBOURS = 32  # edges per item of the HNSW graph
_ROUNDING = 1e-6
_EFFORT = {"ivf": 16, "hnsw": 64}
_FEW = 0.05  # a smaller share of allowed items is searched one by one: a graph would hardly meet them
_SAMPLE_PER_LIST = (
    64  # items that a centre of a list is learned from: as good as the usual 256, and four times as quick
)


class ItemIndex:
    """Item vectors, searched by inner product.

    ``exact`` compares with every item. ``ivf`` puts the items into lists by their nearest centre and reads the lists
    nearest to the query (Sivic & Zisserman, "Video Google", 2003), and wants vectors of about equal length; ``hnsw``
    walks a graph of neighbours (Malkov & Yashunin, 2020) and takes longer to build. Both are those of faiss, hold the
    vectors in half precision (half the memory, and quicker), and rank what they find by exact scores.

    Args:
        vectors: ``[num_items, dim]`` finite numbers; kept as float32, not copied if they are that already.
        kind: ``exact``, ``ivf`` or ``hnsw``.
        effort: Lists that ``ivf`` reads (16), or candidates that ``hnsw`` keeps (64): more find more and take longer.
            May be changed at any time.
        version: Version of the state that the vectors come from, to be compared before it is used again.

    Raises:
        ConfigError: An unknown kind, or an effort below 1 or no integer.
        DataError: Not a matrix of finite numbers.
        MissingPackageError: faiss is not installed.
    """

    def __init__(
        self,
        vectors: Tensor | NDArray[np.floating],
        kind: IndexKind = "exact",
        *,
        effort: int | None = None,
        version: int = 0,
    ) -> None:
        if kind not in get_args(IndexKind):
            raise ConfigError(f"an index is one of {', '.join(get_args(IndexKind))}, not {kind!r}")
        self.effort = check_positive("effort", effort) if effort is not None else _EFFORT.get(kind, 1)
        self.kind, self.version = kind, version
        self._vectors = _float_matrix(vectors, "an index")
        if self._vectors.ndim != 2 or not self._vectors.shape[1] or not self._vectors.isfinite().all():
            raise DataError(f"an index needs a matrix of finite numbers, not {list(self._vectors.shape)}")
        self._index = None if kind == "exact" or len(self) == 0 else _build(kind, _largest_is_1(self._vectors))

    def __len__(self) -> int:
        return len(self._vectors)

    def search(
        self, queries: Tensor | NDArray[np.floating], k: int, *, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Finds the items with the largest inner product for each query.

        Args:
            queries: ``[num_queries, dim]``.
            k: How many items a query gets.
            allowed: ``[num_items]``; only these items may be answered.

        Returns:
            Scores and item indices, each ``[num_queries, min(k, num_items)]``; where fewer were found, a row ends in
            score ``-inf`` and index -1.

        Raises:
            ConfigError: ``k`` or the effort is below 1, or no integer.
            DataError: Shapes that do not fit, or queries that are no finite numbers.
        """
        queries = _float_matrix(queries, "a search")
        if self._index is None:
            return top_k(queries, self._vectors, k, allowed=allowed)
        k = check_positive("k", k)
        check_positive("effort", self.effort)
        if not queries.isfinite().all():
            raise DataError("the queries hold something that is no finite number")
        if queries.ndim != 2 or queries.shape[1] != self._vectors.shape[1]:
            raise DataError(f"queries {list(queries.shape)} must be as wide as the items, {self._vectors.shape[1]}")
        if not len(queries):
            return queries.new_zeros(0, min(k, len(self))), torch.zeros(0, min(k, len(self)), dtype=torch.int64)
        allowed = None if allowed is None else np.asarray(allowed)
        if allowed is not None and (allowed.shape != (len(self),) or allowed.dtype != np.bool_):
            raise DataError(f"allowed must be {len(self)} booleans, one for each item")
        if allowed is not None and allowed.mean() < _FEW:
            return self._search_few(queries, k, np.flatnonzero(allowed))
        found = self._index.search(_largest_is_1(queries), min(k, len(self)), params=self._parameters(allowed))[1]
        return self._ranked(queries, torch.from_numpy(found))

    def recall(self, queries: Tensor | NDArray[np.floating], k: int = 10) -> float:
        """Measures which share of the ``k`` best items the index finds, on average over queries.

        An item that ties with the ``k``-th best counts as found.

        Args:
            queries: ``[num_queries, dim]``.
            k: Items per query.
        """
        queries = _float_matrix(queries, "a search")
        found, best = self.search(queries, k)[0], top_k(queries, self._vectors, k)[0]
        longest = self._vectors.norm(dim=1).max() if len(self) else 0.0
        tolerance = _ROUNDING * queries.norm(dim=1, keepdim=True) * longest  # products are summed in another order
        return float((found >= best[:, -1:] - tolerance).float().mean())

    def _search_few(self, queries: Tensor, k: int, items: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Compares with some items one by one; answers are as wide as those of a search over all."""
        scores, index = top_k(queries, self._vectors[items], k)
        missing = (0, min(k, len(self)) - scores.shape[1])
        index = torch.from_numpy(np.append(items, -1))[index]
        pad = torch.nn.functional.pad
        return pad(scores, missing, value=-math.inf), pad(index, missing, value=-1)

    def _ranked(self, queries: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
        """Orders what was found by exact scores, equal ones by item."""
        found = found.sort(dim=1).values
        scores = torch.einsum("qd,qkd->qk", queries, self._vectors[found])
        scores, order = scores.masked_fill(found < 0, -math.inf).sort(dim=1, descending=True, stable=True)
        return scores, found.gather(1, order)

    def _parameters(self, allowed: NDArray[np.bool_] | None) -> Any:
        faiss = _faiss()
        selector = None if allowed is None else faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        if self.kind == "ivf":
            return faiss.SearchParametersIVF(nprobe=self.effort, sel=selector)
        return faiss.SearchParametersHNSW(efSearch=self.effort, sel=selector)


def _float_matrix(values: Any, of: str) -> Tensor:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
    try:
        return torch.as_tensor(np.array(values, dtype=np.float32, copy=None))
    except (TypeError, ValueError) as error:
        raise DataError(f"{of} needs a matrix of finite numbers: {error}") from error


def _largest_is_1(matrix: Tensor) -> NDArray[np.float32]:
    """Scales a matrix, which changes no order of products, to what half precision can hold."""
    scaled: NDArray[np.float32] = (matrix / matrix.abs().max().clamp(min=torch.finfo(matrix.dtype).tiny)).numpy()
    return scaled


def _build(kind: IndexKind, vectors: NDArray[np.float32]) -> Any:
    faiss = _faiss()
    num_items, dim = vectors.shape
    half, product = faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    if kind == "hnsw":
        index = faiss.IndexHNSWSQ(dim, half, _NEIGHBOURS, product)
    else:
        num_lists = max(1, min(math.isqrt(num_items), num_items // _SAMPLE_PER_LIST))
        index = faiss.IndexIVFScalarQuantizer(faiss.IndexFlatIP(dim), dim, num_lists, half, product)
        index.cp.niter, index.cp.max_points_per_centroid = 10, _SAMPLE_PER_LIST
    index.train(vectors)
    index.add(vectors)
    return index


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise MissingPackageError("an approximate index needs faiss: pip install 'gnnrec[ann]'") from error
    return faiss
