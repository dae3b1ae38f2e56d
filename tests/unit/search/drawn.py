"""Candidates of a space at random."""

import random

from counterpoint.search.candidate import Candidate, Choice
from tests.unit.search.worlds import Small


def drawn(parts: Small, dice: random.Random) -> Candidate:
    """A candidate of the space whose choices fit together, on any schedule."""
    while True:
        candidate = _drawn(parts, dice)
        if candidate is not None:
            return candidate


def _drawn(parts: Small, dice: random.Random) -> Candidate | None:
    placed = dice.choice(parts.space.placements)
    choices = []
    for name, ranks in placed.ranks:
        degrees = parts.space.degrees(name, len(ranks))
        if not degrees:
            return None
        choices.append((name, Choice(ranks, dice.choice(degrees), dice.choice(parts.space.recomputes[name]))))
    counts = parts.space.microbatches(choices[-1][1].degrees)
    if not counts:
        return None
    schedule = parts.space.first_schedule.model_copy(update={"microbatches": dice.choice(counts)})
    candidate = Candidate(tuple(choices), schedule)
    candidate = Candidate(candidate.choices, dice.choice(list(parts.space.schedules(candidate))))
    return candidate if parts.space.problem(candidate) is None else None
