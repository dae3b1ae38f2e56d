"""Which kernel attention takes: GPU kernels for what they are made for and were compared at, plain paths for all else.

Rows of a GPU are fake ones here, which have its device, dtype and shape but no values; where values are needed the
kernels are plain attention under their names.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses import FakeTensorMode

from counterpoint.layers.attention import kernels, sublayer
from counterpoint.layers.attention.kernels import Scores, choose_even, choose_packed, has_varlen
from counterpoint.layers.attention.sublayer import attend
from counterpoint.models.segments import Bucket, Segments, Windows

CAUSAL = Scores(causal=True)


def _on_gpu(dtype: torch.dtype = torch.bfloat16, dim: int = 64) -> Tensor:
    with FakeTensorMode():
        return torch.empty(10, 4, dim, dtype=dtype, device="cuda")


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def flash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_flash_four", lambda: object())


def test_packed_kernels_are_for_narrow_rows_on_a_gpu() -> None:
    assert has_varlen(_on_gpu())
    assert has_varlen(_on_gpu(torch.float16))
    assert not has_varlen(_on_gpu(torch.float32))
    assert not has_varlen(_on_gpu(torch.float64))
    assert not has_varlen(torch.empty(10, 4, 64, dtype=torch.bfloat16))


@pytest.mark.usefixtures("deterministic", "flash")
def test_deterministic_runs_take_none_of_them() -> None:
    assert not has_varlen(_on_gpu())
    assert choose_even(_on_gpu(), 64, 4096, CAUSAL) == ("dense", 4096, None, 64)
    assert choose_packed(_on_gpu(), 64, torch.empty(0), 5, CAUSAL) is None


@pytest.mark.parametrize(("dim", "fits"), [(8, True), (72, True), (256, True), (6, False), (12, False), (264, False)])
def test_heads_that_packed_kernels_refuse_are_padded(dim: int, fits: bool) -> None:
    assert has_varlen(_on_gpu(dim=dim)) is fits


@pytest.mark.usefixtures("flash")
@pytest.mark.parametrize(("length", "causal", "width", "kernel", "padded"), [
    (2048, True, 64, "flash", 64), (2048, True, 128, "flash", 128), (2047, True, 64, "dense", 64),
    (4096, False, 64, "dense", 64), (4096, True, 72, "flash", 96), (4096, False, 80, "flash", 96),
    (16, False, 80, "flash", 96), (4096, True, 96, "flash", 96), (4096, False, 112, "flash", 128),
    (4096, True, 40, "dense", 40), (4096, True, 136, "dense", 136), (4096, True, 256, "dense", 256),
])  # fmt: skip
def test_equal_documents_take_flash_attention_where_it_is_ahead_and_right(
    length: int, causal: bool, width: int, kernel: str, padded: int
) -> None:
    assert choose_even(_on_gpu(), width, length, Scores(causal)) == (kernel, length, None, padded)


@pytest.mark.usefixtures("flash")
@pytest.mark.parametrize(("window", "length", "kernel"), [
    (1000, 1001, None), (1000, 1000, "dense"), (2000, 2500, None), (3000, 2500, "flash"),
])  # fmt: skip
def test_a_window_that_leaves_something_out_takes_none_of_them(window: int, length: int, kernel: str | None) -> None:
    choice = choose_even(_on_gpu(), 64, length, Scores(causal=True, window=window))
    assert choice == (None if kernel is None else (kernel, length, None, 64))


@pytest.mark.usefixtures("flash")
@pytest.mark.parametrize(
    ("width", "padded"), [(64, 64), (128, 128), (72, 96), (80, 96), (48, 64), (16, None), (136, None)]
)
def test_packed_documents_take_it_with_heads_as_wide_as_it_is_right_for(width: int, padded: int | None) -> None:
    borders = torch.tensor([0, 3, 8])
    for scores in (CAUSAL, Scores(causal=True, window=5)):
        choice = choose_packed(_on_gpu(), width, borders, 5, scores)
        assert (None if choice is None else choice.width) == padded
    assert choose_packed(_on_gpu(), width, borders, 5, Scores(causal=True, window=4)) is None


def test_without_it_equal_documents_take_the_kernels_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_flash_four", lambda: None)
    assert choose_even(_on_gpu(), 128, 4096, CAUSAL) == ("dense", 4096, None, 128)
    assert choose_even(_on_gpu(), 80, 4096, CAUSAL) == ("dense", 4096, None, 80)
    assert choose_packed(_on_gpu(), 128, torch.empty(0), 5, CAUSAL) is None


class _Kernels:
    """Notes of calls in the place of the kernels of a GPU, on which every narrow tensor is said to be."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, has_flash: bool) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        four = SimpleNamespace(_flash_attn_fwd=self._forward)
        monkeypatch.setattr(kernels, "_is_fast", lambda rows: rows.dtype == torch.bfloat16)
        monkeypatch.setattr(kernels, "_flash_four", lambda: four if has_flash else None)
        monkeypatch.setattr(sublayer, "attend_varlen", self._varlen)

    def _forward(self, q: Tensor, _k: Tensor, _v: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
        self.calls.append(("flash", options))
        return q * 2, torch.zeros(1)

    def _varlen(self, q: Tensor, _k: Tensor, _v: Tensor, borders: Tensor, longest: int, scores: Scores) -> Tensor:
        self.calls.append(("varlen", {"borders": borders, "longest": longest, "scores": scores}))
        return q * 2


def _attend(lengths: list[int], padding: int, dtype: torch.dtype = torch.bfloat16, scores: Scores = CAUSAL) -> Tensor:
    rows = sum(lengths) + padding
    q, k, v = (torch.randn(rows, heads, 64).to(dtype) for heads in (4, 2, 2))
    return attend(q, k, v, Segments.build(lengths, rows), scores)


def test_documents_of_several_lengths_are_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, lengths = _Kernels(monkeypatch, has_flash=True), [3, 0, 5, 1]
    _attend(lengths, 4)
    ((name, options),) = taken.calls
    assert name == "flash"
    # What lies behind the last document is one more, so that nothing of it is seen.
    assert options["cu_seqlens_q"].tolist() == [*accumulate(lengths, initial=0), 13]
    assert options["max_seqlen_q"] == 5
    assert options["causal"] is True


def test_without_flash_attention_packed_documents_take_torchs_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = _Kernels(monkeypatch, has_flash=False)
    _attend([3, 5], 4)
    ((name, options),) = taken.calls
    assert (name, options["borders"].tolist(), options["longest"]) == ("varlen", [0, 3, 8, 12], 5)


@pytest.mark.parametrize(("lengths", "padding"), [([3, 5], 4), ([4, 4], 0)])
def test_kernels_are_told_windows_and_scales(lengths: list[int], padding: int, monkeypatch: pytest.MonkeyPatch) -> None:
    taken, narrow = _Kernels(monkeypatch, has_flash=True), Scores(causal=True, window=2, scale=0.5)
    _attend(lengths, padding, scores=narrow)
    _attend([3, 5], 4, scores=narrow._replace(window=5))
    (narrowed, told), (whole, options) = taken.calls
    assert (narrowed, told["scores"]) == ("varlen", narrow)
    assert (whole, options["causal"], options["softmax_scale"]) == ("flash", True, 0.5)


def test_float64_windows_and_no_documents_take_no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = _Kernels(monkeypatch, has_flash=True)
    _attend([3, 5], 4, torch.float64)
    _attend([], 4)
    q, k, v = (torch.randn(6, heads, 64).bfloat16() for heads in (4, 2, 2))
    attend(q, k, v, Windows.build([torch.tensor([0, 2]), torch.tensor([1, 3, 4])]), Scores(causal=False))
    assert taken.calls == []


class _PlainFour:
    """Attention of one document as the paper has it, in the place of FlashAttention 4; notes the widths it sees."""

    def __init__(self) -> None:
        self.widths: set[int] = set()

    def _flash_attn_fwd(self, q: Tensor, k: Tensor, v: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
        self.widths.add(q.shape[-1])
        scale = q.shape[-1] ** -0.5 if options["softmax_scale"] is None else options["softmax_scale"]
        scores = torch.einsum("bqhd,bkhd->bhqk", q.double(), k.double()) * scale
        mixed = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v.double())
        return mixed.to(q.dtype), scores.logsumexp(-1).float()


@pytest.mark.parametrize("scale", [None, 0.3])
def test_padded_heads_have_the_scale_of_their_own_width(scale: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    four = _PlainFour()
    monkeypatch.setattr(kernels, "_is_fast", lambda rows: rows.dtype == torch.float64)
    monkeypatch.setattr(kernels, "_flash_four", lambda: four)
    q, k, v = (torch.randn(12, 2, 80, dtype=torch.float64) for _ in range(3))
    found = attend(q, k, v, Segments.build([12], 12), Scores(causal=False, scale=scale))
    one, two, three = (tensor.transpose(0, 1) for tensor in (q, k, v))
    plain = F.scaled_dot_product_attention(one, two, three, scale=scale).transpose(0, 1)
    assert four.widths == {96}
    torch.testing.assert_close(found, plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("width", [8, 12, 64, 72, 80, 96, 128])
def test_the_scale_that_is_written_down_is_torchs_own_to_the_last_bit(width: int) -> None:
    q, k, v = (torch.randn(2, 20, width, dtype=torch.float64) for _ in range(3))
    ours = F.scaled_dot_product_attention(q, k, v, scale=kernels.own_scale(width))
    assert torch.equal(ours, F.scaled_dot_product_attention(q, k, v))


@pytest.mark.parametrize("lengths", [(1,), (3, 1), (7, 5, 3, 1)])
def test_what_is_known_of_long_rows_grows_with_their_number(lengths: tuple[int, ...]) -> None:
    def bytes_of(value: Any) -> int:
        if isinstance(value, Tensor):
            return value.nbytes
        if isinstance(value, tuple):
            return sum(map(bytes_of, value))
        return sum(map(bytes_of, vars(value).values())) if isinstance(value, Segments | Bucket) else 0

    unit = 2048
    short, long = (
        Segments.build([times * unit * length for length in lengths], times * unit * sum(lengths)) for times in (1, 16)
    )
    assert bytes_of(long) <= 16 * bytes_of(short)
    assert bytes_of(long) <= 40 * long.rows


def _mixed(q: Tensor, k: Tensor, v: Tensor, borders: Tensor, window: tuple[int, int], scale: float | None) -> Tensor:
    """Attention inside documents as torch's kernel is told to compute it: `window` keys before a row and after it."""
    found = []
    for begin, end in pairwise(borders.tolist()):
        row = torch.arange(end - begin)
        apart = row[:, None] - row
        seen = (apart <= (window[0] if window[0] >= 0 else end)) & (-apart <= (window[1] if window[1] >= 0 else end))
        queries, keys, values = (one[begin:end].transpose(0, 1) for one in (q, k, v))
        mixed = F.scaled_dot_product_attention(queries, keys, values, seen, scale=scale, enable_gqa=True)
        found.append(mixed)
    return torch.cat(found, dim=1).transpose(0, 1)


@pytest.fixture
def varlen() -> Iterator[None]:
    """torch's kernel, which is for GPUs, on a CPU: what its arguments mean, computed as the paper has it."""

    def forward(
        q: Tensor, k: Tensor, v: Tensor, borders: Tensor, of_keys: Tensor, longest: int, _of_keys: int, dropout: float,
        causal: bool, _debug: bool, *, window_size_left: int, window_size_right: int, scale: float | None = None,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        assert borders is of_keys or torch.equal(borders, of_keys)
        assert (longest, dropout) == (5, 0.0)
        assert causal is ((window_size_left, window_size_right) == (-1, 0))
        mixed = _mixed(q, k, v, borders, (window_size_left, window_size_right), scale)
        return mixed.contiguous(), q.new_full((1,), 7.0), q.new_full((2,), 8.0), q.new_full((1,), 9.0), q.new_empty(0)

    def backward(
        gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, mixed: Tensor, sums: Tensor, borders: Tensor,
        _of_keys: Tensor, longest: int, _longest: int, dropout: float, _causal: bool, state: Tensor, unused: Tensor, *,
        window_size_left: int, window_size_right: int, scale: float | None = None,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        assert [one.tolist() for one in (sums, state, unused)] == [[7.0], [8.0, 8.0], [9.0]]
        assert (longest, dropout) == (5, 0.0)

        def differentiate() -> tuple[Tensor, ...]:
            heads = [one.detach().requires_grad_() for one in (q, k, v)]
            again = _mixed(heads[0], heads[1], heads[2], borders, (window_size_left, window_size_right), scale)
            torch.testing.assert_close(again, mixed)
            return torch.autograd.grad(again, heads, gradient)

        # In this thread autograd is left out while an operator runs.
        with ThreadPoolExecutor(1) as other:
            return other.submit(differentiate).result()

    with torch.library._scoped_library("aten", "IMPL") as library:
        library.impl("_flash_attention_forward", forward, "CPU")
        library.impl("_flash_attention_backward", backward, "CPU")
        yield


@pytest.mark.usefixtures("varlen")
@pytest.mark.parametrize(
    "scores",
    [CAUSAL, Scores(causal=False), Scores(causal=True, window=3, scale=0.3)],
    ids=["causal", "full", "window"],
)
def test_torchs_kernel_attends_as_buckets_do(scores: Scores) -> None:
    """With fewer heads of keys and values than of queries, which the kernel reads as they are."""
    segments = Segments.build([3, 5, 1], 9)
    heads = [torch.randn(9, number, 8, dtype=torch.float64, requires_grad=True) for number in (4, 2, 2)]
    gradient = torch.randn(9, 4, 8, dtype=torch.float64)
    plain = attend(heads[0], heads[1], heads[2], segments, scores)
    assert segments.borders is not None
    fast = kernels.attend_varlen(heads[0], heads[1], heads[2], segments.borders, segments.longest, scores)
    torch.testing.assert_close(fast, plain)
    torch.testing.assert_close(torch.autograd.grad(fast, heads, gradient), torch.autograd.grad(plain, heads, gradient))
