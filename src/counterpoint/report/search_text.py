"""What a search found, for the terminal: the fastest layouts, what was pruned, and what the figures rest on."""

from collections.abc import Iterator
from dataclasses import asdict

from rich.console import Group, RenderableType
from rich.table import Table

from counterpoint.plan.layout import format_ranks
from counterpoint.report.terminal import new_table, title
from counterpoint.report.words import bytes_text, overflow_text, seconds_text
from counterpoint.search.candidate import Candidate
from counterpoint.search.difference import kinds_of, reasons
from counterpoint.search.find import Comparison, SearchResult
from counterpoint.search.scoring import Score
from counterpoint.search.walk import Outcome


def describe_search(result: SearchResult, top: int) -> RenderableType:
    """The `top` fastest layouts, and how they were found."""
    where = f"{result.world_size:,} ranks of {result.hardware.name}, {bytes_text(result.memory_bytes)} each"
    return Group(
        title("Layouts", where), _table(result, top),
        title("Heterogeneity"), heterogeneity(result),
        title("Search"), "\n".join(_walked(result)),
        title("What the figures rest on"), "\n".join(_rests(result)),
    )  # fmt: skip


def layout_lines(candidate: Candidate) -> Iterator[str]:
    """Each module's ranks and degrees, and what it computes again."""
    for name, choice in candidate.choices:
        again = "" if choice.recompute.what == "none" else f", recompute {choice.recompute}"
        yield f"{name} {choice.degrees} on {format_ranks(tuple(choice.ranks))}{again}"


def schedule_text(candidate: Candidate) -> str:
    """The schedule, with the keys that are not the default."""
    schedule = candidate.schedule
    default = type(schedule)().model_dump()
    more = [f"{key} {value}" for key, value in schedule.model_dump().items() if value != default[key]]
    words = [schedule.kind, f"microbatches {schedule.microbatches}"]
    return ", ".join([*words, *(word for word in more if not word.startswith(("kind ", "microbatches ")))])


def _table(result: SearchResult, top: int) -> Table:
    numbers = ("step", "MFU", "memory", "bubble")
    table = new_table("", "layout and schedule", *numbers, "against the first", right=numbers)
    best = result.found.outcomes[:top]
    for place, outcome in enumerate(best):
        score = outcome.score
        table.add_row(
            str(place + 1),
            "\n".join([*layout_lines(outcome.candidate), schedule_text(outcome.candidate)]),
            seconds_text(score.seconds),
            f"{score.utilisation:.1%}",
            bytes_text(score.memory_bytes),
            f"{score.bubble:.1%}",
            "" if not place else why_slower(best[0].score, score),
        )
    return table


def why_slower(faster: Score, slower: Score) -> str:
    """How a step differs from a faster one, the largest changes first: `+1.2 ms: idle +1.5 ms, optimizer -0.3 ms`."""
    changes = sorted(kinds_of(faster.breakdown, slower.breakdown), key=lambda kind: -abs(kind.more))
    largest = [kind for kind in changes if abs(kind.more) > abs(changes[0].more) / 10][:_CHANGES]
    words = ", ".join(f"{kind.name} {_signed(kind.more)}" for kind in largest if kind.more)
    more = _signed(slower.seconds - faster.seconds)
    return f"{more}: {words}" if words else more


def heterogeneity(result: SearchResult) -> str:
    """Whether layouts of their own pay for the modules, in a sentence."""
    own, alike = result.found.heterogeneous, result.found.homogeneous
    if len(result.space.modules) == 1:
        return "There is one module, and so one layout."
    if own is None or alike is None:
        missing = "a layout of its own for each module" if own is None else "one layout for all modules"
        return f"Cannot be said: no candidate with {missing} was simulated that fits."
    if abs(own.score.seconds / alike.score.seconds - 1.0) < _NO_DIFFERENCE:
        one, each = seconds_text(alike.score.seconds), seconds_text(own.score.seconds)
        return (
            f"Makes no difference here: the best with one layout for all modules takes {one}, the best with layouts of "
            f"their own {each}."
        )
    if own.score.seconds > alike.score.seconds:
        less = own.score.seconds / alike.score.seconds - 1.0
        return (
            f"Does not pay here: one layout for all modules takes {seconds_text(alike.score.seconds)}, the best with "
            f"layouts of their own {less:.1%} longer ({why_slower(alike.score, own.score)})."
        )
    gain = alike.score.seconds / own.score.seconds
    return (
        f"Pays: {gain:.3g} x as fast as the best with one layout for all modules, which takes "
        f"{seconds_text(alike.score.seconds)} ({why_slower(own.score, alike.score)}): {_on_one_line(alike)}."
    )


def _on_one_line(outcome: Outcome) -> str:
    return "; ".join([*layout_lines(outcome.candidate), schedule_text(outcome.candidate)])


def _walked(result: SearchResult) -> Iterator[str]:
    counts = result.found.counts
    yield f"layouts in the space, recomputation and microbatches included: {counts.space:,}"
    looked = "all candidates, with every schedule" if counts.is_whole else "candidates looked at, guessed fastest first"
    yield f"{looked}: {counts.looked_at:,}"
    words = {
        "refused": "refused by the plan's rules", "too_large": "too large by a bound",
        "too_slow": "too slow by a bound", "same": "with the schedule of another", "simulated": "simulated",
    }  # fmt: skip
    yield "; ".join(f"{words[name]}: {count:,}" for name, count in asdict(counts).items() if name in words)
    if counts.overflowing:
        yield f"simulated, but larger than the memory: {counts.overflowing:,}"
    if result.space.refused:
        rules = ", ".join(f"{rule} {count:,}" for rule, count in sorted(result.space.refused.items()))
        yield f"degrees refused before, by rule: {rules}"
    if not counts.is_whole:
        yield "what was not looked at is slower by a rough guess, which is no proof"


def _rests(result: SearchResult) -> Iterator[str]:
    hardware = result.hardware
    yield f"hardware: {hardware.name}, {hardware.source} ({hardware.origin})"
    documents = sum(len(pack) for packs in result.work.steps for pack in packs)
    packs = ", ".join(str(len(packs)) for packs in result.work.steps)
    yield (
        f"data: {len(result.work.steps)} drawn steps of {packs} sequences, {documents:,} documents in all, with their "
        "own sizes"
    )
    yield f"layers: {'compiled' if result.scorer.models.is_compiled else 'not compiled'}"
    yield "no step was run: compare with the measured timeline of a run"


def describe_comparison(compared: Comparison) -> RenderableType:
    """Where two configs differ: their keys, what the mean rank does in each, and a sentence."""
    names = (compared.names[0], compared.names[1])
    keys = new_table("key", *names)
    for key, *values in compared.keys:
        keys.add_row(key, *values)
    table = new_table("mean rank", *names, "difference", right=(*names, "difference"))
    first, second = compared.scores
    for kind in kinds_of(first.breakdown, second.breakdown):
        table.add_row(kind.name, seconds_text(kind.first), seconds_text(kind.second), _signed(kind.more))
    table.add_row(
        "step", seconds_text(first.seconds), seconds_text(second.seconds), _signed(second.seconds - first.seconds)
    )
    figures = new_table("", *names, right=names)
    figures.add_row("MFU", f"{first.utilisation:.1%}", f"{second.utilisation:.1%}")
    figures.add_row("bubble", f"{first.bubble:.1%}", f"{second.bubble:.1%}")
    figures.add_row("memory", bytes_text(first.memory_bytes), bytes_text(second.memory_bytes))
    return Group(
        title("Keys that differ"), keys,
        title("Time of a step", f"{compared.hardware.name}, {compared.hardware.source}"), table, figures,
        title("In words"), "\n".join([verdict(compared), *_overflows(compared)]),
    )  # fmt: skip


def _overflows(compared: Comparison) -> Iterator[str]:
    """Which of two configs do not fit into the hardware's memory."""
    for score, name in zip(compared.scores, compared.names, strict=True):
        if score.memory_bytes > compared.hardware.memory_bytes:
            told = overflow_text(score.memory_bytes, compared.hardware.name, compared.hardware.memory_bytes)
            yield f"{name}: {told[0].lower()}{told[1:]}."


def verdict(compared: Comparison) -> str:
    """Which of two configs is faster and why, in a sentence or two."""
    steps = sorted(zip(compared.scores, compared.names, strict=True), key=lambda step: step[0].seconds)
    (fast, faster), (slow, slower) = steps
    if fast.seconds == slow.seconds:
        return f"{faster} and {slower} take the same time, {seconds_text(fast.seconds)}."
    more = f"{seconds_text(slow.seconds - fast.seconds)} ({slow.seconds / fast.seconds - 1.0:.1%})"
    longer = reasons(fast.breakdown, slow.breakdown)
    less = reasons(slow.breakdown, fast.breakdown)
    words = ", ".join(f"{kind.name} takes {seconds_text(kind.more)} more" for kind in longer)
    gained = f" It spends less on: {', '.join(f'{k.name} {seconds_text(k.more)}' for k in less)}." if less else ""
    return f"{slower} takes {more} longer than {faster}: {words}.{gained}"


def _signed(seconds: float) -> str:
    sign = "+" if seconds > 0 else "-" if seconds < 0 else ""
    return f"{sign}{seconds_text(abs(seconds))}"


_NO_DIFFERENCE = 0.01
"""The share of a step below which a prediction of two layouts does not tell them apart."""

_CHANGES = 3
"""Kinds of work that a row of the table names."""
