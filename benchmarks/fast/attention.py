"""Attention's kernels against one document after the other in float64."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend

from counterpoint.layers.attention import kernels, sublayer
from counterpoint.layers.attention.kernels import Scores
from counterpoint.layers.attention.sublayer import attend
from counterpoint.models.segments import Segments, Windows

from .rows import BF16_GRADIENT, BF16_OUT, Case, Row, Values, compare, left_out, not_finite, relative

RAGGED = (0, 1, 777, 0, 3000, 130, 1500, 2200, 64, 2, 0, 395)
SHORT = (0, 1, 7, 0, 30, 13, 2, 0, 4)
PADDING = 77
LAID = ((RAGGED, PADDING), (RAGGED, 0), ((1, 1, 5), 3), ((500,), 3000), ((0, 640), 1))
"""Lengths of packed documents and rows behind them, of which there are more than in any document in one case."""
SHORT_LAID = ((SHORT, 9), (SHORT, 0), ((1, 1, 5), 3), ((5,), 30), ((0, 6), 1))
CAUSAL, FULL, SCALED = Scores(causal=True), Scores(causal=False), Scores(causal=True, scale=0.1)
NARROW, SHORT_NARROW = Scores(causal=True, window=200, scale=0.1), Scores(causal=True, window=4, scale=0.1)
WORDS = {CAUSAL: "causal", FULL: "full", SCALED: "scaled", NARROW: "windows", SHORT_NARROW: "windows"}
"""What rows see, and how it is called; windows have a scale of their own, too."""
ODD = 12
"""A width of heads that is no multiple of 8."""

POISON = 100.0
"""What padding rows are multiplied by to see whether anything of them arrives. Of much larger ones, scores in float32
are too coarse for a backward that computes them a second time, whatever the kernel."""

UNMOVED = {"out": 1e-6, "gradient": 1e-3}
"""How far documents may move when padding does: the forward not at all; backward kernels add up in any order, which
rounds one value in some thousands to its neighbour."""


@dataclass(frozen=True)
class Heads:
    """Heads of queries, heads of keys and values, and their width."""

    queries: int
    keys: int
    dim: int

    def __str__(self) -> str:
        grouped = f"{self.queries}/{self.keys}" if self.queries != self.keys else str(self.queries)
        return f"{grouped} x {self.dim}"


Inputs = tuple[Tensor, Tensor, Tensor, Tensor]
"""Queries, keys, values, and the gradient of what comes out."""


def rows_without_flash_four(device: torch.device, dim: int) -> Iterator[Row]:
    """cuDNN's dense kernel, torch's packed one and padded documents, of one width of heads."""
    with patch.object(kernels, "_flash_four", lambda: None):
        yield from compare(_dense(device, dim, "dense"))
        if device.type == "cuda":
            yield from compare(_packed(device, dim, "packed, torch's varlen", "varlen"))
        else:
            yield left_out(f"packed, torch's varlen, dim {dim}", "needs a GPU")
        yield from compare(_padded(device, dim))


def rows_with_flash_four(device: torch.device, dim: int) -> Iterator[Row]:
    """FlashAttention 4 where it is chosen, of one width of heads."""
    if device.type != "cuda" or kernels._flash_four() is None:
        why = "needs a GPU" if device.type != "cuda" else "FlashAttention 4 is not installed, or not for this GPU"
        yield left_out(f"FlashAttention 4, dim {dim}", why)
        return
    yield from compare(_packed(device, dim, "packed", "FlashAttention 4"))
    yield from compare(_dense(device, dim, "dense", "FlashAttention 4"))


def _groups(device: torch.device, dim: int) -> list[Heads]:
    if device.type != "cuda":
        return [Heads(4, 2, dim)]
    return [Heads(16, 8, 128), Heads(4, 2, 128)] if dim == 128 else [Heads(8, 8, dim)]


def _dense(device: torch.device, dim: int, what: str, kernel: str = "") -> Iterator[Case]:
    """Equal documents that fill the rows; with a kernel, only what it is chosen for, and it must be."""
    lengths: Sequence[tuple[int, int, Scores]] = (
        (4, 1024, CAUSAL),
        (4, 1024, FULL),
        (1, 2048, CAUSAL),
        (2, 3000, FULL),
    )
    lengths = (*lengths, (2, 4096, CAUSAL), (8, 1, CAUSAL), (8, 1, FULL), (1, 333, CAUSAL))
    if device.type != "cuda":
        lengths = ((3, 16, CAUSAL), (3, 16, FULL), (8, 1, CAUSAL), (1, 7, FULL))
    if kernel and dim in kernels._CUDNN_WIDTHS:
        lengths = [one for one in lengths if one[2].causal and one[1] >= kernels._LONG]
    for heads in _groups(device, dim):
        for documents, length, scores in lengths:
            work = _case(device, heads, [length] * documents, 0, scores, kernel)
            yield f"{what}, {WORDS[scores]}", f"{documents} x {length}, {heads}", work


def _packed(device: torch.device, dim: int, what: str, kernel: str) -> Iterator[Case]:
    of_kernel = (NARROW, SCALED) if kernel == "varlen" else (SCALED,)
    for heads in _groups(device, dim):
        for scores in (CAUSAL, FULL, *of_kernel):
            for lengths, padding in LAID if device.type == "cuda" else SHORT_LAID:
                shape = f"{_words(lengths)} + {padding}, {heads}"
                yield f"{what}, {WORDS[scores]}", shape, _case(device, heads, lengths, padding, scores, kernel)


def _padded(device: torch.device, dim: int) -> Iterator[Case]:
    """What is chosen where documents are not known by their borders: windows, and runs that are deterministic."""
    lengths = RAGGED if device.type == "cuda" else SHORT
    heads = _groups(device, dim)[0]
    for scores in (CAUSAL, FULL, NARROW if device.type == "cuda" else SHORT_NARROW):
        shape = f"{_words(lengths)} + {PADDING}, {heads}"
        work = _case(device, heads, lengths, PADDING, scores, "", as_windows=True)
        yield f"padded, {WORDS[scores]}", shape, work
    odd = Heads(4, 2, ODD)
    yield (
        "heads too odd for kernels",
        f"{_words(lengths)} + {PADDING}, {odd}",
        _case(device, odd, lengths, PADDING, CAUSAL, ""),
    )
    yield "no documents", f"0 + {PADDING}, {heads}", _case(device, heads, (0, 0), PADDING, CAUSAL, "")


def _words(lengths: Sequence[int]) -> str:
    return f"{len(lengths)} documents of {sum(lengths)}"


def _case(
    device: torch.device,
    heads: Heads,
    lengths: Sequence[int],
    padding: int,
    scores: Scores,
    kernel: str,
    *,
    as_windows: bool = False,
) -> Callable[[], tuple[str, Values]]:
    def work() -> tuple[str, Values]:
        inputs = _inputs(device, heads, sum(lengths) + padding)
        segments: Segments | Windows = Segments.build(lengths, sum(lengths) + padding, device)
        if as_windows:
            starts = list(accumulate(lengths, initial=0))
            segments = Windows.build([torch.arange(a, b) for a, b in pairwise(starts)]).to(device)
        with _noting() as ran:
            found = _attend(inputs, segments, scores)
        if kernel and ran != {kernel}:
            raise ValueError(f"the kernel that ran is {sorted(ran)}, expected {kernel}")
        values = _against_float64(found, inputs, lengths, scores)
        if padding:
            moved = _attend(_poisoned(inputs, sum(lengths)), segments, scores)
            values |= _unmoved(found, moved, sum(lengths))
        return f": {' and '.join(sorted(ran)) or 'no kernel'}", values

    return work


def _inputs(device: torch.device, heads: Heads, rows: int) -> Inputs:
    generator = torch.Generator(device).manual_seed(rows + heads.dim)

    def draw(count: int) -> Tensor:
        shape = (rows, count, heads.dim)
        return torch.randn(shape, generator=generator, device=device).bfloat16()

    return draw(heads.queries), draw(heads.keys), draw(heads.keys), draw(heads.queries)


def _poisoned(inputs: Inputs, used: int) -> Inputs:
    """The same with rows behind the documents that are large."""
    q, k, v, gradient = (torch.cat((tensor[:used], tensor[used:] * POISON)) for tensor in inputs)
    return q, k, v, gradient


def _attend(inputs: Inputs, segments: Segments | Windows, scores: Scores) -> list[Tensor]:
    """What comes out, and the gradients of queries, keys and values."""
    *given, gradient = (tensor.clone() for tensor in inputs)
    leaves = [tensor.requires_grad_() for tensor in given]
    out = attend(leaves[0], leaves[1], leaves[2], segments, scores)
    return [out.detach(), *torch.autograd.grad(out, leaves, gradient)]


def _against_float64(found: list[Tensor], inputs: Inputs, lengths: Sequence[int], scores: Scores) -> Values:
    """Differences over all documents or in the worst of them alone, whichever is larger."""
    names, used = ("out", "q", "k", "v"), sum(lengths)
    whole = _Worst()
    pieces: list[list[Tensor]] = []
    starts = list(accumulate(lengths, initial=0))
    for start, end in pairwise(starts):
        if end > start:
            pieces.append(alone(tuple(tensor[start:end] for tensor in inputs), scores))
    joined = [torch.cat(parts) for parts in zip(*pieces)]
    values: Values = {"not finite": (not_finite(found), 0.0)}
    if not joined:
        return values | {name: (float(one.double().norm()), 0.0) for name, one in zip(names, found)}
    filled = [(a, b) for a, b in pairwise(starts) if b > a]
    # Gradients of queries and keys of single rows are zero by mathematics.
    largest = max(float(one.norm()) for one in joined[1:])
    for name, one, reference in zip(names, found, joined, strict=True):
        size = max(float(reference.norm()), 1e-2 * largest if name in "qk" else 0.0)
        whole.note(relative(one[:used], reference, size))
        for a, b in filled:
            whole.note(relative(one[a:b], reference[a:b], 0.1 * size * ((b - a) / used) ** 0.5))
        values[name] = (whole.take(), BF16_OUT if name == "out" else BF16_GRADIENT)
    return values


class _Worst:
    """The largest of values that are noted; NaN is larger than all."""

    def __init__(self) -> None:
        self._values: list[float] = []

    def note(self, value: float) -> None:
        """Add one."""
        self._values.append(value)

    def take(self) -> float:
        """The largest since the last time."""
        values, self._values = self._values, []
        return max(values, key=lambda value: (value != value, value))


def alone(inputs: Sequence[Tensor], scores: Scores) -> list[Tensor]:
    """Attention of one document as the paper has it, in float64, and the gradients of queries, keys and values."""
    *given, gradient = (tensor.double() for tensor in inputs)
    q, k, v = leaves = [tensor.requires_grad_() for tensor in given]
    repeats = q.shape[1] // k.shape[1]
    keys, values = (tensor.repeat_interleave(repeats, dim=1).transpose(0, 1) for tensor in (k, v))
    scale = q.shape[2] ** -0.5 if scores.scale is None else scores.scale
    products = q.transpose(0, 1) @ keys.transpose(1, 2) * scale
    pairs = torch.ones(q.shape[0], q.shape[0], dtype=torch.bool, device=q.device)
    if scores.causal:
        products = products.masked_fill(pairs.triu(1), -torch.inf)
    if scores.window is not None:
        products = products.masked_fill(pairs.tril(-scores.window), -torch.inf)
    out = (products.softmax(dim=2) @ values).transpose(0, 1)
    return [out.detach(), *torch.autograd.grad(out, leaves, gradient)]


def _unmoved(found: list[Tensor], moved: list[Tensor], used: int) -> Values:
    """What of large padding arrives in documents."""
    out, *gradients = ((a[:used].double(), b[:used]) for a, b in zip(found, moved, strict=True))
    leaked = max(relative(b, a) for a, b in gradients) if used else 0.0
    return {
        "not finite, padding large": (not_finite(moved), 0.0),
        "moved by padding": (relative(out[1], out[0]) if used else 0.0, UNMOVED["out"]),
        "gradients moved": (leaked, UNMOVED["gradient"]),
    }


@contextmanager
def _noting() -> Iterator[set[str]]:
    """The names of the attention kernels that run meanwhile."""
    ran: set[str] = set()
    flash_four, varlen = kernels._flash_four, kernels.attend_varlen
    torchs = _Torchs(ran)
    with (
        patch.object(kernels, "_flash_four", lambda: _noted(flash_four(), ran)),
        patch.object(sublayer, "attend_varlen", _calling(varlen, "varlen", ran)),
        patch.object(kernels, "F", torchs),
        patch.object(sublayer, "F", torchs),
    ):
        yield ran


def _calling(function: Callable[..., Any], name: str, ran: set[str]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        ran.add(name)
        return function(*arguments, **options)

    return call


class _Noted:
    """FlashAttention's module, whose calls are noted."""

    def __init__(self, four: Any, ran: set[str]) -> None:
        self._flash_attn_fwd = _calling(four._flash_attn_fwd, "FlashAttention 4", ran)
        self._flash_attn_bwd = four._flash_attn_bwd


def _noted(four: Any, ran: set[str]) -> _Noted | None:
    return None if four is None else _Noted(four, ran)


class _Torchs:
    """torch's attention, which notes what it chooses."""

    pad = staticmethod(F.pad)

    def __init__(self, ran: set[str]) -> None:
        self._ran = ran

    def scaled_dot_product_attention(self, q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
        """As torch's."""
        choice = SDPBackend(torch._fused_sdp_choice(q, k, v, **options))
        self._ran.add(choice.name.lower().removesuffix("_attention"))
        return F.scaled_dot_product_attention(q, k, v, **options)
