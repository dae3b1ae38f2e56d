"""What `fast_paths.py` compares, a file for each kind of path."""
