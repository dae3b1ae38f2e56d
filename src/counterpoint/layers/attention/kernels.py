"""Which kernel computes attention: cuDNN's, FlashAttention's or torch's choice, by shape, as they were measured.

`benchmarks/kernels.py` measures them; docs/performance.md has the numbers. FlashAttention 4 comes with the extra `gpu`
and is used where it is installed; without it packed documents take torch's own kernel for them.
"""

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

Kernel = Literal["dense", "flash"]

_NARROW = (torch.bfloat16, torch.float16)

_LONG = 2048
"""Rows from which on FlashAttention 4 is ahead of cuDNN in causal attention of equal documents."""

_DENSE = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]

_ALIGNED, _WIDEST = 8, 256
"""torch's kernel for packed documents takes heads whose width is a multiple of the one and at most the other."""

FLASH_WIDTHS = (64, 128)
"""Widths of heads for which FlashAttention 4.0.0b36 was compared with float64 and is right; for 72 and 80 its gradients
of queries are wrong on Hopper (`benchmarks/fast_paths.py`)."""


class Scores(NamedTuple):
    """What a query makes of the keys of its document.

    It sees all of them, or, `causal`, those up to its own, of which a `window` leaves the last so many. Their products
    are multiplied by `scale`, None for 1 / sqrt(width of a head).
    """

    causal: bool
    window: int | None = None
    scale: float | None = None

    def narrow(self, rows: int) -> bool:
        """Whether the window leaves something out of a document of so many rows."""
        return self.window is not None and self.window < rows


class Lie(NamedTuple):
    """How documents lie that a kernel takes as they are: all of `length` rows, or between `borders`, int32 on the
    device, and none longer than `length`."""

    kernel: Kernel
    length: int
    borders: Tensor | None = None


def lie_evenly(rows: Tensor, width: int, length: int, scores: Scores) -> Lie | None:
    """Documents of one length that fill the rows, whose heads are so wide; None if no kernel takes them so."""
    if scores.narrow(length):
        return None
    is_flash = scores.causal and length >= _LONG and _has_flash(rows, width)
    return Lie("flash" if is_flash else "dense", length)


def lie_packed(rows: Tensor, width: int, borders: Tensor, longest: int, scores: Scores) -> Lie | None:
    """Documents of any lengths, packed one after the other; None if no kernel takes them so.

    FlashAttention 4 has windows, which were not compared with float64; torch's own kernel takes them (`attend_varlen`).
    """
    return Lie("flash", longest, borders) if _has_flash(rows, width) and not scores.narrow(longest) else None


def attend_lying(
    queries: Tensor, keys: Tensor, values: Tensor, kernel: Kernel, length: int, borders: Tensor | None, scores: Scores
) -> Tensor:
    """Attention of queries (rows, heads, dim) to keys and values (rows, kv_heads, dim) inside documents that lie so."""
    if borders is not None:
        packed: Tensor = _flash(queries, keys, values, borders, length, scores.causal, scores.scale)[0]
        return packed
    even = [tensor.view(-1, length, *tensor.shape[1:]) for tensor in (queries, keys, values)]
    if kernel == "flash":
        mixed: Tensor = _flash(*even, None, length, scores.causal, scores.scale)[0]
        return mixed.flatten(0, 1)
    q, k, v = (tensor.transpose(1, 2) for tensor in even)
    grouped = q.shape[1] != k.shape[1]
    dense = F.scaled_dot_product_attention(q, k, v, is_causal=scores.causal, scale=scores.scale, enable_gqa=grouped)
    return dense.transpose(1, 2).flatten(0, 1)


def has_varlen(queries: Tensor) -> bool:
    """Whether torch's kernel for packed documents takes such queries (rows, heads, dim)."""
    return _is_fast(queries) and queries.shape[-1] % _ALIGNED == 0 and queries.shape[-1] <= _WIDEST


def attend_varlen(
    queries: Tensor, keys: Tensor, values: Tensor, borders: Tensor, longest: int, scores: Scores
) -> Tensor:
    """Attention inside packed documents by torch's own kernel, which takes as many heads of keys as of queries."""
    from torch.nn.attention.varlen import varlen_attn

    repeats = queries.shape[1] // keys.shape[1]
    if repeats > 1:
        keys, values = (tensor.repeat_interleave(repeats, dim=1) for tensor in (keys, values))
    before = -1 if scores.window is None else scores.window - 1
    window = (before, 0 if scores.causal else -1)
    ends = (borders, borders, longest, longest)
    mixed = varlen_attn(queries, keys, values, *ends, scale=scores.scale, window_size=window)
    assert isinstance(mixed, Tensor)
    return mixed


@cache
def prefer_fast_kernels() -> object:
    """Let torch try cuDNN's kernel first, from now on in this process: it is the fastest of its own on Hopper.

    Deterministic runs keep torch's order. The cache holds the preference, so that nothing takes it back.
    """
    if torch.are_deterministic_algorithms_enabled():
        return None
    preference = sdpa_kernel(_DENSE, set_priority=True)
    preference.__enter__()
    return preference


def _is_fast(rows: Tensor) -> bool:
    """Whether the GPU's own kernels apply; their backwards add up in any order, so not to deterministic runs."""
    return rows.is_cuda and rows.dtype in _NARROW and not torch.are_deterministic_algorithms_enabled()


def _has_flash(rows: Tensor, width: int) -> bool:
    return _is_fast(rows) and width in FLASH_WIDTHS and _flash_four() is not None


@cache
def _flash_four() -> Any:
    """FlashAttention 4, if it is installed and this GPU is one that it is made for."""
    if torch.cuda.get_device_capability()[0] not in (9, 10):
        return None
    is_installed = find_spec("flash_attn") is not None and find_spec("flash_attn.cute") is not None
    return import_module("flash_attn.cute.interface") if is_installed else None


# An operation of its own, so that a compiler neither looks into the kernels nor breaks its graph at them.


@torch.library.custom_op("counterpoint::flash", mutates_args=())
def _flash(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    borders: Tensor | None,
    longest: int,
    causal: bool,
    scale: float | None,
) -> tuple[Tensor, Tensor]:
    """Attention, and the logarithms of its sums."""
    options = _options(borders, longest, causal, scale)
    mixed, sums, *_others = _flash_four()._flash_attn_fwd(queries, keys, values, **options, return_lse=True)
    return mixed, sums


def _options(borders: Tensor | None, longest: int, causal: bool, scale: float | None) -> dict[str, Any]:
    """What both of its directions are told."""
    options: dict[str, Any] = {"causal": causal, "softmax_scale": scale}
    if borders is not None:
        options |= {"cu_seqlens_q": borders, "cu_seqlens_k": borders, "max_seqlen_q": longest, "max_seqlen_k": longest}
    return options


@_flash.register_fake
def _(queries: Tensor, _keys: Tensor, _values: Tensor, borders: Tensor | None, *_others: Any) -> tuple[Tensor, Tensor]:
    *rows, heads, _width = queries.shape
    shape = (heads, *rows) if borders is not None else (rows[0], heads, rows[1])
    return queries.new_empty(queries.shape), queries.new_empty(shape, dtype=torch.float32)


@torch.library.custom_op("counterpoint::flash_backward", mutates_args=())
def _flash_backward(
    gradient: Tensor,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    mixed: Tensor,
    sums: Tensor,
    borders: Tensor | None,
    longest: int,
    causal: bool,
    scale: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    options = _options(borders, longest, causal, scale)
    found = _flash_four()._flash_attn_bwd(queries, keys, values, mixed, gradient.contiguous(), sums, **options)
    return found[0], found[1], found[2]


@_flash_backward.register_fake
def _(_gradient: Tensor, queries: Tensor, keys: Tensor, values: Tensor, *_others: Any) -> tuple[Tensor, Tensor, Tensor]:
    return queries.new_empty(queries.shape), keys.new_empty(keys.shape), values.new_empty(values.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    queries, keys, values, borders, *others = inputs
    ctx.save_for_backward(queries, keys, values, *output, borders)
    ctx.others = others


def _gradients(ctx: Any, gradient: Tensor, _of_sums: Tensor) -> tuple[Tensor | None, ...]:
    *kept, borders = ctx.saved_tensors
    found = _flash_backward(gradient, *kept, borders, *ctx.others)
    return (*found, None, *(None for _other in ctx.others))


_flash.register_autograd(_gradients, setup_context=_keep)
