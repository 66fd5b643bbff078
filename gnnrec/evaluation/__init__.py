"""Measures rankings: protocol, metrics, significance and pictures."""
