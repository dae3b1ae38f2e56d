"""Plain PyTorch models on rows: no collectives, no ranks."""
