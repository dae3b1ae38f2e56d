"""Proofs over a plan: coverage, routes, order, buffers; no torch."""
