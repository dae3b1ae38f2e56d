"""Warm starts of modules from a Hugging Face folder or another run."""
