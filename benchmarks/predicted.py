"""Steps of many layouts, predicted by the clock and measured beside it.

    python benchmarks/predicted.py tiny --hardware cpu.json --json FILE               # 12 layouts on 2 CPU ranks
    python benchmarks/predicted.py tiny4 --hardware cpu.json                          # 12 layouts on 4 CPU ranks
    python benchmarks/predicted.py pair hybrid --hardware h200.json --limit 470       # on 2 GPUs
    python benchmarks/predicted.py pair1 hybrid1 --hardware h200.json --limit 400     # on one GPU
    python benchmarks/predicted.py pair hybrid --small --hardware cpu.json            # dry run on the CPU
    python benchmarks/predicted.py tiny --hardware cpu.json --again FILE              # predict what FILE measured
    python benchmarks/predicted.py recorded --hardware H200                           # and what benchmarks/results did

`tiny` is the demo's pair, `pair` that of examples/pair_1b.yaml, `hybrid` the 20-layer recipe with 16 experts; `pair1`
and `hybrid1` are both on one rank, where layouts differ in microbatches and in what is kept of activations. On CPUs
all layouts of a suite are built once and step in blocks that take turns. On GPUs each is built, timed and freed, all
of them `--passes` times. A layout that fails, or takes longer than `--layout-seconds`, is a row that says so; after
`--limit` seconds no other is begun. A step is as long as on its slowest rank. `counterpoint calibrate` writes the
hardware file.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from comparison.versions import public_options
from counterpoint import costs
from counterpoint.config.schema import Config
from counterpoint.costs.hardware import Hardware
from counterpoint.errors import CounterpointError
from counterpoint.setup.plan import execution_of
from counterpoint.setup.run import prepare_run
from counterpoint.simulate.estimate import Estimate, estimate
from counterpoint.verify.pool import Pool
from prediction.layouts import ON_CPU, SUITES, Layout, config_of
from prediction.measured import Effort, Measured, measure
from prediction.rows import Row, summary, table, words


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="+", choices=(*SUITES, RECORDED))
    parser.add_argument("--hardware", required=True, metavar="NAME|FILE")
    parser.add_argument("--layouts", default="", help="only those whose names contain one of these words, by commas")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--rounds", type=int, default=5, help="blocks of each layout in a pass")
    parser.add_argument("--steps", type=int, default=4, help="timed steps of a block")
    parser.add_argument("--warmup", type=int, default=3, help="steps before all blocks")
    parser.add_argument("--batches", type=int, default=2, help="different steps that take turns")
    parser.add_argument("--passes", type=int, default=1, help="times that each layout is built and measured, on GPUs")
    parser.add_argument("--layout-seconds", type=float, default=150.0, help="most for one layout of a pass, on GPUs")
    parser.add_argument("--limit", type=float, default=1e9, help="seconds after which no layout is begun")
    parser.add_argument("--one-by-one", action="store_true", help="also on CPUs")
    parser.add_argument("--small", action="store_true", help="small models on the CPU, to try the script")
    parser.add_argument("--profile", action="store_true", help="write each layout's kernels by group, on GPUs")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for all layouts")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--again", type=Path, help="take what this file measured, and only predict")
    return parser.parse_args()


RECORDED = "recorded"
"""The suite of what other benchmarks have measured: nothing is run."""


class Comparison:
    """Rows of all layouts, filled as they are measured and predicted."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.began = options, time.monotonic()
        self.hardware = costs.load(options.hardware)
        named = [word for word in options.layouts.split(",") if word]
        chosen = [layout for suite in options.suites if suite != RECORDED for layout in SUITES[suite]]
        self.layouts = [one for one in chosen if not named or any(word in one.name for word in named)]
        self.rows = {layout: Row(layout.name, layout.suite) for layout in self.layouts}
        self.earlier: list[Row] = []
        on_cpu = options.small or not (torch.cuda.is_available() or options.again)
        self.apart = options.one_by_one or not on_cpu
        self.devices = {one: "cpu" if on_cpu or one.suite in ON_CPU else "cuda" for one in self.layouts}
        self.configs = {layout: self._config(layout) for layout in self.layouts}

    def run(self) -> None:
        """Predict and measure; what is known is written on the way."""
        if RECORDED in self.options.suites:
            from prediction.recorded import recorded_rows

            self.earlier = list(recorded_rows(self.hardware))
        for layout in self.layouts:
            self._predict(layout)
        if self.options.again is not None:
            self._take(json.loads(self.options.again.read_text()))
        else:
            self._together([one for one in self.layouts if one.suite in ON_CPU or not self.apart])
            self._one_by_one([one for one in self.layouts if one.suite not in ON_CPU and self.apart])
        self.write()

    def text(self) -> str:
        """Tables and sentences by suite."""
        pieces = [f"{self.hardware.name} ({self.hardware.source})"]
        for suite in self.options.suites:
            rows = self._of(suite)
            pieces += [f"\n{suite}", table(rows), words(summary(rows))]
        return "\n".join(pieces)

    def write(self) -> None:
        """Write all rows to the file, if one is asked for."""
        if self.options.json is None:
            return
        rows = [
            {**asdict(row), "seconds": row.seconds if row.passes else None, "error": row.error if row.passes else None}
            for row in (*self.rows.values(), *self.earlier)
        ]
        suites = {suite: summary(self._of(suite)) for suite in self.options.suites}
        options = public_options({**vars(self.options), "hardware": None})
        record = {
            "options": options, "torch": torch.__version__, "hardware": self.hardware.name,
            "machine": dict(self.hardware.machine), "source": self.hardware.source, "suites": suites, "rows": rows,
        }  # fmt: skip
        self.options.json.write_text(json.dumps(record, indent=1) + "\n")

    def _of(self, suite: str) -> list[Row]:
        return [row for row in (*self.rows.values(), *self.earlier) if row.suite == suite]

    def _config(self, layout: Layout) -> Config:
        device = self.devices[layout]
        compiles = device == "cuda" and self.options.compile
        own = [f"run.device={device}", f"training.compile={str(compiles).lower()}"]
        return config_of(layout, [*own, *self.options.set], small=self.options.small)

    def _predict(self, layout: Layout) -> None:
        row = self.rows[layout]
        try:
            found = predicted(self.configs[layout], self.hardware, self.options.batches)
        except CounterpointError as error:
            row.failed = f"not predicted: {error}"
            return
        row.note(found)

    def _effort(self) -> Effort:
        given = self.options
        return Effort(
            rounds=given.rounds, steps=given.steps, warmup=given.warmup, batches=given.batches, profiles=given.profile
        )

    def _left(self) -> float:
        return float(self.options.limit) - (time.monotonic() - self.began)

    def _together(self, layouts: Sequence[Layout]) -> None:
        for suite in self.options.suites:
            for size in sorted({one.ranks for one in layouts if one.suite == suite}):
                alike = [o for o in layouts if o.suite == suite and o.ranks == size and not self.rows[o].failed]
                with Pool(size, "cpu", timeout_seconds=min(3000.0, self._left())) as pool:
                    self._measure(pool, alike)

    def _one_by_one(self, layouts: Sequence[Layout]) -> None:
        for number in range(self.options.passes):
            for size in sorted({one.ranks for one in layouts}):
                with Pool(size, self.devices[layouts[0]], timeout_seconds=self.options.layout_seconds) as pool:
                    for layout in (one for one in layouts if one.ranks == size and not self.rows[one].failed):
                        if self._left() < self.options.layout_seconds / 2:
                            self._skip(layout, number)
                            continue
                        self._measure(pool, [layout])
                        self.write()

    def _skip(self, layout: Layout, number: int) -> None:
        if number == 0:
            self.rows[layout].failed = f"not begun after {self.options.limit:.0f} seconds"

    def _measure(self, pool: Pool, layouts: Sequence[Layout]) -> None:
        configs = {layout.name: self.configs[layout] for layout in layouts}
        try:
            found: dict[str, list[Measured]] = pool.run(measure, configs, self._effort())
        except CounterpointError as error:
            for layout in layouts:
                if not self.rows[layout].passes:
                    self.rows[layout].failed = str(error)[-600:]
            self._log(f"{layouts[0].name} failed: {str(error)[-300:]}")
            return
        for layout in layouts:
            self.rows[layout].take(found[layout.name])
            self._log(f"{layout.name}: {self.rows[layout].seconds * 1e3:.1f} ms")

    def _take(self, record: dict[str, Any]) -> None:
        by_name = {(row["suite"], row["name"]): row for row in record["rows"]}
        for layout, row in self.rows.items():
            if row.failed:
                continue
            found = by_name.get((layout.suite, layout.name))
            if found is None:
                row.failed = "not in the file"
                continue
            for key in ("passes", "measured_bytes", "reserved_bytes", "build_seconds", "actions", "failed"):
                setattr(row, key, found[key])
            row.kernels = found.get("kernels", [])
            row.batches = found.get("batches", [])

    def _log(self, words: str) -> None:
        print(f"{time.monotonic() - self.began:6.1f} s  {words}", file=sys.stderr, flush=True)


def predicted(config: Config, hardware: Hardware, batches: int) -> Estimate:
    """The estimate of a config's first steps, which are those that are measured."""
    plan, _models, corpus = prepare_run(config)
    steps = [plan.batch(step, corpus.packs(step)) for step in range(batches)]
    return estimate(plan, hardware, steps, execution_of(config))


def main() -> None:
    """Measure, predict, print."""
    comparison = Comparison(arguments())
    comparison.run()
    print(comparison.text(), flush=True)


if __name__ == "__main__":
    main()
