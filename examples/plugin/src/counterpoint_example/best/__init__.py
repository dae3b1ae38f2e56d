"""A recorder of the lowest loss."""
