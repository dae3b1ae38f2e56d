"""Weights of other projects' checkpoints to ours and back: names, fused tensors, and the sizes in a config.json."""
