"""What fast paths do to the loss: the hybrid's language model in bfloat16, on the same tokens, with and without them.

    torchrun --nproc-per-node=2 benchmarks/plain_path.py --steps 200 --json FILE

Runs one after the other: with fast paths; with them again, which shows how far runs part because GPUs add in another
order each time; twice more from initial values that are changed by half of what bfloat16 rounds, which shows how far
runs part that round differently; and on the plain path of `comparison/plain.py`, which rounds at other places.
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
from counterpoint.parallelize.fsdp import local
from counterpoint.train.engine import Engine

RUNS = {"fast": "ours", "fast again": "ours", "nudged": "ours", "nudged otherwise": "ours", "plain": "ours,eager"}
"""Settings by name."""

_SEEDS = {"nudged": 1, "nudged otherwise": 2}

_NUDGE = 2.0**-9
"""Half of the largest relative error of a bfloat16."""


class _Nudged(HybridOurs):
    """Ours from initial values that are changed by up to a nudge of themselves."""

    seed = 0

    def adjust(self, engine: Engine) -> None:
        """See EngineRun."""
        super().adjust(engine)
        for replica in engine.replicas.values():
            for number, parameter in enumerate(replica.chain.parameters()):
                values = local(parameter)
                generator = torch.Generator(values.device).manual_seed(self.seed + len(_SEEDS) * number)
                drawn = torch.rand(values.shape, generator=generator, device=values.device, dtype=values.dtype)
                with torch.no_grad():
                    values.mul_(1.0 + _NUDGE * (2.0 * drawn - 1.0))


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
                run = (_Nudged if name in _SEEDS else HybridOurs)(setting, config, cut, self.world, self._cache, 0)
                if isinstance(run, _Nudged):
                    run.seed = _SEEDS[name]
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
        """Losses and what sets the runs apart from the first, in the steps of each fifth."""
        first, *others = self._found
        lines = [f"{'steps':>9} {first:>9}" + "".join(f"{name:>26}" for name in others) + "  (difference, its size)"]
        length = max(1, self.options.steps // 5)
        for begin in range(0, self.options.steps, length):
            means = [f"{begin:4d}-{min(begin + length, self.options.steps) - 1:4d}"]
            here = self._found[first][begin : begin + length]
            means.append(f"{statistics.fmean(here):9.4f}")
            for name in others:
                apart = [o - f for o, f in zip(self._found[name][begin : begin + length], here, strict=True)]
                means.append(f"{statistics.fmean(apart):+15.1e} {statistics.fmean(map(abs, apart)):10.1e}")
            lines.append(" ".join(means))
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
