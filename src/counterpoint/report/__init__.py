"""Reports of plans and runs: text for a terminal, data, and self-contained HTML pages."""
