"""A projector of one linear layer."""
