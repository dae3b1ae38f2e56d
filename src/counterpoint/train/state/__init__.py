"""The state of a run on disk: checkpoints that any layout can read, and in which damage is detected."""
