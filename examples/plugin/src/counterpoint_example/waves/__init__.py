"""Documents about waves."""
