"""Muon (Jordan et al. 2024; Liu et al. 2025, arXiv:2502.16982): orthogonalised updates of hidden matrices."""
