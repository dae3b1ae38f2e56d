"""CSV tables of metrics."""
