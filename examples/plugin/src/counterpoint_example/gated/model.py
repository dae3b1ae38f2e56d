"""A projector with a gate."""

from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from counterpoint.extend.models import Enter, Linear, OutputLinear, Projector, norm_of
from counterpoint_example.gated.spec import GatedSection


@final
class Gated(nn.Module):
    """down(silu(gate(x)) * up(x)) on rows (rows, inputs) -> (rows, outputs)."""

    def __init__(self, inputs: int, inner: int, outputs: int) -> None:
        super().__init__()
        self.enter = Enter()
        self.gate = Linear(inputs, inner, bias=False)
        self.up = Linear(inputs, inner, bias=False)
        self.down = OutputLinear(inner, outputs, bias=False)

    def forward(self, rows: Tensor) -> Tensor:
        gate, up = self.enter.products(rows, self.gate, self.up)
        out: Tensor = self.down(F.silu(gate) * up)
        return out


def part(section: GatedSection, group: int, inputs: int, outputs: int) -> nn.Module:
    """What merges `group` rows and changes their width."""
    gated = Gated(inputs, section.inner, outputs)
    return Projector(group, norm_of(section.norm, inputs, section.norm_eps), ("gated", gated))
