"""A table of numbers, a row for each record."""
