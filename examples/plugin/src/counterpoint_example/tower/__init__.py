"""A tower that reads series."""
