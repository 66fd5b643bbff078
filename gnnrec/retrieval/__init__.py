"""Finds the best-scoring items for many queries."""

from gnnrec.retrieval.topk import top_k, top_k_of_scores

__all__ = ["top_k", "top_k_of_scores"]
