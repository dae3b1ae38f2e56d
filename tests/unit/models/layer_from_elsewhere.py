"""A kind of layer that the package does not know: all that parallelism may do with it, its seams say."""

import torch
from torch import Tensor, nn

from counterpoint.kinds.rules import PLAIN, TensorRule
from counterpoint.models.batch import Batch
from counterpoint.models.chain import Chain, Part, build_chain
from counterpoint.models.linear import Linear, OutputLinear
from counterpoint.models.seams import ChannelSum, Enter, Layer, Mix, Trade
from counterpoint.models.segments import Segments
from counterpoint.parallelize.blocks import whole_block
from counterpoint.parallelize.initialize import initialize_

HIDDEN, HEADS, GROUPS, DIM = 4, 6, 2, 3
RULES = (
    TensorRule("layers.*.o.weight", "inputs"),
    TensorRule("layers.*.o.bias", "rows"),
    TensorRule("layers.*", "outputs"),
)


class GatedSums(Mix[Segments]):
    """Sums over the rows of a document up to each: values (rows, heads, dim) and what heads share, (rows, groups, dim),
    times gates (rows, heads) and gains (heads,)."""

    trades = (Trade.HEADS, Trade.GROUPS, Trade.HEADS, Trade.WEIGHTS)

    def forward(self, inputs: tuple[Tensor, ...], segments: Segments) -> Tensor:
        values, shared, gates, gains = inputs
        of_heads = shared.repeat_interleave(values.shape[1] // shared.shape[1], dim=1)
        terms = (values + of_heads) * (gates * gains)[:, :, None]
        used = torch.split(terms[: sum(segments.lengths)], list(segments.lengths))
        return torch.cat([*(document.cumsum(0) for document in used), terms[sum(segments.lengths) :] * 0])


class SummingLayer(Layer):
    """rows + what its mix makes of them, where values are smaller the larger all of a row's are."""

    kind = "sums"

    def __init__(self) -> None:
        super().__init__()
        self.enter = Enter()
        self.values = Linear(HIDDEN, HEADS * DIM, bias=False)
        self.shared = Linear(HIDDEN, GROUPS * DIM, bias=True)
        self.gates = Linear(HIDDEN, HEADS, bias=False)
        self.gains = nn.Parameter(torch.empty(HEADS))
        self.all_channels: nn.Module = ChannelSum()
        self.mix: nn.Module = GatedSums(heads=HEADS, groups=GROUPS)
        self.o = OutputLinear(HEADS * DIM, HIDDEN, bias=True)

    def forward(self, rows: Tensor, batch: Batch) -> Tensor:
        values, shared, gates = self.enter.products(rows, self.values, self.shared, self.gates)
        values = values / (1 + self.all_channels(values.square().sum(1, keepdim=True)))
        inputs = (values.unflatten(1, (-1, DIM)), shared.unflatten(1, (-1, DIM)), gates, self.gains)
        out: Tensor = rows + self.o(self.mix(inputs, batch.segments).flatten(1))
        return out


def meta() -> Chain:
    """Two such layers on the meta device."""
    with torch.device("meta"):
        parts = [Part(f"layers.{number}", lambda _earlier: SummingLayer()) for number in range(2)]
        return build_chain(parts).to(torch.float64)


def filled() -> Chain:
    """Two such layers with values."""
    chain = meta().to_empty(device="cpu")
    for name, parameter in chain.named_parameters():
        initialize_(parameter.detach(), whole_block(name, tuple(parameter.shape)), 3, "module", 4, PLAIN)
        parameter.detach().mul_(10 if parameter.ndim > 1 else 1)
    return chain
