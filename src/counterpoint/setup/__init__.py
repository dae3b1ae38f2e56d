"""What exists of a run before any rank: its proved plan, its models and its data."""
