"""A penalty of large scores."""
