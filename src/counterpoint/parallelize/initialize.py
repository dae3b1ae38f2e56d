"""Initial values independent of the layout: each element is a function of (seed, name, index).

The arithmetic is exact integer work up to one multiplication, so a value has the same bits in every block, on
every device and in every version of torch.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from counterpoint.parallelize.blocks import Block
from counterpoint.plan.sizes import CustomSizes, ModelSizes

_GOLDEN = 0x9E3779B97F4A7C15
_FIRST_FACTOR = 0xBF58476D1CE4E5B9
_SECOND_FACTOR = 0x94D049BB133111EB
"""The constants of splitmix64 (Steele, Lea and Flood, 2014)."""

_DRAWS_PER_ELEMENT = 2
_DIGITS_PER_DRAW = 4
_DIGIT_BITS = 16
_UNUSED_BITS = 12
"""Low bits of a draw that a float64 between 0 and 1 has no place for."""

_ELEMENTS_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True)
class Initial:
    """Normal around `mean`; `residual` divides `std` by the root of the number of residual sums.

    With `of_uniform` an element is that function of a number drawn evenly between 0 and 1 instead, with `of_place` that
    of its row, its column and the number of columns.
    """

    pattern: str
    mean: float = 0.0
    std: float = 0.0
    residual: bool = False
    of_uniform: Callable[[float], float] | None = None
    of_place: Callable[[int, int, int], float] | None = None

    def std_at(self, residual_sums: int) -> float:
        """The standard deviation in a model that adds `residual_sums` sublayers to its rows."""
        return self.std / math.sqrt(residual_sums) if self.residual else self.std


def _decay_rate(share: float) -> float:
    """The logarithm of a rate between 1 and 16, as Mamba-2's authors draw it (arXiv:2405.21060)."""
    return math.log(1.0 + 15.0 * share)


def _step_bias(share: float) -> float:
    """What softplus maps to a step between 0.001 and 0.1, even on a logarithmic scale (arXiv:2312.00752)."""
    step = math.exp(math.log(0.001) + share * (math.log(0.1) - math.log(0.001)))
    return step + math.log(-math.expm1(-step))


def _sinusoid(row: int, column: int, columns: int) -> float:
    """Sines in the left half and cosines in the right one, of wavelengths from 2 pi to 20,000 pi (arXiv:2212.04356)."""
    half = columns // 2
    angle = row * math.exp(-math.log(10000.0) * (column % half) / max(1, half - 1))
    return math.sin(angle) if column < half else math.cos(angle)


INITIAL_VALUES = (
    Initial("*.bias"),
    Initial("*norm.weight", mean=1.0),
    Initial("*_scale.weight", mean=1.0),
    Initial("*.dynamics.a_log", of_uniform=_decay_rate),
    Initial("*.dynamics.dt_bias", of_uniform=_step_bias),
    Initial("*.dynamics.d", mean=1.0),
    Initial("embed.times.weight", of_place=_sinusoid),
    # The deviation of torch's own uniform filters of 3 x 3, or of width 9, and of width 4.
    Initial("embed.first.weight", std=0.19),
    Initial("*.depthwise.weight", std=0.19),
    Initial("*_conv.weight", std=0.29),
    Initial("*layers.*.o.weight", std=0.02, residual=True),
    Initial("*layers.*.down.weight", std=0.02, residual=True),
    Initial("*layers.*.experts.down", std=0.02, residual=True),
    Initial("*", std=0.02),
)
"""The first pattern that fits a parameter's name decides."""


def initial_values(sizes: ModelSizes) -> Sequence[Initial]:
    """The rules of a model's initial values, by names in it; in a registered module gains are ones."""
    if not isinstance(sizes, CustomSizes):
        return INITIAL_VALUES
    given = [Initial(f"embed.tower.{pattern}", mean, std) for pattern, mean, std in sizes.initial]
    is_gain = [name for name, shape in sizes.parameters if len(shape) == 1 and name.rpartition(".")[2] == "weight"]
    gains = [Initial(f"embed.tower.{name}", mean=1.0) for name in is_gain]
    # Names of others mean nothing to our own rules but for biases.
    others = [Initial("embed.tower.*bias"), Initial("embed.tower.*", std=0.02)]
    return (*given, *gains, *others, *INITIAL_VALUES)


def initialize_(
    local: Tensor,
    block: Block,
    seed: int,
    module: str,
    residual_sums: int,
    rules: Sequence[Initial] = INITIAL_VALUES,
) -> None:
    """Fill a local tensor, in place, with the initial values of its block and zeros in its padding.

    `block.name` is the parameter's name in `module`; both are hashed, so equal names in two modules differ. The first
    of `rules` that fits the name decides.
    """
    initial = next(rule for rule in rules if fnmatchcase(block.name, rule.pattern))
    std = initial.std_at(residual_sums)
    local.zero_()
    inside = local[block.local_slices]
    if initial.of_place is not None:
        inside.copy_(_of_place(initial.of_place, block))
        return
    if std == 0.0 and initial.of_uniform is None:
        inside.fill_(initial.mean)
        return
    key = _key(seed, f"{module}.{block.name}")
    if initial.of_uniform is not None:
        # On the CPU and by the C library's functions, one by one: these are a number or two for each head.
        shares = _uniform(key, _indices(block, 0, inside.cpu())).tolist()
        inside.copy_(torch.tensor([initial.of_uniform(share) for share in shares], dtype=torch.float64))
        return
    for start in range(0, inside.shape[0], _rows_at_once(block)):
        piece = inside[start : start + _rows_at_once(block)]
        piece.copy_(initial.mean + std * _standard_normal(key, _indices(block, start, piece)))


def _of_place(function: Callable[[int, int, int], float], block: Block) -> Tensor:
    """A block of a matrix, float64, by the C library's functions element by element."""
    (first, left), (rows, columns) = block.offset, block.shape
    width = block.global_shape[1]
    places = ((row, column) for row in range(first, first + rows) for column in range(left, left + columns))
    values = [function(row, column, width) for row, column in places]
    return torch.tensor(values, dtype=torch.float64).view(rows, columns)


def initialize_buffer_(buffer: Tensor, name: str) -> None:
    """Fill a buffer of a module, in place: variances are one, everything else begins at zero."""
    buffer.fill_(1.0 if name.endswith(".variance") else 0.0)


def _rows_at_once(block: Block) -> int:
    return max(1, _ELEMENTS_AT_ONCE // max(1, math.prod(block.shape[1:])))


def _indices(block: Block, start: int, piece: Tensor) -> Tensor:
    """The global, row-major element indices of a slab of the block that begins at its row `start`."""
    offsets = (block.offset[0] + start, *block.offset[1:])
    total = torch.zeros((), dtype=torch.int64, device=piece.device)
    for dim, (offset, extent) in enumerate(zip(offsets, piece.shape, strict=True)):
        stride = math.prod(block.global_shape[dim + 1 :])
        steps = torch.arange(offset, offset + extent, device=piece.device) * stride
        total = total[..., None] + steps
    return total


def _key(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest(), "little")


def _uniform(key: int, indices: Tensor) -> Tensor:
    """Float64 values in (0, 1) for int64 element indices."""
    bits = _splitmix(indices * _DRAWS_PER_ELEMENT, key) >> _UNUSED_BITS & (2 ** (64 - _UNUSED_BITS) - 1)
    shares: Tensor = (bits.double() + 0.5) * 2.0 ** -(64 - _UNUSED_BITS)
    return shares


def _standard_normal(key: int, indices: Tensor) -> Tensor:
    """Float64 values of mean 0 and variance 1 for int64 element indices.

    A sum of eight 16-bit digits is close to normal out to 4 standard deviations, and unlike Box-Muller it
    needs no function that differs by a last bit between devices.
    """
    total = torch.zeros_like(indices)
    for draw in range(_DRAWS_PER_ELEMENT):
        bits = _splitmix(indices * _DRAWS_PER_ELEMENT + draw, key)
        for digit in range(_DIGITS_PER_DRAW):
            total += (bits >> (digit * _DIGIT_BITS)) & (2**_DIGIT_BITS - 1)
    digits = _DRAWS_PER_ELEMENT * _DIGITS_PER_DRAW
    mean = digits * (2**_DIGIT_BITS - 1) / 2
    std = math.sqrt(digits * (4**_DIGIT_BITS - 1) / 12)
    normal: Tensor = (total.double() - mean) * (1.0 / std)
    return normal


def _splitmix(counter: Tensor, key: int) -> Tensor:
    """The outputs number `counter` of the splitmix64 stream that starts at `key`; int64 wraps as it must."""
    mixed = (counter + 1) * _signed(_GOLDEN) + _signed(key)
    mixed = (mixed ^ _shift_right(mixed, 30)) * _signed(_FIRST_FACTOR)
    mixed = (mixed ^ _shift_right(mixed, 27)) * _signed(_SECOND_FACTOR)
    last: Tensor = mixed ^ _shift_right(mixed, 31)
    return last


def _shift_right(bits: Tensor, places: int) -> Tensor:
    """Shift in zeros; torch's own shift of int64 copies the sign."""
    shifted: Tensor = (bits >> places) & (2 ** (64 - places) - 1)
    return shifted


def _signed(word: int) -> int:
    """The int64 that has the bits of an unsigned 64-bit word."""
    return word - 2**64 if word >= 2**63 else word
