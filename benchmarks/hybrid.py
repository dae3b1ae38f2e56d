"""The Mamba-MoE hybrid, alone or with its tower: ours and a peer in plain FSDP2 in one call, in alternation.

    torchrun --nproc-per-node=2 benchmarks/hybrid.py --settings ours,ours,balanced,peer --json FILE --profile DIR
    torchrun --nproc-per-node=1 benchmarks/hybrid.py --settings ours,peer --one-by-one
    torchrun --nproc-per-node=2 benchmarks/hybrid.py --workload vlm --settings ours,ours,recompute=[*]
    python benchmarks/hybrid.py --combine FIRST.json SECOND.json THIRD.json
    BENCH_TINY=1 torchrun --nproc-per-node=2 benchmarks/hybrid.py --settings ours,peer         # dry run, CPU

`lm` is the language model of recipes/nemotron6-moe-vlm-20l.yaml, whole sequences of 8192 tokens; `vlm` the whole
recipe, packed, its images between the text. Tokens are drawn anew in every step, by a Zipf-like distribution. A setting
is `ours` or `peer` and what follows it: the flags balanced (experts are dealt rows evenly), packed (several documents a
sequence) and eager; experts, sequences (of a lane), ep, vision (ranks of the tower alone), recompute, compile, reshard,
chunk, balance, with `=`; or a key of ours' config. Ranks share the experts: ep is the number of ranks unless set.

All settings are built once and step in blocks that alternate: a step that is not timed, then `--steps` that are,
between CUDA events on each rank while the host runs ahead. With `--one-by-one` each is built, timed and freed, which
one GPU needs, `--passes` times. A step is as long as on its slowest rank. FLOPs of a token are counted by one formula
(3 x forward, causal half, chunks of 128 rows). Peak memory includes the warm-up, and no other setting. A setting that
fails becomes a row that says so, and the others go on; if ranks fail apart, the call ends with what it knows.
"""

import argparse
import contextlib
import gc
import os
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from comparison.call import measure, need_torchrun
from comparison.hybrid_rows import combined, row_of, table, write_json
from comparison.hybrid_runs import HybridOurs, HybridPeer, parameters_of
from comparison.hybrid_settings import (
    RECIPE,
    SEQUENCE,
    HybridSetting,
    check_peer_parameters,
    hybrid_config,
    parse_hybrid_settings,
)
from comparison.measure import Record, profile_run, time_block, warm_up, write_profile
from comparison.settings import SettingError
from comparison.stick import SMALL, TINY, gemm_tflops, sync
from comparison.versions import gpu_names, packages, public_options, versions
from counterpoint.errors import ConfigError
from counterpoint.execute.groups import GroupCache, World

GRACE_SECONDS = 45.0
"""How long a rank may go on in a block after another rank has failed in it."""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", choices=("lm", "vlm"), default="lm")
    parser.add_argument("--settings", default="ours,peer", help="separated by commas")
    parser.add_argument(
        "--experts", type=int, default=SMALL.experts if TINY else 32, help="where a setting says nothing"
    )
    parser.add_argument("--rounds", type=int, default=2 if TINY else 4, help="blocks of each setting")
    parser.add_argument("--steps", type=int, default=1 if TINY else 10, help="timed steps of a block")
    parser.add_argument("--warmup", type=int, default=1 if TINY else 6, help="steps before all blocks")
    parser.add_argument("--passes", type=int, default=1, help="times that all settings are built, with --one-by-one")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for all settings of ours")
    parser.add_argument("--one-by-one", action="store_true", help="build, time and free one setting after the other")
    parser.add_argument("--seed", type=int, default=0, help="of the tokens")
    parser.add_argument("--limit", type=float, default=570.0, help="seconds after which all ranks say where they are")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--profile", type=Path, metavar="DIR")
    parser.add_argument("--combine", type=Path, nargs="+", metavar="FILE", help="the rows of several launches as one")
    options = parser.parse_args()
    if options.combine is None:
        need_torchrun()
    return options


Run = HybridOurs | HybridPeer
Pair = tuple[Run, Record]


class Alarm:
    """Ends a call in which one rank fails while others wait for it: a file says so, and a thread of each rank looks."""

    def __init__(self, end: Callable[[str], None]) -> None:
        port = os.environ["MASTER_PORT"]
        self._file = Path(tempfile.gettempdir()) / f"hybrid-{port}.failed"
        self._end = end
        self.inside = ""
        with contextlib.suppress(FileNotFoundError):
            self._file.unlink()
        threading.Thread(target=self._watch, daemon=True).start()

    def raise_(self, words: str) -> None:
        """Tell the other ranks."""
        with self._file.open("a") as file:
            file.write(words + "\n")

    def clear(self) -> None:
        """All ranks know."""
        with contextlib.suppress(FileNotFoundError):
            self._file.unlink()

    def _watch(self) -> None:
        since: float | None = None
        while True:
            time.sleep(1.0)
            if not self.inside or not self._file.exists():
                since = None
                continue
            since = since or time.monotonic()
            if time.monotonic() - since > GRACE_SECONDS:
                self._end(f"{self.inside}: {self._file.read_text().strip()}")


class Comparison:
    """The runs of one call on this rank, and the rows that rank 0 makes of what all ranks saw."""

    def __init__(self, options: argparse.Namespace, world: World, control: dist.ProcessGroup) -> None:
        self.options, self.world, self.control = options, world, control
        self.settings = parse_hybrid_settings(options.settings, options.workload)
        self._cache, self._peer_groups = GroupCache(), dict[Any, Any]()
        self._rows: dict[str, dict[str, Any]] = {}
        self._records: dict[str, Record] = {}
        self._gemm: list[float] = []
        self._read_gemm()
        self._alarm = Alarm(self._give_up)
        dist.barrier(control)

    def run(self) -> None:
        """Measure everything; what is known is written after every round."""
        apart = [[setting] for setting in self.settings] * self.options.passes
        for group in apart if self.options.one_by_one else [self.settings]:
            self._run(group)
        self._read_gemm()
        self._write()

    def table(self) -> str:
        """The rows as text."""
        return table(self._ordered(), self._ceiling)

    def _ordered(self) -> list[dict[str, Any]]:
        """The rows as the settings were written."""
        return [self._rows[setting.name] for setting in self.settings if setting.name in self._rows]

    def _run(self, settings: list[HybridSetting]) -> None:
        pairs: list[Pair] = []
        for setting in settings:
            opened: list[Pair] = []
            if self._together(setting.name, partial(self._build, setting, opened)):
                pairs += opened
                self._log(f"{setting.name} is built")
            else:
                self._drop(opened)
        for number in range(self.options.rounds):
            for pair in list(pairs):
                run, record = pair
                block = partial(time_block, run, record, self.options.steps, self.control)
                if not self._together(run.setting.name, block):
                    pairs.remove(pair)
                    self._drop([pair])
            self._collect(pairs)
            self._log(f"round {number + 1} of {self.options.rounds}")
        if self.options.profile is not None:
            for pair in list(pairs):
                run, record = pair
                if not self._together(run.setting.name, partial(profile_run, run, record, self.control)):
                    pairs.remove(pair)
                    self._drop([pair])
            self._write_profiles(pairs, self._collect(pairs))
        self._drop(pairs)

    def _build(self, setting: HybridSetting, opened: list[Pair]) -> None:
        """Build a setting and warm it up; what was made of it is in `opened` even if this fails."""
        record = self._records.setdefault(setting.name, Record())
        opened.append((self._open(setting), record))
        warm_up(opened[0][0], record, self.options.warmup)

    def _open(self, setting: HybridSetting) -> Run:
        world = self.control.size()
        experts = setting.number("experts", self.options.experts)
        if not setting.is_peer:
            config, cut = hybrid_config(setting, self.options.workload, world, self.options.set, experts)
            return HybridOurs(setting, config, cut, self.world, self._cache, self.options.seed)
        # Its sizes are those of ours' config, under what all settings of ours are under.
        shape = tuple(pair for pair in setting.options if pair[0] in ("experts", "sequences"))
        config, cut = hybrid_config(replace(setting, options=shape), "lm", world, self.options.set, experts)
        run = HybridPeer(setting, config, cut, self.world, self._peer_groups, self.options.seed)
        check_peer_parameters(parameters_of(config), run.parameters)
        return run

    def _together(self, name: str, work: Callable[[], None]) -> bool:
        """Whether the work succeeded on every rank; else the setting's row says why it did not."""
        self._alarm.inside = name
        words = ""
        try:
            work()
            sync()
        except Exception as error:  # Whatever fails in a setting, the others are measured.
            words = f"rank {self.world.rank}: {type(error).__name__}: {str(error).strip() or 'without words'}"
            if not isinstance(error, (ConfigError, SettingError)):  # Those say it in one sentence.
                sys.stderr.write(traceback.format_exc())
            self._alarm.raise_(words)
        found: list[Any] = [None] * self.control.size()
        dist.all_gather_object(found, words, group=self.control)
        self._alarm.inside = ""
        dist.barrier(self.control)
        if not any(found):
            return True
        if self.world.rank == 0:
            self._alarm.clear()
        dist.barrier(self.control)
        self._fail(name, next(one for one in found if one))
        return False

    def _fail(self, name: str, words: str) -> None:
        self._rows.setdefault(name, {"name": name})["failed"] = words[:600]
        self._log(f"{name} failed: {words}")
        self._write()

    def _give_up(self, words: str) -> None:
        """Called by a thread while the main one waits for a rank that has failed: write what is known and end."""
        name, _colon, reason = words.partition(": ")
        sys.stderr.write(f"error: {name}: ranks failed apart, the call ends: {reason}\n")
        if self.world.rank == 0:
            self._fail(name, reason)
            for setting in self.settings:
                self._rows.setdefault(setting.name, {"name": setting.name, "failed": "not run: an earlier one failed"})
            self._write()
            print(self.table(), flush=True)
        sys.stderr.flush()
        time.sleep(5.0)
        os._exit(0)

    def _drop(self, pairs: list[Pair]) -> None:
        for run, _record in pairs:
            with contextlib.suppress(Exception):
                run.close()
        pairs.clear()
        gc.collect()
        if not TINY:
            torch.cuda.empty_cache()

    def _collect(self, pairs: list[Pair]) -> dict[str, list[Record]]:
        """What all ranks saw; rank 0 makes rows of it."""
        own = {run.setting.name: (record, run.held) for run, record in pairs}
        gathered: list[Any] = [None] * self.control.size()
        dist.all_gather_object(gathered, own, group=self.control)
        for run, _record in pairs:
            name = run.setting.name
            ranks = [records[name] for records in gathered]
            self._rows[name] = row_of(run, [record for record, _held in ranks], [held for _record, held in ranks])
        self._write()
        return {name: [records[name][0] for records in gathered] for name in own}

    def _read_gemm(self) -> None:
        readings: list[Any] = [None] * self.control.size()
        dist.all_gather_object(readings, gemm_tflops(), group=self.control)
        self._gemm += readings

    @property
    def _ceiling(self) -> float:
        return max(self._gemm)

    def _write_profiles(self, pairs: list[Pair], seen: dict[str, list[Record]]) -> None:
        if self.world.rank != 0:
            return
        self.options.profile.mkdir(parents=True, exist_ok=True)
        for run, _record in pairs:
            name = run.setting.name
            modules = [run.plan.placement.modules_of(rank) if isinstance(run, HybridOurs) else ("language",)
                       for rank in range(self.control.size())]  # fmt: skip
            file = "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in name) + ".txt"
            step = self._rows[name]["step_ms_median"] / 1e3
            write_profile(self.options.profile / file, name, seen[name], modules, step)

    def _write(self) -> None:
        if self.options.json is None or self.world.rank != 0:
            return
        record = {
            "workload": self.options.workload, "recipe": f"recipes/{RECIPE.name}", "sequence": SEQUENCE,
            "world": self.control.size(), "tiny": TINY, "options": public_options(vars(self.options)),
            "environment": {k: v for k, v in os.environ.items() if k.startswith(("BENCH_", "PYTORCH_", "NCCL_"))},
            **versions(), "gpus": gpu_names(), "packages": packages(),
            "gemm_tflops": self._ceiling, "gemm_readings": self._gemm,
            "rows": self._ordered(),
        }  # fmt: skip
        write_json(self.options.json, record)

    def _log(self, words: str) -> None:
        if self.world.rank == 0:
            print(f"{time.strftime('%H:%M:%S')} {words}", file=sys.stderr, flush=True)


def main() -> None:
    """Join, measure, print."""
    options = arguments()
    if options.combine is not None:
        record = combined(options.combine)
        if options.json is not None:
            write_json(options.json, record)
        print(table(record["rows"], record["gemm_tflops"]))
        return
    measure(options, Comparison)


if __name__ == "__main__":
    main()
