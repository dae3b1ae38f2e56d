"""Transformers over the features of other encoders."""
