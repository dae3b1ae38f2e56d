"""Programs with a planted fault, and a slow machine to judge the checker by."""

from dataclasses import replace

from counterpoint.check.events import Collective, Entry, Events, Exchange, Run, Wait
from counterpoint.plan.action import Action, parse_action
from counterpoint.plan.batch import BatchPlan, Share

Programs = dict[int, tuple[Action, ...]]


def without(programs: Programs, rank: int, *actions: str) -> Programs:
    """Programs in which a rank lacks some actions."""
    dropped = {parse_action(action) for action in actions}
    return {**programs, rank: tuple(action for action in programs[rank] if action not in dropped)}


def swapped(programs: Programs, rank: int, first: int, second: int) -> Programs:
    """Programs in which two actions of a rank, given by position, change places."""
    program = list(programs[rank])
    program[first], program[second] = program[second], program[first]
    return {**programs, rank: tuple(program)}


def reordered(programs: Programs, rank: int, *actions: str) -> Programs:
    """Programs in which a rank does exactly these actions first and the rest in its old order."""
    first = tuple(parse_action(action) for action in actions)
    return {**programs, rank: first + tuple(action for action in programs[rank] if action not in first)}


def with_share(batch: BatchPlan, module: str, microbatch: int, lane: int, share: Share) -> BatchPlan:
    """A batch with one share replaced."""
    lanes = batch.shares[module][microbatch]
    units = tuple((span.document, span.item) for span in share.spans)
    wrong = replace(lanes, dealt=(*lanes.dealt[:lane], units, *lanes.dealt[lane + 1 :]))
    wrong._laid[lane] = share
    shares = list(batch.shares[module])
    shares[microbatch] = wrong
    return replace(batch, shares={**batch.shares, module: tuple(shares)})


def with_span(batch: BatchPlan, module: str, microbatch: int, lane: int, **changes: int) -> BatchPlan:
    """A batch with the first span of a share changed."""
    share = batch.shares[module][microbatch][lane]
    first = share.spans[0]._replace(**changes)
    return with_share(batch, module, microbatch, lane, replace(share, spans=(first, *share.spans[1:])))


def ends(events: Events) -> bool:
    """Whether all events complete, by scanning everything again until nothing changes."""
    cursor = dict.fromkeys(events, 0)
    fifos: dict[tuple[int, str], list[Exchange | Collective]] = {}
    complete: set[tuple[int, Entry]] = set()

    def started(rank: int, post: Exchange | Collective) -> bool:
        for ahead in fifos.get((rank, post.communicator), []):
            if ahead.entry == post.entry:
                return True
            if (rank, ahead.entry) not in complete:
                return False
        return False

    def part(rank: int, post: Exchange | Collective) -> Exchange | Collective | None:
        found = [p for p in fifos.get((rank, post.communicator), []) if p.entry == post.entry]
        return found[0] if found else None

    def completes(rank: int, post: Exchange | Collective) -> bool:
        if not started(rank, post):
            return False
        if isinstance(post, Collective):
            return all(started(member, post) for member in post.ranks)
        others = {peer: part(peer, post) for peer in post.peers}
        return all(
            isinstance(other, Exchange) and rank in other.peers and started(peer, other)
            for peer, other in others.items()
        )

    changed = True
    while changed:
        changed = False
        for rank, stream in events.items():
            while cursor[rank] < len(stream):
                event = stream[cursor[rank]]
                if isinstance(event, Wait) and any((rank, entry) not in complete for entry in event.entries):
                    break
                if not isinstance(event, Wait | Run):
                    fifos.setdefault((rank, event.communicator), []).append(event)
                cursor[rank] += 1
                changed = True
        for (rank, _name), fifo in fifos.items():
            for post in fifo:
                if (rank, post.entry) not in complete and completes(rank, post):
                    complete.add((rank, post.entry))
                    changed = True
    posts = sum(isinstance(e, Exchange | Collective) for stream in events.values() for e in stream)
    return len(complete) == posts and all(cursor[rank] == len(stream) for rank, stream in events.items())
