"""What a run leaves on the disk: its folder, and checkpoints that any layout reads, in which damage shows."""
