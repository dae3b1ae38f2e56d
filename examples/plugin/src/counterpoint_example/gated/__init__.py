"""A projector with a gate."""
