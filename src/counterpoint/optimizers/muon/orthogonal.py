"""Approximate orthogonalisation of matrices with Newton-Schulz iterations."""

import torch

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Coefficients of the odd polynomial that each iteration applies to singular values (Jordan et al. 2024,
https://kellerjordan.github.io/posts/muon); five iterations map values above 0.002 to between 0.7 and 1.2."""


def orthogonalized(matrices: torch.Tensor, iterations: int, eps: float) -> torch.Tensor:
    """Matrices (number, rows, columns) with the same singular vectors and singular values near 1, in the same dtype.

    Each matrix is first divided by its Frobenius norm plus `eps`; a zero matrix stays zero.
    """
    a, b, c = COEFFICIENTS
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x = matrices if wide else matrices.mT
    at_least = torch.promote_types(x.dtype, torch.float32)
    norm = torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True, dtype=at_least)
    x = x / (norm + eps).to(x.dtype)
    for _iteration in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    made: torch.Tensor = x if wide else x.mT
    return made
