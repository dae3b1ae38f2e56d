"""Rows of measured and predicted steps, and what they say of the clock: rank correlations and errors."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from counterpoint.simulate.estimate import Estimate

from .measured import Measured

GIB = 2**30


@dataclass(slots=True)
class Row:
    """A layout: seconds of a step by pass over all blocks and which batch it had, bytes of the fullest rank, and the
    estimate; `failed` says why it has no figures."""

    name: str
    suite: str
    passes: list[list[float]] = field(default_factory=list)
    batches: list[list[int]] = field(default_factory=list)
    predicted_seconds: float = 0.0
    measured_bytes: int = 0
    reserved_bytes: int = 0
    predicted_bytes: int = 0
    build_seconds: list[float] = field(default_factory=list)
    breakdown: dict[str, float] = field(default_factory=dict)
    actions: list[Any] = field(default_factory=list)
    kernels: list[Any] = field(default_factory=list)
    failed: str = ""

    def note(self, found: Estimate) -> None:
        """Keep the estimate's seconds and bytes, and where its time goes."""
        self.predicted_seconds, self.predicted_bytes = found.seconds, found.tensor_bytes
        parts = found.breakdown
        self.breakdown = {
            "compute": sum(parts.computes.values()), "communication": parts.communication,
            "optimizer": parts.optimizer, "idle": parts.idle,
        }  # fmt: skip

    def take(self, ranks: Sequence[Measured]) -> None:
        """Add what all ranks saw of one pass: a step is as long as on its slowest rank."""
        self.passes.append([
            max(steps) for blocks in zip(*(rank.blocks for rank in ranks)) for steps in zip(*blocks, strict=True)
        ])  # fmt: skip
        self.batches.append([batch for block in ranks[0].batches for batch in block])
        self.measured_bytes = max([self.measured_bytes, *(rank.held_bytes + rank.peak_bytes for rank in ranks)])
        self.reserved_bytes = max([self.reserved_bytes, *(rank.reserved_bytes for rank in ranks)])
        self.build_seconds.append(max(rank.build_seconds for rank in ranks))
        self.actions = [rank.actions for rank in ranks]
        self.kernels = [rank.kernels for rank in ranks]

    @property
    def seconds(self) -> float:
        """The mean over the batches of the median of their timed steps, as the estimate is the mean over batches."""
        return _of_batches(self._by_batch())

    @property
    def spread(self) -> float:
        """The distance between the quartiles of all timed steps of a batch, in the mean over batches."""
        return statistics.fmean(map(_quartiles_apart, self._by_batch().values()))

    @property
    def halves(self) -> tuple[float, float]:
        """Two repeated measurements: the two halves of the passes, or of one pass every other step of each batch."""
        middle = len(self.passes) // 2
        if middle:
            first, second = self._by_batch(last=middle), self._by_batch(first=middle)
        else:
            first, second = (
                {batch: steps[begin::2] or steps for batch, steps in self._by_batch().items()} for begin in (0, 1)
            )
        return _of_batches(first), _of_batches(second)

    def _by_batch(self, first: int = 0, last: int | None = None) -> dict[int, list[float]]:
        """The timed steps of each batch, in some of the passes; without batches, as older files have it, all of one."""
        found: dict[int, list[float]] = {}
        batches = self.batches or [[0] * len(steps) for steps in self.passes]
        for steps, of_steps in zip(self.passes[first:last], batches[first:last], strict=True):
            for second, batch in zip(steps, of_steps, strict=True):
                found.setdefault(batch, []).append(second)
        return found

    @property
    def error(self) -> float:
        """How much more than measured the estimate is, as a share of what was measured."""
        return self.predicted_seconds / self.seconds - 1.0


def _of_batches(steps: Mapping[int, Sequence[float]]) -> float:
    """The mean over batches of the median of their steps."""
    return statistics.fmean(map(statistics.median, steps.values()))


def _quartiles_apart(steps: Sequence[float]) -> float:
    if len(steps) < 2:
        return 0.0
    lower, _middle, upper = statistics.quantiles(steps, n=4)
    return upper - lower


def correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's rank correlation."""
    ranks = [_ranks(values) for values in (first, second)]
    return statistics.correlation(*ranks) if len(first) > 1 else 1.0


def interval(rho: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a rank correlation of `count` pairs (Bonett and Wright, 2000)."""
    if count < 5:
        return -1.0, 1.0
    middle = math.atanh(min(0.9999, max(-0.9999, rho)))
    reach = 1.96 * math.sqrt((1 + rho * rho / 2) / (count - 3))
    return math.tanh(middle - reach), math.tanh(middle + reach)


def _ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1; equal values share the mean of theirs."""
    ordered = sorted(values)
    return [(ordered.index(v) + len(ordered) - 1 - ordered[::-1].index(v)) / 2 + 1 for v in values]


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """What the rows of a suite say: correlations, the predicted best, median errors of time and memory."""
    good = [row for row in rows if row.passes]
    if len({row.seconds for row in good}) < 2:
        return {"layouts": len(good)}
    measured, predicted = [row.seconds for row in good], [row.predicted_seconds for row in good]
    rho = correlation(measured, predicted)
    again = correlation(*zip(*(row.halves for row in good), strict=True))
    best = min(good, key=lambda row: row.predicted_seconds)
    of_memory = [abs(row.predicted_bytes / row.measured_bytes - 1.0) for row in good if row.measured_bytes]
    return {
        "layouts": len(good),
        "correlation": rho,
        "correlation_interval": interval(rho, len(good)),
        "repeated_correlation": again,
        "median_error": statistics.median(abs(row.error) for row in good),
        "largest_error": max((row.error for row in good), key=abs),
        "predicted_best": best.name,
        "measured_best": min(good, key=lambda row: row.seconds).name,
        "best_over_best": best.seconds / min(measured) - 1.0,
        "median_memory_error": statistics.median(of_memory) if of_memory else None,
        "largest_memory_error": max(of_memory, default=None),
    }


def table(rows: Sequence[Row]) -> str:
    """The rows as text, the fastest first."""
    lines = [
        f"{'layout':<42} {'measured ms':>11} {'spread':>7} {'predicted':>10} {'error':>7} "
        f"{'GiB':>6} {'predicted':>9} {'build s':>8}  compute / communication / optimizer / idle, predicted ms"
    ]
    for row in sorted(rows, key=lambda row: row.seconds if row.passes else math.inf):
        if not row.passes:
            lines.append(f"{row.name:<42} {row.failed[:160] or 'not measured'}")
            continue
        parts = " / ".join(f"{seconds * 1e3:.1f}" for seconds in row.breakdown.values())
        lines.append(
            f"{row.name:<42} {row.seconds * 1e3:11.1f} {row.spread * 1e3:7.1f} {row.predicted_seconds * 1e3:10.1f} "
            f"{row.error:+7.1%} {row.measured_bytes / GIB:6.1f} {row.predicted_bytes / GIB:9.1f} "
            f"{max(row.build_seconds, default=0.0):8.1f}  {parts}"
        )
    return "\n".join(lines)


def words(found: dict[str, Any]) -> str:
    """The summary in sentences."""
    if "correlation" not in found:
        return f"{found['layouts']} layouts were measured, too few to compare."
    low, high = found["correlation_interval"]
    text = (
        f"{found['layouts']} layouts: rank correlation {found['correlation']:.3f} ({low:.2f} to {high:.2f}), repeated "
        f"measurements with each other {found['repeated_correlation']:.3f}; median error {found['median_error']:.1%}, "
        f"largest {found['largest_error']:+.1%}; the predicted best, {found['predicted_best']}, is "
        f"{found['best_over_best']:.1%} over the measured best, {found['measured_best']}"
    )
    if found["median_memory_error"] is not None:
        text += (
            f"; memory: median error {found['median_memory_error']:.1%}, largest {found['largest_memory_error']:.1%}"
        )
    return f"{text}."
