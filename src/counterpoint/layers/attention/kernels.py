"""The choice of an attention kernel by shape: cuDNN, FlashAttention 4, or torch's own kernels.

`benchmarks/kernels.py` measures them; docs/performance.md has the numbers. FlashAttention 4 is used if it is installed
(extra `gpu`); without it torch's variable-length kernel computes packed documents.
"""

import math
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
"""Document length from which FlashAttention 4 is faster than cuDNN in causal attention of equal documents."""

_DENSE = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]

_ALIGNED, _WIDEST = 8, 256
"""torch's variable-length kernel needs a head width that is a multiple of the first and at most the second."""

FLASH_WIDTHS = (64, 96, 128)
"""Head widths with which FlashAttention 4 computes; narrower heads are padded with zeros to the next one.

With 72 and 80 the gradients of queries of 4.0.0b36 are wrong on Hopper (`benchmarks/fast_paths.py`): its backward
rounds the width to 16 where its accumulator rounds it to 32."""

_MOST_PADDING = 4 / 3
"""Heads are padded to at most this many times their width; torch's kernels take narrower ones."""

_CUDNN_WIDTHS = (64, 128)
"""Head widths with which cuDNN is faster than FlashAttention 4 for short or bidirectional documents of equal length."""


class Scores(NamedTuple):
    """How queries attend to the keys of their document.

    A query attends to all keys, or, if `causal`, to those up to its own row; a `window` limits these to the last
    `window` ones. Scores are multiplied by `scale`; None stands for 1 / sqrt(head width).
    """

    causal: bool
    window: int | None = None
    scale: float | None = None

    def narrow(self, rows: int) -> bool:
        """Whether the window excludes a key in a document of `rows` rows."""
        return self.window is not None and self.window < rows


class KernelChoice(NamedTuple):
    """A kernel that reads packed rows without padding, and its arguments.

    Without `borders` every document has `length` rows; else `borders`, int32 on the device, separate the documents,
    and `length` is the longest. The kernel computes with heads of `width` columns, at least their own.
    """

    kernel: Kernel
    length: int
    borders: Tensor | None
    width: int


def choose_even(rows: Tensor, width: int, length: int, scores: Scores) -> KernelChoice | None:
    """The kernel for documents of equal length that fill the rows; None if none fits. `width` is that of a head."""
    if scores.narrow(length):
        return None
    padded = _flash_width(rows, width)
    if padded is None or (width in _CUDNN_WIDTHS and not (scores.causal and length >= _LONG)):
        return KernelChoice("dense", length, None, width)
    return KernelChoice("flash", length, None, padded)


def choose_packed(rows: Tensor, width: int, borders: Tensor, longest: int, scores: Scores) -> KernelChoice | None:
    """The kernel for packed documents of any lengths; None if none fits.

    The windows of FlashAttention 4 were not compared with float64, so `attend_varlen` computes those.
    """
    padded = _flash_width(rows, width)
    return None if padded is None or scores.narrow(longest) else KernelChoice("flash", longest, borders, padded)


def pad_heads(heads: Tensor, width: int) -> Tensor:
    """Heads (rows, heads, dim) -> (rows, heads, width), with zeros in further columns.

    Zeros in queries and keys leave scores as they are, and those in values give outputs that are cut off.
    """
    return heads if heads.shape[-1] == width else F.pad(heads, (0, width - heads.shape[-1]))


def attend_packed(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    kernel: Kernel,
    length: int,
    borders: Tensor | None,
    scores: Scores,
) -> Tensor:
    """Attention of queries (rows, heads, dim) to keys and values (rows, kv_heads, dim) with the kernel of a choice.

    Heads have the width of the choice; if they are padded to it, `scores` has the scale of their own width.
    """
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
    """Whether torch's variable-length kernel supports these queries (rows, heads, dim)."""
    return _is_fast(queries) and queries.shape[-1] % _ALIGNED == 0 and queries.shape[-1] <= _WIDEST


def attend_varlen(
    queries: Tensor, keys: Tensor, values: Tensor, borders: Tensor, longest: int, scores: Scores
) -> Tensor:
    """Attention inside packed documents with torch's variable-length kernel; a window looks back only."""
    assert scores.causal or scores.window is None, "windows are of decoders"
    mixed: Tensor = _Varlen.apply(queries, keys, values, borders, longest, scores)  # type: ignore[no-untyped-call]
    return mixed


class _Varlen(torch.autograd.Function):
    """torch's variable-length kernel by itself.

    `torch.nn.attention.varlen` calls it from an operator in Python, which takes a host 0.15 to 0.35 ms more in each
    pass (H200, torch 2.11), and wants a head of keys and of values for each of queries.
    """

    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, borders: Tensor, longest: int, scores: Scores
    ) -> Tensor:
        arguments = (borders, borders, longest, longest, 0.0, scores.causal and scores.window is None)
        left = -1 if scores.window is None else scores.window - 1
        window = {"window_size_left": left, "window_size_right": 0 if scores.causal else -1}
        mixed: Tensor
        mixed, sums, *states = torch.ops.aten._flash_attention_forward(
            queries, keys, values, *arguments, False, scale=scores.scale, **window
        )
        ctx.save_for_backward(queries, keys, values, mixed, sums, borders, *states[:2])
        ctx.others = (*arguments[2:], scores.scale, window)
        return mixed

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, values, mixed, sums, borders, *states = ctx.saved_tensors
        *arguments, scale, window = ctx.others
        found = torch.ops.aten._flash_attention_backward(
            gradient, queries, keys, values, mixed, sums, borders, borders, *arguments, *states, scale=scale, **window
        )
        return (*found, None, None, None)


def own_scale(width: int) -> float:
    """The factor on scores of heads of this width, exactly as torch computes it."""
    return 1.0 / math.sqrt(width)


@cache
def prefer_fast_kernels() -> object:
    """Make torch try the cuDNN kernel first for the rest of the process; of its kernels it is the fastest on Hopper.

    Deterministic runs keep torch's order. The cache keeps the entered context alive.
    """
    if torch.are_deterministic_algorithms_enabled():
        return None
    preference = sdpa_kernel(_DENSE, set_priority=True)
    preference.__enter__()
    return preference


def _is_fast(rows: Tensor) -> bool:
    """Whether fused GPU kernels may be used; deterministic runs may not, since backward sums in any order."""
    return rows.is_cuda and rows.dtype in _NARROW and not torch.are_deterministic_algorithms_enabled()


def _flash_width(rows: Tensor, width: int) -> int | None:
    """The width to which FlashAttention 4 needs heads padded; None if it does not serve them."""
    if not _is_fast(rows) or _flash_four() is None:
        return None
    return next((wider for wider in FLASH_WIDTHS if width <= wider <= width * _MOST_PADDING), None)


@cache
def _flash_four() -> Any:
    """The module of FlashAttention 4 if it is installed and supports this GPU, else None."""
    if torch.cuda.get_device_capability()[0] not in (9, 10):
        return None
    is_installed = find_spec("flash_attn") is not None and find_spec("flash_attn.cute") is not None
    return import_module("flash_attn.cute.interface") if is_installed else None


# A custom operator, so that the compiler neither traces the kernels nor breaks its graph at them.


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
    """The output of attention, and the log-sum-exp of its scores."""
    options = _options(borders, longest, causal, scale)
    mixed, sums, *_others = _flash_four()._flash_attn_fwd(queries, keys, values, **options, return_lse=True)
    return mixed, sums


def _options(borders: Tensor | None, longest: int, causal: bool, scale: float | None) -> dict[str, Any]:
    """Keyword arguments of forward and backward."""
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
