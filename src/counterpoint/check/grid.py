"""Programs as text: one line for all ranks that do the same, long programs windowed around what is marked."""

from collections.abc import Iterable

from counterpoint.check.events import Programs
from counterpoint.plan.action import Action
from counterpoint.plan.layout import format_ranks

HERE = "<-- HERE"
MARGIN = 4
"""Actions shown on either side of a mark."""
MAX_LINES = 24
"""Most lines of a marked grid; those with a mark are kept first."""


def format_programs(programs: Programs, mark: Iterable[tuple[int, Action]] | None = None) -> str:
    """The grid of programs, one line per distinct program; `mark` gives (rank, action) places to point at.

    Without marks programs are shown in full; with marks every line is cut to a window around its mark.
    """
    marks = {rank: action for rank, action in mark or ()}
    lines: dict[str, list[int]] = {}
    known: dict[tuple[int, Action | None], str] = {}
    for rank, program in sorted(programs.items()):
        own = marks.get(rank)
        if (id(program), own) not in known:
            window = program if mark is None else _window(program, own, tuple(marks.values()))
            known[id(program), own] = _line(program, window, own)
        lines.setdefault(known[id(program), own], []).append(rank)
    if mark is not None and len(lines) > MAX_LINES:
        return _table(_shortened(lines)) + f"\n({len(lines) - MAX_LINES} more lines)"
    return _table(lines)


def _shortened(lines: dict[str, list[int]]) -> dict[str, list[int]]:
    chosen = sorted(lines, key=lambda line: HERE not in line)[:MAX_LINES]
    return {line: ranks for line, ranks in lines.items() if line in chosen}


def _table(lines: dict[str, list[int]]) -> str:
    names = {line: f"rank {format_ranks(tuple(ranks))}" for line, ranks in lines.items()}
    width = max((len(name) for name in names.values()), default=0)
    return "\n".join(f"{name:<{width}} | {line}" for line, name in names.items())


def _window(program: tuple[Action, ...], own: Action | None, marks: tuple[Action, ...]) -> tuple[Action, ...]:
    """The part around the rank's own mark, or around the first action that another rank's mark names too."""
    wanted = [own] if own is not None else [action for action in marks if action in program]
    if not wanted or wanted[0] not in program:
        return program[: 2 * MARGIN + 1]
    center = program.index(wanted[0])
    return program[max(center - MARGIN, 0) : center + MARGIN + 1]


def _line(program: tuple[Action, ...], window: tuple[Action, ...], own: Action | None) -> str:
    words = [f"{action} {HERE}" if action == own else str(action) for action in window]
    if own is not None and own not in program:
        words.append(f"(no {own}) {HERE}")
    if window and window[0] is not program[0]:
        words.insert(0, "...")
    if window and window[-1] is not program[-1]:
        words.append("...")
    return "  ".join(words)
