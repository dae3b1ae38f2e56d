"""Steps that other benchmarks have measured on H200s (`benchmarks/results`), as rows beside which a clock is laid."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from comparison.hybrid_runs import stream_of
from comparison.hybrid_settings import hybrid_config, parse_hybrid_settings
from comparison.settings import Workload, config_of, counts_of, parse_settings
from comparison.source import DrawnSource
from comparison.stick import draw_counts
from counterpoint.config.schema import Config
from counterpoint.costs.hardware import Hardware
from counterpoint.plan.samples import Pack
from counterpoint.setup.data import intakes_of
from counterpoint.setup.plan import execution_of
from counterpoint.setup.run import build_plan
from counterpoint.simulate.estimate import estimate

from .rows import GIB, Row

RESULTS = Path(__file__).parents[1] / "results"

PAIRS = (
    "vlm_main_4xh200", "vlm_main_2xh200", "vlm_tp_4xh200", "vlm_colocated_4xh200", "vlm_colocated_tp_2xh200",
    "vlm_disjoint_2xh200", "vlm_micro_batch_4_2xh200", "vlm_varied_4xh200", "vlm_varied_8_2xh200",
)  # fmt: skip
HYBRIDS = ("hybrid_2xh200", "hybrid_experts128_2xh200", "hybrid_packed_2xh200", "hybrid_vlm_2xh200")
FIRST_TIMED = 8
"""The first step that the hybrid's benchmark times: one builds, six warm up, one begins a block."""


def recorded_rows(hardware: Hardware) -> Iterator[Row]:
    """All settings of ours in these results, predicted on the hardware."""
    for name in PAIRS:
        record = _read(name)
        workload = Workload(**record["workload"])
        for found in (row for row in record["rows"] if not row["is_baseline"]):
            (setting,) = parse_settings(found["name"], workload)
            config, cut = config_of(setting, workload, record["world"], ["training.compile=true"])
            counts = counts_of(setting, workload, [draw_counts(seed) for seed in range(8)], cut.samples)
            source = DrawnSource(intakes_of(config), counts, workload.side)
            packs = [source.packs(step, cut) for step in range(min(2, len(counts)))]
            row = _row(f"{record['world']} x {found['name']}", found, config, packs, hardware)
            row.measured_bytes = round((found["held_gib"] + found["step_gib"]) * GIB)
            yield row
    for name in HYBRIDS:
        record = _read(name)
        for found in (row for row in record["rows"] if not row["is_peer"]):
            (chosen,) = parse_hybrid_settings(found["name"], record["workload"])
            experts = int(record["options"]["experts"])
            hybrid, shape = hybrid_config(chosen, record["workload"], record["world"], [], experts)
            stream = stream_of(hybrid, chosen, shape, 0)
            steps = range(FIRST_TIMED, FIRST_TIMED + 4)
            label = f"{record['workload']}, {experts} experts: {found['name']}"
            yield _row(label, found, hybrid, [stream.packs(step) for step in steps], hardware)


def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return found


def _row(
    name: str, found: dict[str, Any], config: Config, packs: Sequence[tuple[Pack, ...]], hardware: Hardware
) -> Row:  # fmt: skip
    plan = build_plan(config)
    batches = [plan.batch(number, of_step) for number, of_step in enumerate(packs)]
    made = estimate(plan, hardware, batches, execution_of(config))
    row = Row(name, "recorded")
    row.passes = [[milliseconds / 1e3 for milliseconds in found["step_ms"]]]
    row.note(made)
    return row
