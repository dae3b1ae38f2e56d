"""A tower that reads series, as a list of parts."""

from functools import partial
from typing import final

from torch import Tensor, nn

from counterpoint.extend import Ends
from counterpoint.extend.data import GivenBatch
from counterpoint.extend.models import Earlier, Linear, Part, RmsNorm, projector_part
from counterpoint_example.running_mean.model import RunningMean, RunningMeanLayer
from counterpoint_example.tower.spec import SeriesTowerSection

_EPS = 1e-6


@final
class Windows(nn.Module):
    """The first part: rows (rows, hidden) of the windows of the batch."""

    def __init__(self, window: int, hidden: int) -> None:
        super().__init__()
        self.window = Linear(window, hidden, bias=True)

    def forward(self, _rows: Tensor | None, batch: GivenBatch) -> Tensor:
        rows: Tensor = self.window(batch.values)
        return rows


def parts(section: SeriesTowerSection, ends: Ends) -> list[Part]:
    """The parts `embed`, `layers.N`, `norm` and `projector`."""
    return [
        Part("embed", partial(_embedding, section), makes_rows=True),
        *(Part(f"layers.{number}", partial(_layer, section)) for number in range(section.layers)),
        Part("norm", partial(_norm, section)),
        projector_part(section, ends, group=1),
    ]


def _embedding(section: SeriesTowerSection, _earlier: Earlier) -> nn.Module:
    return Windows(section.window, section.hidden)


def _layer(section: SeriesTowerSection, _earlier: Earlier) -> nn.Module:
    mean = RunningMean(section.hidden, section.heads, causal=False)
    return RunningMeanLayer(RmsNorm(section.hidden, _EPS), mean, nn.Identity())


def _norm(section: SeriesTowerSection, _earlier: Earlier) -> nn.Module:
    return RmsNorm(section.hidden, _EPS)
