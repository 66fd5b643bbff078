"""Finds the best-scoring items for many queries."""
