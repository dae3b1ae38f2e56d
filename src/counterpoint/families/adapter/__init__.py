"""Adapters: transformers over the features of other encoders."""
