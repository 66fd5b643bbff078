"""Finds the best-scoring items for many queries."""

from gnnrec.retrieval.index import ItemIndex
from gnnrec.selection.topk import forbid, top_k, top_k_of_scores

__all__ = ["ItemIndex", "forbid", "top_k", "top_k_of_scores"]
