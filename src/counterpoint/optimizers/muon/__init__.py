"""Muon (Jordan et al. 2024; Liu et al. 2025, arXiv:2502.16982): hidden matrices move along orthogonal matrices."""
