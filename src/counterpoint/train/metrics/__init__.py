"""What is measured of a run: its numbers, ranks that are slow, the timeline of one step."""
