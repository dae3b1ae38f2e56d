"""Pictures of plans and runs: text for a terminal, data, and pages that need nothing but a browser."""
