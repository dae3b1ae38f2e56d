"""From pictures and text to the rows of a step: indexes, sources, the order of data, per-rank reading."""
