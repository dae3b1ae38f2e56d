"""Curves for TensorBoard."""
