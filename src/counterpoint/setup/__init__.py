"""From a whole config to what the other rooms get: its proved plan, its models, its data, and each rank's trainer."""
