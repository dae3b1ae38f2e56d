"""Gradient descent with Nesterov's momentum."""
