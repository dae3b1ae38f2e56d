"""Predicted memory beside what was measured on GPUs, for every result that holds its config.

    python benchmarks/memory.py [--markdown] [RESULT.json ...]

It runs on any machine: what was measured is read from benchmarks/results, and the plan of the same config is walked
through for the same steps. Measured are torch's `max_memory_allocated` over all steps, first ones included, less what
was there before the model was built and the inputs of a block (`peak`), and `memory_allocated` after the first step
(`held`).
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comparison.hybrid_runs import stream_of
from comparison.hybrid_settings import cut_of, parse_hybrid_settings
from comparison.settings import Workload, config_of, parse_settings
from counterpoint.config.load import load_config
from counterpoint.plan.plan import Plan
from counterpoint.plan.samples import Pack
from counterpoint.setup.run import build_plan, open_run
from counterpoint.simulate.memory import RankMemory, memory
from counterpoint.simulate.sizes import lane_rows

RESULTS = Path(__file__).parent / "results"
GIB = 2**30

STEPS = 2
"""Steps of the VLM's benchmark that are predicted: those of the settings that are read are alike."""


@dataclass(frozen=True, slots=True)
class Point:
    """A rank of a setting: GiB that it was measured to hold and to need, and what is predicted."""

    result: str
    setting: str
    rank: int
    held: float
    peak: float
    predicted: RankMemory

    @property
    def error(self) -> float:
        """The predicted peak over the measured one, less 1."""
        return self.predicted.total_bytes / GIB / self.peak - 1


def points(files: Sequence[Path]) -> Iterator[Point]:
    """The fullest rank of each kind of rank of every setting of ours whose steps are known."""
    for file in files:
        record = json.loads(file.read_text())
        for row in record["rows"] if isinstance(record, dict) and "rows" in record else ():
            if "config" in row and not row.get("is_varied", False):
                yield from _of_row(file.stem, record, row)


def _of_row(result: str, record: dict[str, Any], row: dict[str, Any]) -> Iterator[Point]:
    plan, steps = steps_of(record, row)
    predicted: dict[int, RankMemory] = {}
    for number, packs in enumerate(steps):
        batch = plan.batch(number, packs)
        programs = plan.of_step(plan.schedule, batch, batch).programs
        of_step = memory(plan, lane_rows(plan, batch), programs)
        predicted |= {
            r: m for r, m in of_step.items() if r not in predicted or m.total_bytes > predicted[r].total_bytes
        }
    measured = _measured(row)
    for used in dict.fromkeys(predicted.values()):
        rank = max((r for r in predicted if predicted[r] == used), key=lambda r: measured[r][1])
        yield Point(result, row["name"], rank, *measured[rank], used)


def _measured(row: dict[str, Any]) -> list[tuple[float, float]]:
    """GiB held and at the peak, by rank."""
    if "peak_gib_by_rank" in row:
        return list(zip(row["held_gib_by_rank"], row["peak_gib_by_rank"], strict=True))
    return [(one["held"], one["held"] + one["step"]) for one in row["memory_gib_by_rank"]]


def steps_of(record: dict[str, Any], row: dict[str, Any]) -> tuple[Plan, list[tuple[Pack, ...]]]:
    """The plan of a row of ours, and the steps that it took."""
    return _hybrid(record, row) if "sequence" in record else _pair(record, row)


def _hybrid(record: dict[str, Any], row: dict[str, Any]) -> tuple[Plan, list[tuple[Pack, ...]]]:
    """Of the hybrid's benchmark: all steps of a build, its warm-up and its blocks."""
    config, options = load_config(row["config"]), record["options"]
    (setting,) = parse_hybrid_settings(row["name"], record["workload"])
    stream = stream_of(config, setting, cut_of(setting, record["workload"], record["world"]), int(options["seed"]))
    # A build takes the first step, and of each block another one is not timed.
    taken = 1 + int(options["warmup"]) + int(options["rounds"]) * (1 + int(options["steps"]))
    return build_plan(config), [stream.packs(step) for step in range(taken)]


def _pair(record: dict[str, Any], row: dict[str, Any]) -> tuple[Plan, list[tuple[Pack, ...]]]:
    """Of the VLM's benchmark: some steps. Its rows hold configs of an earlier schema, so these are made again."""
    workload = Workload(**record["workload"])
    (setting,) = parse_settings(row["name"], workload)
    setup = open_run(config_of(setting, workload, record["world"], ["training.compile=true"])[0])
    return setup.plan, [setup.corpus.packs(step) for step in range(STEPS)]


def main() -> None:
    """Print a line for each point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="*", help="results; without any, all of benchmarks/results")
    parser.add_argument("--markdown", action="store_true", help="as a table of a page")
    options = parser.parse_args()
    found = list(points(options.files or sorted(RESULTS.glob("*.json"))))
    between, edge = (" | ", "| ") if options.markdown else ("  ", "")
    columns = (
        "result",
        "setting",
        "rank",
        "static: measured",
        "predicted",
        "peak: measured",
        "predicted",
        "error",
        "at",
    )
    lines: list[tuple[str, ...]] = [columns, *([("---",) * len(columns)] if options.markdown else ())]
    for one in found:
        used = one.predicted
        numbers = (one.held, used.static_bytes / GIB, one.peak, used.total_bytes / GIB)
        lines.append(
            (one.result, one.setting, str(one.rank), *(f"{n:.2f}" for n in numbers), f"{one.error:+.1%}", used.at)
        )
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    for line in lines:
        cells = (f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True))
        print((edge + between.join(cells) + edge[::-1]).rstrip())
    print(f"\n{len(found)} points, largest error {max(abs(one.error) for one in found):.1%}")


if __name__ == "__main__":
    main()
