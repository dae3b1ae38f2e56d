"""The judge's casts to float32 lifted: norms, rotary angles, routers and Mamba compute in the dtype of their model."""

from types import ModuleType
from typing import Any

import pytest
import torch


class LiftedTorch:
    """torch, in which float32 is float64."""

    float32 = float = torch.float64

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def lift_casts(patch: pytest.MonkeyPatch, modeling: ModuleType) -> None:
    """Until the patch ends, casts in a file of models (and `Tensor.float` everywhere) give float64.

    A model must be built under it: its file also computes the frequencies of rotary positions.
    """
    assert modeling.torch is torch, "the file calls torch by its name"
    patch.setattr(modeling, "torch", LiftedTorch())
    patch.setattr(torch.Tensor, "float", torch.Tensor.double)
