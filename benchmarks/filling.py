"""Encoders in the gaps of the pipeline, by the clock, beside a lower bound: the tables of docs/schedules.md.

    PYTHONPATH=. python benchmarks/filling.py [--json FILE]

A ViT has a lane on each rank of the language model's pipeline. A stage's backward takes twice its forward, transfers
take no time, and the orders are made with these costs. The lower bound is that of `counterpoint.plan.least_time`, at
the memory bound of each table.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path

from tests.asked import asked

from counterpoint.plan.least_time import least_time
from counterpoint.plan.plan import Plan
from counterpoint.plan.schedule import limits_of
from counterpoint.plan.stages import EncoderOrder
from counterpoint.plan.step_tasks import tasks_of
from counterpoint.simulate.clock import simulate
from schedules import LANGUAGE, plan_of

ENCODERS: tuple[EncoderOrder, ...] = ("first", "just_in_time", "fill")
SHARES = (Fraction(1, 6), Fraction(1, 3), Fraction(2, 3))
MICROBATCHES = (4, 8, 16, 32)


@dataclass(frozen=True, slots=True)
class Row:
    """Makespans of one case, in forwards of a stage of the language model; None where an order is not possible.

    `share` is the ViT's part of the language model's FLOPs, `buffer` the most microbatches that it keeps.
    """

    pp: int
    share: str
    microbatches: int
    buffer: int | None
    bound: float
    first: float | None
    just_in_time: float
    fill: float
    filled: float


def case(pp: int, share: Fraction, microbatches: int, kind: str, encoder: EncoderOrder, buffer: int | None) -> Plan:
    """A ViT on all ranks of a language model's pipeline."""
    ranks = tuple(range(pp))
    requests = (asked("vision", ranks=ranks, dp_shard=pp), asked(LANGUAGE, ranks=ranks, pp=pp))
    weights = {"vision": share.numerator, LANGUAGE: share.denominator}
    return replace(plan_of(requests, kind, 1, encoder, microbatches, buffer), weights=weights)


def row(pp: int, share: Fraction, microbatches: int, buffer: int | None = None) -> Row:
    """All orders of one case; with a `buffer` the encoder cannot run first."""

    def time(kind: str, encoder: EncoderOrder) -> float:
        plan = case(pp, share, microbatches, kind, encoder, None if encoder == "first" else buffer)
        return simulate(plan).makespan / share.denominator

    stages = case(pp, share, microbatches, "filled", "just_in_time", buffer).stages
    least = least_time(tasks_of(stages, microbatches, limits_of(stages, microbatches)))
    return Row(
        pp, str(share), microbatches, buffer,
        bound=least / stages.unit_scale / share.denominator,
        first=time("1f1b", "first") if buffer is None else None,
        just_in_time=time("1f1b", "just_in_time"),
        fill=time("1f1b", "fill"),
        filled=time("filled", "just_in_time"),
    )  # fmt: skip


def all_rows() -> list[Row]:
    """The cases of both tables."""
    free = [row(pp, share, m) for pp in (2, 4, 8) for share in SHARES for m in MICROBATCHES]
    bounded = [row(4, share, m, buffer) for share in SHARES for m in (8, 16, 32) for buffer in (4, 5, 8) if buffer < m]
    return [*free, *bounded]


def tables(rows: Iterable[Row]) -> str:
    """Both tables: an encoder that may keep all its microbatches, and one that may not."""
    rows = tuple(rows)
    head = ["pp", "ViT", "microbatches", "lower bound", "1f1b, first", "1f1b, just in time", "1f1b, fill", "filled"]
    free = [_line(head), _line(["---:"] * len(head)), *(_line(_cells(r)) for r in rows if r.buffer is None)]
    head[3:3], head[5:6] = ["buffer"], []
    bounded = [_line(head), _line(["---:"] * len(head)), *(_line(_cells(r)) for r in rows if r.buffer is not None)]
    return "\n".join(free) + "\n\nWith a buffer:\n\n" + "\n".join(bounded) + "\n"


def _cells(row: Row) -> list[str]:
    """The bound in units, and what each order takes beyond it."""
    beyond = [f"+{time / row.bound - 1:.1%}" for time in (row.first, row.just_in_time, row.fill, row.filled) if time]
    buffer = [] if row.buffer is None else [str(row.buffer)]
    return [str(row.pp), row.share, str(row.microbatches), *buffer, f"{row.bound:.3g}", *beyond]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def read(path: Path) -> list[Row]:
    """The rows of a file that this script wrote."""
    return [Row(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))["rows"]]


def main() -> None:
    """Print the tables, and write their rows."""
    parser = argparse.ArgumentParser(description="Encoders in the gaps of the pipeline, beside a lower bound.")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = all_rows()
    sys.stdout.write(tables(rows))
    if options.json is not None:
        options.json.write_text(json.dumps({"rows": [asdict(each) for each in rows]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
