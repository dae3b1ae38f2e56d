"""What others are told of a whole config: its proved plan, its models, its data, and what a rank trains with."""
