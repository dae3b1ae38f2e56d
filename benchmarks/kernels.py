# ruff: noqa: B023 (each case is measured before the next one begins)
"""What single kernels reach on a GPU, forward and backward: behind the choices of `models/` and `parallelize/`.

    python benchmarks/kernels.py [attention projections loss]

Medians of CUDA-event times; TFLOP/s count causal attention as half, and heads of 72 and 80 with that width where they
are padded. Attention kernels that are not installed are left out.
"""

import statistics
import sys
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from counterpoint.layers.attention.kernels import FLASH_WIDTHS, pad_heads

BF16 = torch.bfloat16


def median_ms(work: Callable[[], object], repeats: int = 12) -> float:
    """The median time of a call, in milliseconds."""
    for _ in range(3):
        work()
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    marks[0].record()
    for mark in marks[1:]:
        work()
        mark.record()
    torch.cuda.synchronize()
    times: list[float] = [a.elapsed_time(b) for a, b in pairwise(marks)]
    return statistics.median(times)


def show(name: str, flops: float, forward: Callable[[], Tensor], inputs: Sequence[Tensor]) -> None:
    """Print forward, and forward with backward; `flops` are those of the forward."""
    try:
        with torch.no_grad():
            ahead = median_ms(forward)
        out = forward()
        gradient = torch.randn_like(out)

        def both() -> None:
            torch.autograd.grad(forward(), inputs, gradient)

        whole = median_ms(both)
        factor = 3.5 if name.startswith("attention") else 3.0
        print(
            f"{name:<64} forward {ahead:7.3f} ms {flops / ahead / 1e9:6.0f} TFLOP/s   with backward {whole:7.3f} ms "
            f"{factor * flops / whole / 1e9:6.0f}",
            flush=True,
        )
    except Exception as error:  # A kernel that refuses a shape is a result.
        print(f"{name:<64} refused: {str(error)[:150]}", flush=True)


def attention() -> None:
    """Dense and ragged documents, causal and not."""
    cases = [
        ("8 x 4096 causal 16/8 x 128", [4096] * 8, 16, 8, 128, True),
        ("8 x 4096 causal 4/2 x 128", [4096] * 8, 4, 2, 128, True),
        ("8 x 1024 full 16 x 64", [1024] * 8, 16, 16, 64, False),
        ("32 x 1024 full 16 x 64", [1024] * 32, 16, 16, 64, False),
        ("32 x 1024 full 4 x 64", [1024] * 32, 4, 4, 64, False),
        ("ragged causal 16/8 x 128", [4096, 777, 3000, 1500, 6000, 2200, 9000, 6295], 16, 8, 128, True),
        ("ragged images 16 x 64", [256, 2592, 440, 1024, 5168, 100, 944, 300, 1500, 4060], 16, 16, 64, False),
        ("1 x 16384 full 16 x 80", [16384], 16, 16, 80, False),
        ("8 x 2048 full 16 x 80", [2048] * 8, 16, 16, 80, False),
        ("ragged images 16 x 80", [256, 2592, 440, 1024, 5168, 100, 944, 300, 1500, 4060], 16, 16, 80, False),
        ("ragged images 16 x 72", [256, 2592, 440, 1024, 5168, 100, 944, 300, 1500, 4060], 16, 16, 72, False),
    ]
    for name, lengths, heads, kv_heads, dim, causal in cases:
        rows = sum(lengths)
        flops = sum(4.0 * n * n * heads * dim for n in lengths) * (0.5 if causal else 1.0)
        q = torch.randn(rows, heads, dim, device="cuda", dtype=BF16, requires_grad=True)
        k, v = (torch.randn(rows, kv_heads, dim, device="cuda", dtype=BF16, requires_grad=True) for _ in range(2))
        cu = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device="cuda")
        longest, even = max(lengths), len(set(lengths)) == 1
        padded = next(width for width in FLASH_WIDTHS if width >= dim)

        def dense(backend: SDPBackend) -> Tensor:
            qs, ks, vs = (t.view(len(lengths), longest, -1, dim).transpose(1, 2) for t in (q, k, v))
            with sdpa_kernel([backend]):
                out = F.scaled_dot_product_attention(qs, ks, vs, is_causal=causal, enable_gqa=heads != kv_heads)
            return out.transpose(1, 2)

        def varlen() -> Tensor:
            from torch.nn.attention.varlen import varlen_attn

            ks, vs = (t.repeat_interleave(heads // kv_heads, dim=1) for t in (k, v))
            out = varlen_attn(q, ks, vs, cu, cu, longest, longest, window_size=(-1, 0) if causal else (-1, -1))
            assert isinstance(out, Tensor), "no second output is asked for"
            return out

        def fa4() -> Tensor:
            from flash_attn.cute import flash_attn_varlen_func

            ends = {"cu_seqlens_q": cu, "cu_seqlens_k": cu, "max_seqlen_q": longest, "max_seqlen_k": longest}
            wide = (pad_heads(t, padded) for t in (q, k, v))
            out: Tensor = flash_attn_varlen_func(*wide, softmax_scale=dim**-0.5, causal=causal, **ends)[0]
            return out[..., :dim]

        def fa4_dense() -> Tensor:
            from flash_attn.cute import flash_attn_func

            qs, ks, vs = (pad_heads(t, padded).view(len(lengths), longest, -1, padded) for t in (q, k, v))
            out: Tensor = flash_attn_func(qs, ks, vs, softmax_scale=dim**-0.5, causal=causal)[0]
            return out[..., :dim]

        if even:
            show(f"attention {name}, cuDNN", flops, lambda: dense(SDPBackend.CUDNN_ATTENTION), (q, k, v))
            show(f"attention {name}, flash 2", flops, lambda: dense(SDPBackend.FLASH_ATTENTION), (q, k, v))
            show(f"attention {name}, flash 4 dense", flops, fa4_dense, (q, k, v))
        show(f"attention {name}, varlen", flops, varlen, (q, k, v))
        show(f"attention {name}, flash 4 varlen", flops, fa4, (q, k, v))


def projections() -> None:
    """Several products of the same rows, one by one and with their weights put together for the call."""
    for rows in (8192, 16384, 32768):
        for what, inputs, widths in (
            ("q k v", 2048, (2048, 1024, 1024)),
            ("gate up", 2048, (6144, 6144)),
            ("vision q k v", 1024, (1024,) * 3),
        ):
            x = torch.randn(rows, inputs, device="cuda", dtype=BF16, requires_grad=True)
            weights = [torch.randn(n, inputs, device="cuda", dtype=BF16, requires_grad=True) for n in widths]
            flops = 2.0 * rows * inputs * sum(widths)

            gradients = [torch.randn(rows, n, device="cuda", dtype=BF16) for n in widths]

            def both_apart() -> None:
                torch.autograd.grad([F.linear(x, w) for w in weights], [x, *weights], gradients)

            def both_together() -> None:
                torch.autograd.grad(F.linear(x, torch.cat(weights)).split(widths, 1), [x, *weights], gradients)

            a, b = median_ms(both_apart), median_ms(both_together)
            print(
                f"{rows} rows, {what}: apart {a:.3f} ms, together {b:.3f} ms, a cat of gradients included", flush=True
            )
            joined = torch.cat(weights).detach().requires_grad_()
            show(f"  {rows} rows, {what}: one weight", flops, lambda: F.linear(x, joined), [x, joined])


def loss() -> None:
    """The last product with the loss, plain and in chunks."""
    from counterpoint.models.linear_loss import LinearLoss

    def plain(x: Tensor, w: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(F.linear(x, w).float(), labels, reduction="sum") / len(labels)

    for rows, hidden, vocab in ((32768, 2048, 32768), (8192, 2688, 131072)):
        x = torch.randn(rows, hidden, device="cuda", dtype=BF16, requires_grad=True)
        w = (torch.randn(vocab, hidden, device="cuda", dtype=BF16) * 0.02).requires_grad_()
        labels = torch.randint(0, vocab, (rows,), device="cuda")
        flops = 2.0 * rows * hidden * vocab
        pieces, compiled, whole = LinearLoss(), LinearLoss(), torch.compile(plain)
        compiled.statistics = torch.compile(compiled.statistics)
        compiled.score_gradient = torch.compile(compiled.score_gradient)
        for name, work in (
            ("plain", lambda: plain(x, w, labels)),
            ("plain, compiled", lambda: whole(x, w, labels)),
            ("in pieces", lambda: pieces(x, w, labels, float(rows)).loss),
            ("in pieces, compiled", lambda: compiled(x, w, labels, float(rows)).loss),
        ):
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            show(f"loss {rows} x {hidden} x {vocab} {name}", flops, work, (x, w))
            print(f"    peak {(torch.cuda.max_memory_allocated() - before) / 2**30:.2f} GiB", flush=True)


if __name__ == "__main__":
    for wanted in sys.argv[1:] or ("attention", "projections", "loss"):
        {"attention": attention, "projections": projections, "loss": loss}[wanted]()
