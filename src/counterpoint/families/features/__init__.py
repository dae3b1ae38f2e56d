"""Precomputed features of items."""
