"""One comparison: what was compared, how far it is from float64, and what it is held to."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

BF16_OUT, BF16_GRADIENT = 1e-2, 2e-2
"""bfloat16 rounds to 8 bits, by 2^-8 = 3.9e-3 at most and half of that in the mean. What leaves attention or a layer is
rounded about twice on its way (probabilities or a product, and itself), a gradient about five times; so 2.5 and 5 times
the largest rounding. A wrong mask, border, group of heads or factor is off by tenths."""

BF16_WEIGHTS = 3e-2
"""The worst gradient of a weight of a layer, or all of a module of a few: behind further products, of terms that in
part cancel."""

FLOAT32 = 5e-5
"""Sums of some thousand products in float32 (2^-24 = 6e-8 each, growing with the root of their number), with room;
TF32, which nobody asked for, is off by more."""

FLOAT64 = 1e-9
"""As `verify` has it."""


@dataclass(frozen=True)
class Row:
    """A path and a case of it: named values, each with the bound that it must not exceed.

    `words` say why a row failed without values, or, where `is_left_out`, why it was not compared.
    """

    what: str
    shape: str
    values: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    words: str = ""
    is_left_out: bool = False
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether everything was compared and is within its bound; NaN is not."""
        return self.is_left_out or (bool(self.values) and all(value <= bound for value, bound in self.values.values()))

    @property
    def status(self) -> str:
        """ok, FAIL or left out."""
        return "left out" if self.is_left_out else "ok" if self.holds else "FAIL"

    def text(self) -> str:
        """The row as one line, without the counts that are zero and have to be."""
        shown = [(name, value, bound) for name, (value, bound) in self.values.items() if value or bound]
        found = "  ".join(f"{name} {_number(value)}/{_number(bound)}" for name, value, bound in shown)
        words = f"  {self.words}" if self.words else ""
        return f"{self.status:<8}  {self.what:<44} {self.shape:<46} {found}{words}"

    def fields(self) -> dict[str, Any]:
        """The row as plain data, of which Row makes it again."""
        return asdict(self)

    def record(self) -> dict[str, Any]:
        """The row as plain data that says whether it holds."""
        return self.fields() | {"status": self.status}


def _number(value: float) -> str:
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.1e}"


Values = dict[str, tuple[float, float]]
Case = tuple[str, str, Callable[[], tuple[str, Values]]]
"""What, shape, and the comparison: what is to be added to `what`, such as the kernel that ran, and the values."""


def compare(cases: Iterator[Case]) -> Iterator[Row]:
    """Run cases; one that raises is a row that failed, and the next ones run all the same."""
    for what, shape, work in cases:
        started = time.monotonic()
        try:
            added, values = work()
            words, what = "", f"{what}{added}"
        except Exception as error:  # What a kernel or compiler refuses is a result.
            values, words = {}, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        yield Row(what, shape, values, words, seconds=round(time.monotonic() - started, 2))


def left_out(what: str, why: str) -> Row:
    """A row for what this machine cannot compare."""
    return Row(what, "", words=why, is_left_out=True)


def relative(found: Tensor, reference: Tensor, floor: float = 0.0) -> float:
    """The norm of the difference over that of the reference, or over `floor` if that is larger; 0 of nothing."""
    assert found.shape == reference.shape, f"{tuple(found.shape)} is compared with {tuple(reference.shape)}"
    difference = float((found.double() - reference).norm())
    size = max(float(reference.norm()), floor)
    if difference == 0.0:
        return 0.0
    return difference / size if size else math.inf


def worst(found: list[Tensor], reference: list[Tensor], share: float = 1e-2) -> float:
    """The largest relative difference of several gradients, each measured against at least a share of the largest one:
    some are zero by mathematics."""
    largest = max((float(one.norm()) for one in reference), default=0.0)
    return max((relative(a, b, share * largest) for a, b in zip(found, reference, strict=True)), default=0.0)


def not_finite(tensors: list[Tensor]) -> float:
    """How many values are not finite."""
    return float(sum(int((~torch.isfinite(tensor)).sum()) for tensor in tensors))


def device_of(name: str) -> torch.device:
    """The device of that name, made the current one."""
    device = torch.device(name)
    if device.type == "cuda":
        device = torch.device("cuda", device.index or 0)
        torch.cuda.set_device(device)
    return device
