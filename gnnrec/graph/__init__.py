"""Builds and analyses the heterogeneous graph of users, items and modalities."""
