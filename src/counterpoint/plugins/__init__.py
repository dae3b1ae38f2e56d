"""Installed distributions that bring kinds of their own: what one says of itself, and how a config's are loaded."""
