"""Image encoders that users register."""
