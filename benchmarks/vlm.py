"""VLM-A: ours and the FSDP2 baseline in one call, on the same processes, in alternation.

    torchrun --nproc-per-node=4 benchmarks/vlm.py --settings colocated:8,colocated:4,group=2,fsdp2:8 --json FILE
    torchrun --nproc-per-node=4 benchmarks/vlm.py --workload varied --merge 4 \
        --settings fixed:4,varied:4,balance=none,varied:4,balance=sample,varied:4,balance=cost,fsdp2-fixed,fsdp2-varied
    BENCH_TINY=1 torchrun --nproc-per-node=2 benchmarks/vlm.py --settings colocated:4,tp4:4,fsdp2:4    # dry run, CPU

The workload, its FLOP count and the baseline are those of `benchmarks/baseline`. A setting is `kind:micro_batch` and
what follows it with `=`: group, encoder, buffer, schedule, balance, compile, reshard, samples, or a key of the config.
A micro-batch are samples of a language lane at once. Kinds of the workload `main`: colocated, tp4 (vision dp4, language
tp4), tp2, tp4tp4 (both tp4), disjoint13, disjoint22, disjoint22tp, and fsdp2. Kinds of `varied`: fixed and varied, with
layout=... as above, and fsdp2-fixed and fsdp2-varied, whose micro-batch is one.

All settings are built once and step in blocks that alternate: a step that is not timed, then `--steps` that are,
between CUDA events on each rank while the host runs ahead. A step is as long as on its slowest rank. FLOPs are counted
by the baseline's formula for both, which leaves out what ours does in addition: its tower begins with pixels, not with
given patch embeddings (768 x 1024 weights). Inputs of both lie on the GPU before timing and are not counted as memory;
with `--fed` ours reads, lays and copies each step's through its prefetcher, from images that need no decoding. Memory
is what a setting holds between steps and what a step adds at most, so what the others hold meanwhile is not in it.
"""

import argparse
import gc
import itertools
import json
import os
import statistics
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from comparison.call import measure, need_torchrun
from comparison.measure import Record, profile_run, time_block, warm_up, write_profile
from comparison.runs import Fsdp2, Fsdp2Model, Ours
from comparison.settings import Cut, Setting, Workload, check_baseline, config_of, parse_settings
from comparison.stick import TINY, W, draw_counts, gemm_tflops
from comparison.versions import public_options, versions
from counterpoint.config.schema import Config
from counterpoint.execute.groups import GroupCache, World

GIB = 2**30

Run = Ours | Fsdp2


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", choices=("main", "varied"), default="main")
    parser.add_argument("--merge", type=int, choices=(1, 4), default=4, help="patches a row of an image, in varied")
    parser.add_argument("--settings", required=True, help="separated by commas")
    parser.add_argument("--rounds", type=int, default=5, help="blocks of each setting")
    parser.add_argument("--steps", type=int, default=1 if TINY else 4, help="timed steps of a block")
    parser.add_argument("--warmup", type=int, default=1 if TINY else 5, help="steps before all blocks")
    parser.add_argument("--draws", type=int, default=2 if TINY else 8, help="different steps of the varied workload")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for all settings of ours")
    parser.add_argument("--fed", action="store_true", help="ours reads its inputs in every step")
    parser.add_argument("--one-by-one", action="store_true", help="build, time and free one setting after the other")
    parser.add_argument("--eager", action=argparse.BooleanOptionalAction, default=TINY, help="the baseline uncompiled")
    parser.add_argument("--attention", default=os.environ.get("BENCH_ATTENTION", "default"), help="the baseline's")
    parser.add_argument("--limit", type=float, default=580.0, help="seconds after which all ranks say where they are")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--profile", type=Path, metavar="DIR")
    options = parser.parse_args()
    need_torchrun()
    return options


class Comparison:
    """The runs of one call on this rank, and the rows that rank 0 makes of what all ranks saw."""

    def __init__(self, options: argparse.Namespace, world: World, control: dist.ProcessGroup) -> None:
        self.options, self.world, self.control = options, world, control
        self.workload = Workload(options.workload, options.merge if options.workload == "varied" else 1)
        self.settings = parse_settings(options.settings, self.workload)
        # What is wrong with a setting is found before anything is built.
        self._configs: dict[str, tuple[Config, Cut]] = {}
        for setting in self.settings:
            if setting.is_baseline:
                check_baseline(setting, control.size())
            else:
                self._configs[setting.name] = config_of(setting, self.workload, control.size(), options.set)
        self._cache = GroupCache()
        self._model = Fsdp2Model(self.workload, options.attention, options.eager)
        self._draws = [draw_counts(seed) for seed in range(options.draws)]
        self._rows: dict[str, dict[str, Any]] = {}
        self._gemm: list[float] = []
        self._read_gemm()

    def run(self) -> None:
        """Measure everything; what is known is written after every round."""
        # Those of the baseline share one trainer.
        alone = itertools.groupby(self.settings, lambda s: "" if s.is_baseline else s.name)
        groups = [list(group) for _name, group in alone] if self.options.one_by_one else [self.settings]
        for group in groups:
            self._run(group)
        self._read_gemm()
        self._compare()
        self._write()

    def table(self) -> str:
        """The rows as text."""
        lines = [f"GEMM {self._ceiling:.0f} TFLOP/s. Times are medians in ms, memory is of the fullest GPU."]
        lines.append(
            f"{'setting':<44} {'step':>8} {'least':>8} {'most':>8} {'mean':>8} {'tokens/s':>9} {'TFLOP/s':>8} "
            f"{'of GEMM':>8} {'x FSDP2':>8} {'x fixed':>8} {'held GiB':>9} {'+ step':>7}"
        )
        for row in self._rows.values():
            fsdp2, fixed = (f"{row[key]:.3f}" if row[key] else "" for key in ("of_best_fsdp2", "over_fixed"))
            lines.append(
                f"{row['name']:<44} {row['step_ms_median']:8.1f} {row['step_ms_min']:8.1f} {row['step_ms_max']:8.1f} "
                f"{row['step_ms_mean']:8.1f} {row['tokens_per_s']:9.0f} {row['tflops_gpu']:8.1f} "
                f"{row['fraction_of_gemm']:8.3f} {fsdp2:>8} {fixed:>8} {row['held_gib']:9.2f} {row['step_gib']:7.2f}"
            )
        return "\n".join(lines)

    def _run(self, settings: list[Setting]) -> None:
        pairs: list[tuple[Run, Record]] = []
        for setting in settings:
            run, record = self._open(setting), Record()
            # Every shape comes once before timing.
            warm_up(run, record, max(self.options.warmup, self.options.draws if setting.is_varied else 0))
            self._log(f"{setting.name} is built")
            pairs.append((run, record))
        for number in range(self.options.rounds):
            for run, record in pairs:
                time_block(run, record, self.options.steps, self.control)
            self._collect(pairs)
            self._log(f"round {number + 1} of {self.options.rounds}")
        if self.options.profile is not None:
            for run, record in pairs:
                profile_run(run, record, self.control)
            self._write_profiles(pairs, self._collect(pairs))
        for run, _record in pairs:
            run.close()
        gc.collect()
        if not TINY:
            torch.cuda.empty_cache()

    def _open(self, setting: Setting) -> Run:
        if setting.is_baseline:
            return Fsdp2(setting, self._model, self.world, self._draws)
        config, cut = self._configs[setting.name]
        return Ours(setting, self.workload, config, cut, self.world, self._cache, self._draws, self.options.fed)

    def _collect(self, pairs: list[tuple[Run, Record]]) -> dict[str, list[Record]]:
        """What all ranks saw; rank 0 makes rows of it."""
        own = {run.setting.name: (record, run.held) for run, record in pairs}
        gathered: list[Any] = [None] * self.control.size()
        dist.all_gather_object(gathered, own, group=self.control)
        for run, _record in pairs:
            name = run.setting.name
            ranks = [records[name] for records in gathered]
            self._rows[name] = self._row(run, [r for r, _held in ranks], [held for _r, held in ranks])
        self._compare()
        self._write()
        return {name: [records[name][0] for records in gathered] for name in own}

    def _read_gemm(self) -> None:
        readings: list[Any] = [None] * self.control.size()
        dist.all_gather_object(readings, gemm_tflops(), group=self.control)
        self._gemm += readings

    def _row(self, run: Run, ranks: list[Record], held: list[int]) -> dict[str, Any]:
        setting = run.setting
        steps = [max(seconds) for seconds in zip(*(record.seconds for record in ranks))]
        median, flops = statistics.median(steps), self.workload.flops(run.samples)
        memory = [(h, record.step_bytes) for h, record in zip(held, ranks)]
        fullest = max(memory, key=sum)
        return {
            "name": setting.name, "is_baseline": setting.is_baseline, "is_varied": setting.is_varied,
            "micro_batch": setting.micro_batch, "samples": run.samples, "steps_timed": len(steps),
            "step_ms_median": median * 1e3, "step_ms_min": min(steps) * 1e3, "step_ms_max": max(steps) * 1e3,
            # Of whole blocks: where ranks run apart, steps of the slowest rank add up to more than passes.
            "step_ms_mean": statistics.mean(max(block) for block in zip(*(r.blocks for r in ranks))) * 1e3,
            "tokens_per_s": run.samples * W.seq / median,
            "model_tflop_per_step": flops / 1e12,
            "tflops_gpu": flops / median / self.control.size() / 1e12,
            "held_gib": fullest[0] / GIB, "step_gib": fullest[1] / GIB,
            "memory_gib_by_rank": [{"held": h / GIB, "step": s / GIB} for h, s in memory],
            "cuda_allocations_while_timed": [record.cuda_allocations for record in ranks],
            "loss_first_last": [statistics.mean(record.losses[i] for record in ranks) for i in (0, 1)],
            **ranks[0].facts,
            "bridge_bytes_by_rank": [record.bridge for record in ranks],
            "profile_by_rank": [r.profile | {"table": r.profile.get("table", ())[:40]} for r in ranks if r.profile],
            "step_ms": [seconds * 1e3 for seconds in steps],
            "step_ms_by_rank": [[seconds * 1e3 for seconds in record.seconds] for record in ranks],
        }  # fmt: skip

    def _compare(self) -> None:
        """Shares of the ceiling, of the best FSDP2 row of the same work, and of the fixed row of the same kind."""
        rows = self._rows.values()
        for row in rows:
            alike = [r for r in rows if r["is_varied"] == row["is_varied"]]
            best = max((r["tflops_gpu"] for r in alike if r["is_baseline"]), default=None)
            row["fraction_of_gemm"] = row["tflops_gpu"] / self._ceiling
            row["of_best_fsdp2"] = None if best is None else row["tflops_gpu"] / best
            fixed = [
                r["step_ms_median"] for r in rows
                if row["is_varied"] and not r["is_varied"]
                and (r["is_baseline"], r["micro_batch"]) == (row["is_baseline"], row["micro_batch"])
            ]  # fmt: skip
            row["over_fixed"] = row["step_ms_median"] / fixed[0] if fixed else None

    @property
    def _ceiling(self) -> float:
        """The highest reading of the call: single ones scatter."""
        return max(self._gemm)

    def _write_profiles(self, pairs: list[tuple[Run, Record]], seen: dict[str, list[Record]]) -> None:
        if self.world.rank != 0:
            return
        self.options.profile.mkdir(parents=True, exist_ok=True)
        for run, _record in pairs:
            name = run.setting.name
            ranks = range(self.control.size())
            placed = run.plan.placement if isinstance(run, Ours) else None
            modules = [("everything",) if placed is None else placed.modules_of(rank) for rank in ranks]
            file = "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in name) + ".txt"
            step = self._rows[name]["step_ms_median"] / 1e3
            write_profile(self.options.profile / file, name, seen[name], modules, step)

    def _write(self) -> None:
        if self.options.json is None or self.world.rank != 0:
            return
        record = {
            "environment": {k: v for k, v in os.environ.items() if k.startswith(("BENCH_", "PYTORCH_", "NCCL_"))},
            "workload": asdict(self.workload), "world": self.control.size(), "tiny": TINY,
            "options": public_options(vars(self.options)),
            **versions(), "gemm_tflops": self._ceiling, "gemm_readings": self._gemm,
            "rows": list(self._rows.values()),
        }  # fmt: skip
        self.options.json.parent.mkdir(parents=True, exist_ok=True)
        self.options.json.write_text(json.dumps(record, indent=1) + "\n")

    def _log(self, words: str) -> None:
        if self.world.rank == 0:
            print(words, file=sys.stderr, flush=True)


def main() -> None:
    """Join, measure, print."""
    options = arguments()
    measure(options, Comparison)


if __name__ == "__main__":
    main()
