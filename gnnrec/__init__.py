"""Multimodal graph recommendations."""
