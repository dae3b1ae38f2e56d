"""Products that overlap with the exchange of their rows, beside one collective before or behind them.

    torchrun --nproc-per-node=4 benchmarks/overlap.py [--json FILE]

For the sublayers of the benchmark's decoder and tower under tp, forward and backward: milliseconds with collectives,
with the GPUs' own memory, and of the products alone, as the slowest rank has them (medians); then both ways in float64
against plain products of all rows, as relative errors of outputs and of every gradient. Exit code 3 beyond 1e-12.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from counterpoint.models.linear import Linear, OutputLinear
from counterpoint.parallelize import transport
from counterpoint.parallelize.exchange import TensorGroup
from counterpoint.parallelize.products import GatheredProducts, ScatteredProduct, travel_of
from counterpoint.parallelize.transport import Travel
from kernels import median_ms

BOUND, DIFFERS = 1e-12, 3


@dataclass(frozen=True)
class Sublayer:
    """Rows of a lane, the residual width, the widths of the first products on all ranks, and that of the last."""

    name: str
    rows: int
    hidden: int
    widths: tuple[int, ...]
    inner: int


SUBLAYERS = (
    Sublayer("decoder attention", 65536, 2048, (2048, 1024, 1024), 2048),
    Sublayer("decoder MLP", 65536, 2048, (6144, 6144), 6144),
    Sublayer("tower attention", 16384, 1024, (1024, 1024, 1024), 1024),
    Sublayer("tower MLP", 16384, 1024, (4096,), 4096),
)


class Case:
    """The two ends of a sublayer on one rank, with a stand-in for what lies between them."""

    def __init__(self, sublayer: Sublayer, ranks: TensorGroup, travel: Travel, dtype: torch.dtype, rows: int) -> None:
        device = torch.device("cuda", torch.cuda.current_device())
        generator = torch.Generator(device).manual_seed(0)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, device=device, dtype=dtype, generator=generator)

        size, rank = ranks.size, ranks.rank
        self.whole = draw(rows, sublayer.hidden)
        self.gradient = draw(rows, sublayer.hidden)
        weights = [draw(width, sublayer.hidden) / sublayer.hidden**0.5 for width in sublayer.widths]
        last = draw(sublayer.hidden, sublayer.inner) / sublayer.inner**0.5
        self.all_weights = [*weights, last]
        self.shard = self.whole.chunk(size)[rank].clone().requires_grad_()
        self.linears = [Linear(1, 1, bias=False) for _ in weights]
        for linear, weight in zip(self.linears, weights, strict=True):
            linear.weight = torch.nn.Parameter(weight.chunk(size)[rank].clone())
        self.output = OutputLinear(1, 1, bias=False)
        self.output.weight = torch.nn.Parameter(last.chunk(size, dim=1)[rank].clone())
        self.enter, self.output.leave = GatheredProducts(ranks, travel), ScatteredProduct(ranks, travel)
        self.share = self.gradient.chunk(size)[rank].contiguous()
        self.rank, self.size, self.inner = rank, size, sublayer.inner // size

    @property
    def leaves(self) -> list[Tensor]:
        """What has a gradient."""
        return [self.shard, *(linear.weight for linear in self.linears), self.output.weight]

    def between(self, products: tuple[Tensor, ...]) -> Tensor:
        """Something cheap of the inner width that reads all products."""
        first = products[0][:, : self.inner]
        for product in products[1:]:
            first = first + product[:, : self.inner].repeat(1, self.inner // min(self.inner, product.shape[1]))
        return first

    def forward(self) -> Tensor:
        """This rank's share of the output."""
        out: Tensor = self.output(self.between(self.enter.products(self.shard, *self.linears)))
        return out

    def step(self) -> tuple[Tensor, ...]:
        """Forward and backward."""
        return torch.autograd.grad(self.forward(), self.leaves, self.share)

    def alone(self) -> None:
        """The same products, without any exchange."""
        rows = self.whole.requires_grad_()
        products = tuple(rows @ linear.weight.t() for linear in self.linears)
        out = self.between(products) @ self.output.weight.t()
        torch.autograd.grad(out, [rows, *self.leaves[1:]], self.gradient)

    def errors(self) -> list[float]:
        """Relative differences of output and gradients from those of plain products of all rows."""
        whole = self.whole.detach().requires_grad_()
        weights = [weight.detach().requires_grad_() for weight in self.all_weights]
        parts = []
        for rank in range(self.size):
            cut = [weight.chunk(self.size)[rank] for weight in weights[:-1]]
            inner = self.between(tuple(whole @ weight.t() for weight in cut))
            parts.append(inner @ weights[-1].chunk(self.size, dim=1)[rank].t())
        out = sum(parts[1:], parts[0])
        of_rows, *of_first, of_last = torch.autograd.grad(out, [whole, *weights], self.gradient)
        mine = [out.detach(), of_rows, *of_first]
        wanted = [tensor.chunk(self.size)[self.rank] for tensor in mine]
        wanted.append(of_last.chunk(self.size, dim=1)[self.rank])
        found = [self.forward().detach(), *self.step()]
        return [float((a - b).norm() / b.norm()) for a, b in zip(found, wanted, strict=True)]


def slowest_ms(work: Callable[[], object]) -> float:
    """The median time of a call on the slowest rank, in milliseconds."""
    dist.barrier()
    worst = torch.tensor(median_ms(work), device="cuda")
    dist.all_reduce(worst, dist.ReduceOp.MAX)
    return float(worst)


def main() -> int:
    """Measure, compare, and say which exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl")
    group = dist.new_group(list(range(dist.get_world_size())))
    ranks = TensorGroup(group, dist.get_rank(), dist.get_world_size())
    transport._WORTH_IT = 0
    ways = {"collectives": travel_of(ranks, overlap=False), "peers": travel_of(ranks)}
    ways["peers"].meet(torch.device("cuda"))
    rows: list[dict[str, Any]] = []
    worst = 0.0
    for sublayer in SUBLAYERS:
        row: dict[str, Any] = {"sublayer": sublayer.name, "rows": sublayer.rows}
        for name, travel in ways.items():
            case = Case(sublayer, ranks, travel, torch.bfloat16, sublayer.rows)
            with torch.no_grad():
                row[f"{name} forward"] = slowest_ms(case.forward)
            row[f"{name} step"] = slowest_ms(case.step)
            row["alone step"] = slowest_ms(case.alone)
            wide = Case(sublayer, ranks, travel, torch.float64, 1024)
            row[f"{name} error"] = max(error for _again in range(5) for error in wide.errors())
            worst = max(worst, row[f"{name} error"])
        rows.append(row)
        if ranks.rank == 0:
            shown = (f"{key} {value:.3g}" if isinstance(value, float) else str(value) for key, value in row.items())
            print("  ".join(shown), flush=True)
    if ranks.rank == 0 and options.json:
        options.json.write_text(json.dumps({"torch": torch.__version__, "ranks": ranks.size, "rows": rows}, indent=1))
    dist.destroy_process_group()
    return 0 if worst <= BOUND else DIFFERS


if __name__ == "__main__":
    sys.exit(main())
