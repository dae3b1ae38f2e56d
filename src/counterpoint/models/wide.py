"""Parts whose weights stay wide when everything around them computes in fewer bits."""

from abc import ABC

import torch
from torch import Tensor, nn


class Wide(nn.Module, ABC):
    """A submodule that computes in the dtype in which its parameters are stored, whatever the compute dtype is."""


def widened(rows: Tensor) -> Tensor:
    """The rows in at least float32."""
    return rows.to(torch.promote_types(rows.dtype, torch.float32))
