"""Writes what a recommender learned in formats that other programs read."""
