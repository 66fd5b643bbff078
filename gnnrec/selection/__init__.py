"""Exact selection of the best items, from vectors or from scores."""
