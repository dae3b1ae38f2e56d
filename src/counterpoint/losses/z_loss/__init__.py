"""The square of the logarithm of the softmax's normaliser (Chowdhery et al., 2022, arXiv:2204.02311, section 5)."""
