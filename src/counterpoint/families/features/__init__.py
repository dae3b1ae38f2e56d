"""Features of items that were computed beforehand."""
