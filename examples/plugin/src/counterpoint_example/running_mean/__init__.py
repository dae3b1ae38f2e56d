"""A layer whose rows see the mean of the rows before them."""
