"""Mamba-2: a gated state-space sublayer on packed rows (Dao and Gu, 2024, arXiv:2405.21060)."""

from typing import NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from counterpoint.layers.mamba.conv import ConvWeights, causal_conv
from counterpoint.layers.mamba.fused import convolve, has_conv_kernel, has_kernels, scan_and_skip
from counterpoint.layers.mamba.scan import scan
from counterpoint.layers.mamba.spec import MambaConfig
from counterpoint.models.batch import TextBatch
from counterpoint.models.linear import Linear, OutputLinear
from counterpoint.models.seams import Cheap, Enter, Fusible, Mix, Trade, Wide, widened
from counterpoint.models.segments import Segments


class Streams(NamedTuple):
    """Per-row inputs of the recurrence: x (rows, heads, head_dim), b and c (rows, groups, state), step and decay
    (rows, heads)."""

    x: Tensor
    b: Tensor
    c: Tensor
    step: Tensor
    decay: Tensor


class Filters(NamedTuple):
    """Weights of the recurrence: x (heads, head_dim, width + 1), b and c (groups, state, width + 1), whose last column
    is the convolution's bias, and the skip (heads,)."""

    x: Tensor
    b: Tensor
    c: Tensor
    skip: Tensor


@final
class Mamba(nn.Module):
    """Maps normed rows (rows, hidden) -> (rows, hidden) by `project`, `recur` and `leave`; states are reset at each
    document.

    The numbers of heads and groups follow from the shapes of the weights, so a shard computes its share of the heads.
    """

    def __init__(self, hidden: int, section: MambaConfig, norm_eps: float) -> None:
        super().__init__()
        self.head_dim, self.state = section.head_dim, section.state
        self.enter = Enter()
        self.z = Linear(hidden, section.inner, bias=False)
        self.x = Linear(hidden, section.inner, bias=False)
        self.b = Linear(hidden, section.groups * section.state, bias=False)
        self.c = Linear(hidden, section.groups * section.state, bias=False)
        self.dt = Linear(hidden, section.heads, bias=False)
        self.x_conv = ConvWeights(section.inner, section.conv)
        self.b_conv = ConvWeights(section.groups * section.state, section.conv)
        self.c_conv = ConvWeights(section.groups * section.state, section.conv)
        self.dynamics = Dynamics(section.heads, section.dt_min)
        self.mix: nn.Module = MambaMix(section.chunk, groups=section.groups, heads=section.heads)
        self.norm = GatedNorm(section.inner, section.inner // section.groups, norm_eps)
        self.o = OutputLinear(section.inner, hidden, bias=False)

    def project(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Normed rows (rows, hidden) -> x, b, c, dt and the gate z, each (rows, columns)."""
        x, b, c, dt, z = self.enter.products(rows, self.x, self.b, self.c, self.dt, self.z)
        return x, b, c, dt, z

    def recur(self, x: Tensor, b: Tensor, c: Tensor, dt: Tensor, batch: TextBatch) -> Tensor:
        """The convolved and mixed rows, (rows, inner)."""
        step, decay, skip = self.dynamics(dt)
        streams = Streams(_split(x, self.head_dim), _split(b, self.state), _split(c, self.state), step, decay)
        filters = Filters(
            _filter(self.x_conv, self.head_dim),
            _filter(self.b_conv, self.state),
            _filter(self.c_conv, self.state),
            skip,
        )
        mixed: Tensor = self.mix((*streams, *filters), batch.segments)
        return mixed.flatten(1)

    def leave(self, mixed: Tensor, z: Tensor) -> Tensor:
        """Mixed rows and their gate, (rows, inner) -> (rows, hidden)."""
        out: Tensor = self.o(self.norm(mixed, z))
        return out


@final
class Dynamics(Wide, Fusible):
    """The time step and decay of each head's state: step = softplus(dt + bias), decay = -exp(a_log) step.

    Steps are clamped to at least `dt_min`, without a gradient where that applies.
    """

    regions = ("steps",)

    def __init__(self, heads: int, dt_min: float | None) -> None:
        super().__init__()
        self.dt_min = dt_min
        self.a_log = nn.Parameter(torch.empty(heads))
        self.dt_bias = nn.Parameter(torch.empty(heads))
        self.d = nn.Parameter(torch.empty(heads))

    def forward(self, dt: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """dt (rows, heads) -> step and decay (rows, heads), and the skip d (heads,), all in at least float32."""
        # A copy, because FSDP may free the parameter when this submodule has run.
        return *self.steps(dt), self.d.clone()

    def steps(self, dt: Tensor) -> tuple[Tensor, Tensor]:
        """dt (rows, heads) -> step and decay."""
        step = F.softplus(widened(dt) + self.dt_bias)
        if self.dt_min is not None:
            step = step.clamp(min=self.dt_min)
        return step, -self.a_log.exp() * step


@final
class MambaMix(Mix[Segments], Fusible):
    """The core of Mamba-2: streams and filters -> (rows, heads, head_dim)."""

    regions = ("mixed",)
    trades = (
        *(Trade.HEADS, Trade.GROUPS, Trade.GROUPS, Trade.HEADS, Trade.HEADS),
        *(Trade.WEIGHTS, Trade.WEIGHTS, Trade.WEIGHTS, Trade.WEIGHTS),
    )

    def __init__(self, chunk: int, *, groups: int, heads: int) -> None:
        super().__init__(groups=groups, heads=heads)
        self.chunk = chunk
        self.convolve = Convolve()

    def forward(self, inputs: tuple[Tensor, ...], segments: Segments) -> Tensor:
        padding = inputs[0].shape[0] - segments.document.shape[0]
        document = F.pad(segments.document, (0, padding), value=len(segments.lengths))
        if has_kernels(inputs[0], inputs[1], inputs[5]):
            *streams, step, decay = inputs[:5]
            x, b, c = (self.convolve(*pair, document) for pair in zip(streams, inputs[5:8], strict=True))
            return scan_and_skip(x, b, c, step, decay, inputs[8], document)
        return self.mixed(*inputs, document)

    def mixed(self, *given: Tensor) -> Tensor:
        """Streams and filters, and the document of each row, int64 (rows,)."""
        streams, filters, document = Streams(*given[:5]), Filters(*given[5:-1]), given[-1]
        x, b, c = (self.convolve(*pair, document) for pair in zip(streams[:3], filters[:3], strict=True))
        mixed = scan(x, b, c, streams.step, streams.decay, document, self.chunk)
        out: Tensor = mixed + x * filters.skip[:, None].to(x.dtype)
        return out


@final
class Convolve(Cheap):
    """Streams (rows, n, width), filters (n, width, columns) and document numbers -> convolved streams."""

    what = "convs"

    def forward(self, rows: Tensor, kernel: Tensor, document: Tensor) -> Tensor:
        if has_conv_kernel(rows, kernel):
            return convolve(rows, kernel, document)
        weight, bias = kernel[..., :-1].flatten(0, 1), kernel[..., -1].flatten()
        return causal_conv(rows.flatten(1), weight, bias, document).view_as(rows)


@final
class GatedNorm(nn.Module):
    """RMS norm of rows * silu(gate) within each group of `group` channels."""

    def __init__(self, channels: int, group: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels))
        self.group, self.eps = group, eps

    def forward(self, rows: Tensor, gate: Tensor) -> Tensor:
        grouped = _split(rows * F.silu(gate), self.group)
        return F.rms_norm(grouped, (self.group,), eps=self.eps).flatten(1) * self.weight


def _split(rows: Tensor, width: int) -> Tensor:
    return rows.view(rows.shape[0], rows.shape[1] // width, width)


def _filter(conv: ConvWeights, width: int) -> Tensor:
    columns = torch.cat((conv.weight, conv.bias[:, None]), dim=1)
    return columns.view(columns.shape[0] // width, width, columns.shape[1])
