"""Which kernel attention takes: GPU kernels for what they are made for and were measured at, plain paths for all else.

Queries of a GPU are fake ones here, which have its device, dtype and shape but no values.
"""

from collections.abc import Iterator
from itertools import accumulate
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode

from counterpoint.models import attention_kernels
from counterpoint.models.attention import attend
from counterpoint.models.attention_kernels import attend_evenly, attend_packed, has_packed
from counterpoint.models.segments import Segments, Windows


def _on_gpu(dtype: torch.dtype = torch.bfloat16, dim: int = 64) -> Tensor:
    with FakeTensorMode():
        return torch.empty(10, 4, dim, dtype=dtype, device="cuda")


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def test_packed_kernels_are_for_narrow_rows_on_a_gpu() -> None:
    assert has_packed(_on_gpu())
    assert has_packed(_on_gpu(torch.float16))
    assert not has_packed(_on_gpu(torch.float32))
    assert not has_packed(_on_gpu(torch.float64))
    assert not has_packed(torch.empty(10, 4, 64, dtype=torch.bfloat16))


@pytest.mark.usefixtures("deterministic")
def test_deterministic_runs_take_none_of_them() -> None:
    assert not has_packed(_on_gpu())


@pytest.mark.parametrize(("dim", "fits"), [(8, True), (72, True), (256, True), (6, False), (12, False), (264, False)])
def test_heads_that_packed_kernels_refuse_are_padded(dim: int, fits: bool) -> None:
    assert has_packed(_on_gpu(dim=dim)) is fits


class _Kernels:
    """Plain attention in the place of the kernels of a GPU, on which every narrow tensor is said to lie."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, has_flash_four: bool) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        four = SimpleNamespace(flash_attn_func=self._dense, flash_attn_varlen_func=self._packed)
        monkeypatch.setattr(attention_kernels, "_is_fast", lambda queries: queries.dtype == torch.bfloat16)
        monkeypatch.setattr(attention_kernels, "_flash_four", lambda: four if has_flash_four else None)
        monkeypatch.setattr(attention_kernels, "_varlen", lambda: self._varlen)

    @property
    def names(self) -> list[str]:
        return [name for name, _options in self.calls]

    def _dense(self, q: Tensor, _k: Tensor, _v: Tensor, **options: Any) -> tuple[Tensor]:
        self.calls.append(("four, dense", options))
        return (q * 2,)

    def _packed(self, q: Tensor, _k: Tensor, _v: Tensor, **options: Any) -> tuple[Tensor]:
        self.calls.append(("four, packed", options))
        return (q * 2,)

    def _varlen(self, q: Tensor, k: Tensor, v: Tensor, *borders: Any, window_size: tuple[int, int]) -> Tensor:
        assert q.shape == k.shape == v.shape, "it takes as many heads of keys as of queries"
        self.calls.append(("varlen", {"borders": borders, "window_size": window_size}))
        return q * 2


def _rows(rows: int, dim: int = 8, dtype: torch.dtype = torch.bfloat16) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(rows, heads, dim, generator=generator).to(dtype) for heads in (4, 2, 2))
    return q, k, v


def _attend(lengths: list[int], padding: int, *, causal: bool = True, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    rows = sum(lengths) + padding
    return attend(*_rows(rows, dtype=dtype), Segments.build(lengths, rows), causal=causal)


@pytest.mark.parametrize(("length", "causal", "expected"), [
    (2048, True, ["four, dense"]), (2047, True, []), (2048, False, []), (1, True, []),
])  # fmt: skip
def test_equal_documents_take_flash_attention_where_they_are_long_and_causal(
    monkeypatch: pytest.MonkeyPatch, length: int, causal: bool, expected: list[str]
) -> None:
    kernels = _Kernels(monkeypatch, has_flash_four=True)
    attend_evenly(*(tensor[None] for tensor in _rows(length)), causal=causal)
    assert kernels.names == expected


def test_without_flash_attention_they_take_the_dense_kernels_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = _Kernels(monkeypatch, has_flash_four=False)
    attend_evenly(*(tensor[None] for tensor in _rows(2048)), causal=True)
    assert kernels.names == []


def test_documents_of_several_lengths_are_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = _Kernels(monkeypatch, has_flash_four=True)
    lengths = [3, 0, 5, 1]
    _attend(lengths, 4)
    ((name, options),) = kernels.calls
    assert name == "four, packed"
    # What lies behind the last document is one more, so that nothing of it is seen.
    assert options["cu_seqlens_q"].tolist() == [*accumulate(lengths, initial=0), 13]
    assert options["max_seqlen_q"] == 5
    assert options["causal"] is True


@pytest.mark.parametrize(("causal", "window"), [(True, (-1, 0)), (False, (-1, -1))])
def test_without_flash_attention_packed_documents_take_torchs_kernel(
    monkeypatch: pytest.MonkeyPatch, causal: bool, window: tuple[int, int]
) -> None:
    kernels = _Kernels(monkeypatch, has_flash_four=False)
    _attend([3, 5], 4, causal=causal)
    ((name, options),) = kernels.calls
    assert (name, options["window_size"]) == ("varlen", window)
    assert options["borders"][0].tolist() == [0, 3, 8, 12]
    assert options["borders"][2:] == (5, 5)


def test_wide_heads_take_torchs_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = _Kernels(monkeypatch, has_flash_four=True)
    borders = torch.tensor([0, 3, 8], dtype=torch.int32)
    attend_packed(*_rows(8, dim=136), borders, 5, causal=True)
    attend_evenly(*(tensor[None] for tensor in _rows(2048, dim=136)), causal=True)
    assert kernels.names == ["varlen"]


def test_float64_windows_and_no_documents_take_no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = _Kernels(monkeypatch, has_flash_four=True)
    _attend([3, 5], 4, dtype=torch.float64)
    _attend([0, 0], 4)
    attend(*_rows(6), Windows.build([torch.arange(4)]), causal=False)
    assert kernels.names == []
