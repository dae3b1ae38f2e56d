"""Folders that transformers loads, written from checkpoints of runs."""
