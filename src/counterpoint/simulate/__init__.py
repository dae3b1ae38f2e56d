"""What a plan would take: time on a clock of given costs, memory from given sizes; no torch."""
