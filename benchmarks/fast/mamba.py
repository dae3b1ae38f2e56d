"""The hand-written kernels of Mamba-2's convolution and scan against the plain formulas in float64."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from counterpoint.layers.mamba.fused import has_kernels
from counterpoint.layers.mamba.sublayer import MambaMix
from counterpoint.models.segments import Segments

from .rows import (
    BF16_GRADIENT,
    BF16_OUT,
    BF16_WEIGHTS,
    FLOAT32,
    Case,
    Row,
    Values,
    compare,
    not_finite,
    relative,
    worst,
)


@dataclass(frozen=True)
class Sizes:
    """Rows in documents of these lengths, with padding after them; heads and their width, groups, state, filter."""

    lengths: tuple[int, ...]
    padding: int = 0
    heads: int = 8
    width: int = 64
    groups: int = 2
    state: int = 128
    taps: int = 4

    @property
    def rows(self) -> int:
        """All rows."""
        return sum(self.lengths) + self.padding


CASES = {
    "one document": Sizes((4096,)),
    "packed": Sizes((1, 700, 0, 64, 63, 2500, 3), 37),
    "ends inside a chunk": Sizes((130, 67)),
    "less than a chunk": Sizes((3, 2), 1),
    "one row": Sizes((1,)),
    "one group, narrow": Sizes((300, 211), 5, heads=3, width=16, groups=1, state=16, taps=3),
    "wide": Sizes((200, 57), 7, heads=4, width=128, groups=4, state=64, taps=2),
}


def rows(device: torch.device) -> Iterator[Row]:
    """All cases in the dtypes that there are kernels for, or on a CPU in float32 without any."""
    dtypes = (torch.bfloat16,) if device.type == "cuda" else (torch.float32,)
    for dtype in dtypes:
        yield from compare(_cases(device, dtype))


def _cases(device: torch.device, dtype: torch.dtype) -> Iterator[Case]:
    for name, sizes in CASES.items():
        shape = f"{sizes.rows} x {sizes.heads} x {sizes.width}, state {sizes.state}, {sizes.taps} taps"

        def work(sizes: Sizes = sizes) -> tuple[str, Values]:
            return "", _values(sizes, device, dtype)

        yield f"Mamba-2, {str(dtype).removeprefix('torch.')}, {name}", shape, work


def _values(sizes: Sizes, device: torch.device, dtype: torch.dtype) -> Values:
    mix = MambaMix(64, groups=sizes.groups, heads=sizes.heads)
    segments = Segments.build(sizes.lengths, sizes.rows, device)
    inputs = _inputs(sizes, device, dtype)
    generator = torch.Generator(device).manual_seed(1)
    used = sum(sizes.lengths)
    gradient = torch.randn(inputs[0].shape, generator=generator, device=device).to(dtype)
    gradient[used:] = 0
    # No loss but in the first half of the rows: nothing, to the last bit, may reach the documents after these.
    gradient[used // 2 + 1 :] = 0
    served = has_kernels(inputs[0], inputs[1], inputs[5])
    found, expected = (_run(mix, given, segments, gradient) for given in (inputs, [one.double() for one in inputs]))
    is_narrow = dtype != torch.float32
    out, bound, weights = (BF16_OUT, BF16_GRADIENT, BF16_WEIGHTS) if is_narrow else (FLOAT32, FLOAT32, FLOAT32)
    return {
        "without kernels": (float(is_narrow and not served), 0.0),
        "not finite": (not_finite([found[0][:used], *found[1:]]), 0.0),
        "behind the loss": (sum(float(one[used // 2 + 1 :].count_nonzero()) for one in found[1:6]), 0.0),
        "out": (relative(found[0][:used], expected[0][:used]), out),
        "streams": (worst(found[1:4], expected[1:4]), bound),
        "steps": (worst(found[4:6], expected[4:6]), weights),
        "filters": (worst(found[6:], expected[6:]), weights),
    }


def _inputs(sizes: Sizes, device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    """Streams and filters; padding has large values, which must reach nothing."""
    generator = torch.Generator(device).manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    rows, used = sizes.rows, sum(sizes.lengths)
    streams = [draw(rows, sizes.heads, sizes.width), *(draw(rows, sizes.groups, sizes.state) for _ in "bc")]
    for stream in streams:
        stream[used:] = 1e4
    filters = [draw(sizes.heads, sizes.width, sizes.taps + 1)]
    filters += [0.3 * draw(sizes.groups, sizes.state, sizes.taps + 1) for _ in "bc"]
    step = torch.nn.functional.softplus(draw(rows, sizes.heads) - 3)
    decay = -step * (1 + 15 * torch.rand(sizes.heads, generator=generator, device=device))
    return [*(one.to(dtype) for one in streams), step, decay, *(one.to(dtype) for one in filters), draw(sizes.heads)]


def _run(mix: MambaMix, given: list[Tensor], segments: Segments, gradient: Tensor) -> list[Tensor]:
    """What is mixed, and the gradients of all inputs."""
    inputs = [one.detach().requires_grad_() for one in given]
    out = mix(tuple(inputs), segments)
    return [out.detach(), *torch.autograd.grad(out, inputs, gradient.to(out.dtype))]
