"""What fast paths do to the loss: the hybrid's language model in bfloat16, on the same tokens, with and without them.

    torchrun --nproc-per-node=2 benchmarks/plain_path.py --steps 200 --json FILE

Three runs from the same initial values, one after the other: with fast paths, with them again, which shows how far runs
part by themselves (GPUs add in another order each time), and on the plain path of `comparison/plain.py`.
"""

import argparse
import gc
import statistics
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from comparison.call import measure, need_torchrun
from comparison.hybrid_rows import write_json
from comparison.hybrid_runs import HybridOurs
from comparison.hybrid_settings import hybrid_config, parse_hybrid_settings
from comparison.plain import plain_path
from comparison.stick import SMALL, TINY
from comparison.versions import gpu_names, versions
from counterpoint.execute.groups import GroupCache, World

RUNS = {"fast": "ours", "fast again": "ours", "plain": "ours,eager"}
"""Settings by name."""


def arguments() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--experts", type=int, default=SMALL.experts if TINY else 32)
    parser.add_argument("--limit", type=float, default=600.0, help="seconds after which the call ends")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


class Losses:
    """The losses of each run by step; all ranks know them."""

    def __init__(self, options: argparse.Namespace, world: World, control: dist.ProcessGroup) -> None:
        self.options, self.world, self._size = options, world, control.size()
        self._cache = GroupCache()
        self._found: dict[str, list[float]] = {}

    def run(self) -> None:
        """Train each run."""
        for name, written in RUNS.items():
            (setting,) = parse_hybrid_settings(written, "lm")
            config, cut = hybrid_config(setting, "lm", self._size, [], self.options.experts)
            began = time.perf_counter()
            with plain_path() if name == "plain" else nullcontext():
                run = HybridOurs(setting, config, cut, self.world, self._cache, 0)
                run.build()
                for number in range(1, self.options.steps):
                    run.step(number)
                run.losses()
            self._found[name] = list(run._losses)
            run.close()
            del run
            gc.collect()
            if not TINY:
                torch.cuda.empty_cache()
            if self.world.rank == 0:
                sys.stderr.write(f"{name}: {time.perf_counter() - began:.0f} s\n")
                self._write()

    def table(self) -> str:
        """Losses and what sets the runs apart, in the steps of each fifth."""
        lines = [
            f"{'steps':>9} {'fast':>9} {'plain':>9} {'again-fast':>11} {'plain-fast':>11}  (means, of |difference|)"
        ]
        fast, again, plain = self._found.values()
        length = max(1, len(fast) // 5)
        for first in range(0, len(fast), length):
            some = slice(first, first + length)
            apart = [
                statistics.fmean(abs(a - b) for a, b in zip(fast[some], o[some], strict=True)) for o in (again, plain)
            ]
            means = statistics.fmean(fast[some]), statistics.fmean(plain[some])
            lines.append(
                f"{first:4d}-{min(first + length, len(fast)) - 1:4d} {means[0]:9.4f} {means[1]:9.4f} "
                f"{apart[0]:12.2e} {apart[1]:12.2e}"
            )
        return "\n".join(lines)

    def _write(self) -> None:
        if self.options.json is not None:
            record: dict[str, Any] = {
                "steps": self.options.steps, "experts": self.options.experts, "world": self._size, "tiny": TINY,
                **versions(), "gpus": gpu_names(), "losses": self._found,
            }  # fmt: skip
            write_json(self.options.json, record)


def main() -> None:
    """Join, train, print."""
    options = arguments()
    need_torchrun()
    measure(options, Losses)


if __name__ == "__main__":
    main()
