"""Candidates that differ from one in a single choice."""

from collections.abc import Iterator

from counterpoint.search.candidate import Candidate, Degrees
from counterpoint.search.space import Space


def layout_moves(space: Space, candidate: Candidate) -> Iterator[Candidate]:
    """Candidates with other degrees, recomputation or chunks of one module, or another number of microbatches."""
    yield from _microbatches(space, candidate)
    for name in reversed(space.modules):
        yield from _degrees(space, candidate, name)
        yield from _recomputes(space, candidate, name)
        yield from _chunks(space, candidate, name)


def schedule_moves(space: Space, candidate: Candidate) -> Iterator[Candidate]:
    """Candidates with another value of one key of the schedule."""
    own = candidate.schedule.model_dump()
    for schedule in space.schedules(candidate):
        if sum(value != own[key] for key, value in schedule.model_dump().items()) == 1:
            yield Candidate(candidate.choices, schedule)


def _microbatches(space: Space, candidate: Candidate) -> Iterator[Candidate]:
    own = candidate.schedule.microbatches
    counts = [count for count in space.microbatches(candidate.by_module[space.sink].degrees) if count != own]
    for count in sorted(counts, key=lambda count: (abs(count - own), count)):
        group = min(candidate.schedule.encoder_group, count)
        yield candidate.with_schedule(microbatches=count, encoder_group=group)


def _degrees(space: Space, candidate: Candidate, module: str) -> Iterator[Candidate]:
    choice = candidate.by_module[module]
    lanes = candidate.by_module[space.sink].degrees.dp
    for degrees in space.degrees(module, len(choice.ranks)):
        if _distance(degrees, choice.degrees) != 1:
            continue
        moved = candidate.with_choice(module, choice._replace(degrees=degrees))
        if module != space.sink or degrees.dp == lanes:
            yield moved
            continue
        # Lanes get the same work a microbatch where that is possible, so that only their number changes.
        counts = space.microbatches(degrees)
        if counts:
            near = candidate.schedule.microbatches * lanes / degrees.dp
            count = min(counts, key=lambda count: (abs(count - near), count))
            yield moved.with_schedule(microbatches=count, encoder_group=min(moved.schedule.encoder_group, count))


def _recomputes(space: Space, candidate: Candidate, module: str) -> Iterator[Candidate]:
    choice = candidate.by_module[module]
    for recompute in space.recomputes[module]:
        if recompute != choice.recompute:
            yield candidate.with_choice(module, choice._replace(recompute=recompute))


def _chunks(space: Space, candidate: Candidate, module: str) -> Iterator[Candidate]:
    """Other numbers of chunks, each with every kind of schedule that has a use for them."""
    choice = candidate.by_module[module]
    if choice.degrees.pp == 1:
        return
    for degrees in space.chunks(module, choice.degrees):
        moved = candidate.with_choice(module, choice._replace(degrees=degrees))
        for schedule in space.schedules(moved):
            if schedule.model_copy(update={"kind": candidate.schedule.kind}) == candidate.schedule:
                yield Candidate(moved.choices, schedule)


def _distance(one: Degrees, other: Degrees) -> int:
    """Moves between two cuts: a factor that changes its axis is one, as is any other key."""
    dense = sum(a != b for a, b in zip((one.pp, one.dp, one.cp, one.tp), (other.pp, other.dp, other.cp, other.tp)))
    experts = (one.ep, one.etp) != (other.ep, other.etp)
    kept = (one.dp_replicate != other.dp_replicate and one.dp == other.dp) + (one.reshard != other.reshard)
    # A factor leaves one axis for another; experts may follow, since they are dealt over the same ranks.
    return dense // 2 + dense % 2 + (experts if not dense else 0) + kept
