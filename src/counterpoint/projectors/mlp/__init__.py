"""A projector of two linear layers."""
