"""The last recorded step of a run in a few lines for a terminal."""

from collections.abc import Iterator
from pathlib import Path

from counterpoint.report.run_record import StepRecord, read_metrics
from counterpoint.report.words import number_text


def last_step_lines(run_folder: Path) -> Iterator[str]:
    """The losses of the last recorded step and of evaluations, and the expert load."""
    metrics = read_metrics(run_folder)
    if metrics is None:
        return
    if metrics.steps:
        last = metrics.steps[-1]
        yield "  ".join((f"step {last.step}: loss {number_text(last.loss)}", *_further(last)))
        yield from _loads(last)
    for split, losses in metrics.evaluations.items():
        step, loss = losses[-1]
        yield f"evaluation {split}, step {step}: loss {number_text(loss)}"


def _further(record: StepRecord) -> Iterator[str]:
    return (f"{name} {number_text(value)}" for name, value in record.losses.items())


def _loads(record: StepRecord) -> Iterator[str]:
    """The expert load of the most uneven layer; nothing without experts."""
    if record.loads:
        layer = max(record.loads, key=lambda name: record.loads[name].most)
        load = record.loads[layer]
        yield (
            f"expert load: {number_text(load.least)} to {number_text(load.most)} of the mean in {layer}, the most "
            f"uneven of {len(record.loads)} layers"
        )
