"""Exports of checkpoints as folders that transformers loads."""
