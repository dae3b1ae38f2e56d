"""Predicted memory beside what was measured on GPUs, for every result that holds its config.

    python benchmarks/memory.py [--markdown] [RESULT.json ...]

It runs on any machine: what was measured is read from benchmarks/results, and the plan of the same config is walked
through. Measured are torch's `max_memory_allocated` over all steps, first ones included, less what was there before the
model was built, inputs among it (`peak`), and `memory_allocated` after the first step (`held`).
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comparison.settings import Workload, config_of, parse_settings
from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.setup.run import open_run
from counterpoint.simulate.memory import RankMemory, memory
from counterpoint.simulate.sizes import lane_rows

RESULTS = Path(__file__).parent / "results"
GIB = 2**30


STEPS = 12
"""Steps whose largest peak is predicted: as many as a benchmark runs at least, for pictures of many sizes."""


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
    """The fullest rank of each kind of rank of every setting of ours whose steps are alike."""
    for file in files:
        record = json.loads(file.read_text())
        for row in record["rows"] if isinstance(record, dict) and "rows" in record else ():
            if "config" in row and not row.get("is_varied", False):
                yield from _of_row(file.stem, row, _config(record, row))


def _of_row(result: str, row: dict[str, Any], config: Config) -> Iterator[Point]:
    setup = open_run(config)
    predicted: dict[int, RankMemory] = {}
    for step in range(STEPS):
        batch = setup.plan.batch(step, setup.corpus.packs(step))
        programs = setup.plan.of_step(setup.plan.schedule, batch, batch).programs
        of_step = memory(setup.plan, lane_rows(setup.plan, batch), programs)
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


def _config(record: dict[str, Any], row: dict[str, Any]) -> Config:
    """The config of a row; rows of the VLM's benchmark hold one of an earlier schema, so that is made again."""
    if "sequence" in record:
        return load_config(row["config"])
    workload = Workload(**record["workload"])
    setting = parse_settings(row["name"], workload)[0]
    return config_of(setting, workload, record["world"], ["training.compile=true"])[0]


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
