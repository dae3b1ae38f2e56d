"""Contrast of items by rank."""
