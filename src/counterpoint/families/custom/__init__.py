"""Encoders of images that users bring."""
