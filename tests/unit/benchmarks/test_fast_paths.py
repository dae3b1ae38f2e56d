"""The comparison of fast paths: kernels that are right pass, and each way of being wrong is a row that fails."""

import importlib
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from counterpoint.layers.attention import kernels
from counterpoint.layers.attention.kernels import Scores
from counterpoint.layers.attention.sublayer import attend
from counterpoint.models import linear_loss
from counterpoint.models.segments import Segments
from fast import attention, loss
from fast.attention import CAUSAL, FULL
from fast.rows import Row, compare, relative, worst

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "fast_paths.py"
CPU = torch.device("cpu")

Attend = Callable[[Tensor, Tensor, Tensor, list[int], Scores], Tensor]


def _packed(q: Tensor, k: Tensor, v: Tensor, borders: list[int], scores: Scores) -> Tensor:
    """What a kernel of packed documents computes, by plain attention in float32."""
    lengths = [end - start for start, end in pairwise(borders)]
    return attend(q.float(), k.float(), v.float(), Segments.build(lengths, len(q)), scores).to(q.dtype)


def _leaking(q: Tensor, k: Tensor, v: Tensor, borders: list[int], scores: Scores) -> Tensor:
    """The last document sees the padding."""
    return _packed(q, k, v, [*borders[:-2], borders[-1]], FULL)


def _shifted(q: Tensor, k: Tensor, v: Tensor, borders: list[int], scores: Scores) -> Tensor:
    """One border lies a row too early."""
    return _packed(q, k, v, [*borders[:3], borders[3] - 1, *borders[4:]], scores)


def _blind(q: Tensor, k: Tensor, v: Tensor, borders: list[int], scores: Scores) -> Tensor:
    return _packed(q, k, v, borders, CAUSAL if scores == FULL else FULL)


def _regrouped(q: Tensor, k: Tensor, v: Tensor, borders: list[int], scores: Scores) -> Tensor:
    return _packed(q, k.flip(1), v, borders, scores)


def _broken(q: Tensor, k: Tensor, v: Tensor, borders: list[int], scores: Scores) -> Tensor:
    """Padding divides by nothing."""
    out = _packed(q, k, v, borders, scores)
    return torch.cat((out[: borders[-2]], out[borders[-2] :] * torch.nan))


def _detached(q: Tensor, k: Tensor, v: Tensor, borders: list[int], scores: Scores) -> Tensor:
    """Queries count for nothing in backward."""
    return _packed(q.detach() + q * 0, k, v, borders, scores)


def _unscaled(q: Tensor, k: Tensor, v: Tensor, borders: list[int], scores: Scores) -> Tensor:
    return _packed(q, k, v, borders, scores._replace(scale=None))


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Row]]:
    """The rows of packed documents if this were FlashAttention 4, for heads of 8 or those that are padded to it."""

    def run(kernel: Attend, dim: int = 8) -> list[Row]:
        def forward(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
            scores = Scores(options["causal"], scale=options["softmax_scale"])
            return kernel(q, k, v, options["cu_seqlens_q"].tolist(), scores), torch.zeros(1)

        def gradients(*given: Tensor, **options: Any) -> tuple[Tensor, ...]:
            leaves = [tensor.detach().requires_grad_() for tensor in given[:3]]
            out, _sums = forward(*leaves, **options)
            return torch.autograd.grad(out, leaves, given[4])

        def backward(*given: Tensor, **options: Any) -> tuple[Tensor, ...]:
            # Inside an operation there is no autograd, but in another thread there is.
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(gradients, *given, **options).result()

        four = SimpleNamespace(_flash_attn_fwd=forward, _flash_attn_bwd=backward)
        monkeypatch.setattr(kernels, "FLASH_WIDTHS", (8,))
        monkeypatch.setattr(kernels, "_is_fast", lambda queries: queries.dtype == torch.bfloat16)
        monkeypatch.setattr(kernels, "_flash_four", lambda: four)
        # A kernel's own calls of torch's attention are none of those that are noted.
        monkeypatch.setattr(attention._Torchs, "scaled_dot_product_attention", _unnoted)
        return list(compare(attention._packed(CPU, dim, "packed", "FlashAttention 4")))

    return run


def _unnoted(_self: object, q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, **options)


@pytest.mark.parametrize("dim", [8, 6])
def test_a_kernel_that_is_right_passes(rows: Callable[..., list[Row]], dim: int) -> None:
    found = rows(_packed, dim)
    assert len(found) == 15
    assert [row.text() for row in found if row.status != "ok"] == []
    assert {row.what for row in found} == {f"packed, {kind}: FlashAttention 4" for kind in ("causal", "full", "scaled")}


@pytest.mark.parametrize("kernel", [_leaking, _shifted, _blind, _regrouped, _broken, _detached, _unscaled])
def test_a_kernel_that_is_wrong_fails(rows: Callable[[Attend], list[Row]], kernel: Attend) -> None:
    assert [row for row in rows(kernel) if row.status == "FAIL" and row.values], "it fails by what it computes"


def test_padded_heads_with_the_scale_of_the_padded_width_fail(rows: Callable[..., list[Row]]) -> None:
    assert [row for row in rows(_unscaled, 6) if row.status == "FAIL" and "causal" in row.what]


def test_another_kernel_than_the_expected_one_is_no_comparison(rows: Callable[[Attend], list[Row]]) -> None:
    rows(_packed)
    found = list(compare(attention._packed(CPU, 8, "packed", "varlen")))
    assert {row.status for row in found} == {"FAIL"}
    assert "the kernel that ran is ['FlashAttention 4'], expected varlen" in found[0].words


def test_a_loss_that_is_wrong_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "apply_compile", lambda _chain: None)
    assert {row.status for row in loss.rows(CPU)} == {"ok", "left out"}
    plain = linear_loss.score_gradient
    monkeypatch.setattr(linear_loss, "score_gradient", lambda *given: plain(*given) * 1.02)
    assert {row.status for row in loss.rows(CPU)} == {"FAIL", "left out"}


def test_errors_are_relative_and_nan_is_never_within_a_bound() -> None:
    one, zero = torch.ones(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    assert relative(one.bfloat16() * 1.5, one) == 0.5
    assert relative(zero, zero) == 0.0
    assert relative(one, zero) == math.inf
    assert relative(one, zero, floor=20.0) == 0.1
    assert worst([zero, one * 0.5], [zero, one]) == 0.5
    assert not Row("path", "", {"out": (math.nan, 1.0)}).holds
    assert not Row("path", "").holds
    assert Row(**json.loads(json.dumps(Row("path", "", {"out": (0.5, 1.0)}).fields()))).text().startswith("ok")


def test_what_raises_is_a_row_and_the_next_case_runs() -> None:
    def cases() -> Iterator[Any]:
        yield "first", "", lambda: 1 / 0
        yield "second", "", lambda: ("", {"out": (0.0, 0.0)})

    found = list(compare(cases()))
    assert [row.status for row in found] == ["FAIL", "ok"]
    assert found[0].words == "ZeroDivisionError: division by zero"


@pytest.mark.more
def test_the_script_writes_its_rows_and_leaves_with_3_where_a_part_does_not_end(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--parts", "attention/flash_four_64"]
    command += ["--json", str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, json.loads(file.read_text())[0]["status"]) == (0, "left out"), ended.stderr
    late = subprocess.run([*command, "--limit", "0"], capture_output=True, text=True, check=False)
    assert (late.returncode, json.loads(file.read_text())[0]["words"]) == (3, "did not end in time"), late.stderr


@pytest.fixture
def fast_paths(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module; its own folder stands in the path, as where it is started."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return importlib.import_module("fast_paths")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--parts", "nothing"], "--parts: got nothing, expected beginnings of layers/bfloat16"),
        (["--device", "tpu"], "--device: got 'tpu', expected cuda or cpu; correct it"),
        (["--json", "{folder}"], "--json: {folder} is a folder, expected a file; choose another"),
        (
            ["--json", "{folder}/no/rows.json"],
            "--json: {folder}/no/rows.json is in no folder that exists; make {folder}",
        ),
        (["--jobs", "0"], "--jobs: got 0, expected at least 1; correct it"),
    ],
)
def test_bad_arguments_are_one_sentence_before_anything_runs(
    fast_paths: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    arguments: list[str], words: str,
) -> None:  # fmt: skip
    filled = [argument.format(folder=tmp_path) for argument in arguments]
    monkeypatch.setattr("sys.argv", ["fast_paths.py", *filled])
    with pytest.raises(SystemExit) as left:
        fast_paths.main()
    said = capsys.readouterr()
    assert (left.value.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert said.err.startswith("error: " + words.format(folder=tmp_path))
