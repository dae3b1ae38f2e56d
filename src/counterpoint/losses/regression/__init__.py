"""The squared distance of rows from targets that are given."""
