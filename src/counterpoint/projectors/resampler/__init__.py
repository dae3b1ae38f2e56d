"""A projector of learned queries."""
