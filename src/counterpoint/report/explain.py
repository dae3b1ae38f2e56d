"""What held a run back, in words: who waited for whom, what took longer than predicted, and keys that change it."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from counterpoint.plan.action import Action, Compute, Direction, Reduce, Step, Transfer, Work
from counterpoint.plan.graph import Node
from counterpoint.plan.layout import format_ranks
from counterpoint.plan.plan import Plan
from counterpoint.report.run_record import Measured, Timed
from counterpoint.report.words import seconds_text
from counterpoint.simulate.estimate import Estimate

LEAST_SHARE = 0.03
"""Share of a step from which something is worth a sentence."""

MOST_SENTENCES = 6

_DOES = {
    Work.FORWARD: "forwards", Work.BACKWARD: "backwards",
    Work.INPUT: "input gradients", Work.WEIGHT: "weight gradients",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wait:
    """Ranks of a stage that wait for the rows of another one: seconds of a step, and the longest of its waits."""

    node: Node
    source: Node
    direction: Direction
    ranks: tuple[int, ...]
    seconds: float
    longest: Action


def explain(plan: Plan, measured: Measured, estimated: Estimate | None = None) -> list[str]:
    """Sentences about a measured step, the largest causes first, each with a remedy that keys can change."""
    total = measured.seconds
    found = [*_waits(plan, measured, total), *_uneven(plan, measured, total), *_ends(measured, total)]
    lines = [sentence for share, sentence in sorted(found, key=lambda each: -each[0]) if share >= LEAST_SHARE]
    if not lines:
        lines = [
            f"No wait of step {measured.step} takes {LEAST_SHARE:.0%} of it: its ranks compute nearly all the time."
        ]
    return [*lines[:MOST_SENTENCES], *(_differences(measured, estimated, total) if estimated is not None else ())]


def waits(plan: Plan, measured: Measured) -> list[Wait]:
    """Who waits for whom, the longest first; of ranks that wait for the same stage the mean."""
    seconds: dict[tuple[Node, Node, Direction], dict[int, list[Timed]]] = defaultdict(lambda: defaultdict(list))
    for rank, row in measured.ranks.items():
        for one in row:
            if isinstance(one.action, Compute) and one.waited > 0.0:
                for transfer in list(plan.stages.reads(one.action, plan.microbatches))[:1]:
                    source = _sender(transfer)
                    seconds[one.action.node, source, transfer.direction][rank].append(one)
    return sorted((_wait(key, rows) for key, rows in seconds.items()), key=lambda wait: -wait.seconds)


def _wait(key: tuple[Node, Node, Direction], rows: Mapping[int, Sequence[Timed]]) -> Wait:
    node, source, direction = key
    longest = max((one for row in rows.values() for one in row), key=lambda one: one.waited)
    mean = fmean(sum(one.waited for one in row) for row in rows.values())
    return Wait(node, source, direction, tuple(sorted(rows)), mean, longest.action)


def _sender(transfer: Transfer) -> Node:
    link = transfer.link
    return link.source if transfer.direction is Direction.FORWARD else link.target


def _waits(plan: Plan, measured: Measured, total: float) -> Iterator[tuple[float, str]]:
    for wait in waits(plan, measured):
        share = wait.seconds / total
        what = "rows" if wait.direction is Direction.FORWARD else "gradients"
        yield (
            share,
            (
                f"{_ranks(wait.ranks)} {_verb(wait.ranks, 'wait')} {share:.0%} of the step "
                f"({seconds_text(wait.seconds)}) for {what} of {wait.source}, longest at {wait.longest}. "
                f"{_remedy(plan, wait)}"
            ),
        )


def _remedy(plan: Plan, wait: Wait) -> str:
    source, node = wait.source.module, wait.node.module
    if source == node:
        layout = plan.layouts[node]
        more = f"raise schedule.microbatches above {plan.microbatches}"
        is_split = any(isinstance(one, Compute) and one.work is Work.WEIGHT for one in plan.schedule.order)
        kind = "" if is_split else ", or set schedule.kind=zero_bubble"
        uneven = f", or move layers between stages with modules.{node}.layout.split" if layout.stages > 1 else ""
        return f"That is the bubble of the pipeline of {node}: {more}{kind}{uneven}."
    if wait.direction is Direction.FORWARD:
        first = "" if plan.encoder == "first" else "schedule.encoder=first (or fill), "
        return (
            f"Its forwards come too late: {first}more ranks for modules.{source}.layout.ranks, or a larger "
            "schedule.microbatches so that the first microbatch is there earlier."
        )
    return (
        f"{source} has more work than {node}: give it ranks of {node}, place both on the same ranks, or raise "
        "schedule.microbatches."
    )


def _uneven(plan: Plan, measured: Measured, total: float) -> Iterator[tuple[float, str]]:
    """Ranks of a stage whose own work differs, though they share it out."""
    for node, ranks in plan.stages.ranks.items():
        own = {rank: _work_of(measured.ranks[rank], node) for rank in ranks if rank in measured.ranks}
        if len(own) < 2 or not min(own.values()):
            continue
        slowest = max(own, key=lambda rank: own[rank])
        more = own[slowest] - median(own.values())
        yield (
            more / total,
            (
                f"Rank {slowest} computes {node} for {seconds_text(own[slowest])}, {seconds_text(more)} longer than "
                "the median of its stage. If it has more rows, set data.balance=cost or data.packing=true; if not, "
                "its machine is slower."
            ),
        )


def _work_of(row: Sequence[Timed], node: Node) -> float:
    return sum(one.end - one.ready for one in row if isinstance(one.action, Compute) and one.action.node == node)


def _ends(measured: Measured, total: float) -> Iterator[tuple[float, str]]:
    """Reductions and the step action: their own time is that of the rank that comes last."""
    kinds: tuple[tuple[Callable[[Action], bool], str, str], ...] = (
        (lambda action: isinstance(action, Reduce), "begin to sum gradients", _OF_SUMS),
        (lambda action: isinstance(action, Step), "sum norms and update", _OF_UPDATES),
    )
    for is_kind, words, remedy in kinds:
        own = {
            rank: sum(one.end - one.start for one in row if is_kind(one.action)) for rank, row in measured.ranks.items()
        }
        least = min(own.values())
        yield (
            least / total,
            f"All ranks {words} for {seconds_text(least)} or longer, {least / total:.0%} of the step. {remedy}",
        )


_OF_SUMS = "More samples a step (training.global_batch_samples) sum gradients less often for each of them."
_OF_UPDATES = (
    "More shards (layout.dp_shard in place of dp_replicate) and more samples a step make updates a smaller part of it."
)


def _differences(measured: Measured, estimated: Estimate, total: float) -> Iterator[str]:
    """Where the measured step differs most from the predicted one."""
    yield (
        f"Predicted on {estimated.hardware} ({estimated.source}): {seconds_text(estimated.timeline.seconds)}; "
        f"measured: {seconds_text(total)}."
    )
    predicted, own = _by_kind_predicted(estimated), _by_kind_measured(measured)
    differences = {kind: own[kind] - predicted[kind] for kind in own.keys() & predicted.keys()}
    for kind in sorted(differences, key=lambda kind: -abs(differences[kind]))[:3]:
        more, (node, work) = differences[kind], kind
        if abs(more) >= LEAST_SHARE * total:
            yield (
                f"{node}: {_DOES[work]} take {seconds_text(own[kind])} of a step, predicted "
                f"{seconds_text(predicted[kind])}."
            )


def _by_kind_measured(measured: Measured) -> dict[tuple[Node, Work], float]:
    """Seconds of work by node and kind, the mean over ranks."""
    found: dict[tuple[Node, Work], dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for rank, row in measured.ranks.items():
        for one in row:
            if isinstance(one.action, Compute):
                found[one.action.node, one.action.work][rank] += one.end - one.ready
    return {kind: fmean(of_ranks.values()) for kind, of_ranks in found.items()}


def _by_kind_predicted(estimated: Estimate) -> dict[tuple[Node, Work], float]:
    found: dict[tuple[Node, Work], dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for rank, row in estimated.timeline.computes.items():
        for one in row:
            found[one.action.node, one.action.work][rank] += one.end - one.start
    return {kind: fmean(of_ranks.values()) for kind, of_ranks in found.items()}


def _ranks(ranks: tuple[int, ...]) -> str:
    return f"Rank {ranks[0]}" if len(ranks) == 1 else f"Ranks {format_ranks(ranks)}"


def _verb(ranks: tuple[int, ...], verb: str) -> str:
    return f"{verb}s" if len(ranks) == 1 else verb
