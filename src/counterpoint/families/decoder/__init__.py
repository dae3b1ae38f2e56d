"""Causal decoders."""
