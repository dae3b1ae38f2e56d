"""Both ends agree: sends and receives on rows, columns and dtype, collectives on members and order."""

from collections import Counter
from itertools import zip_longest

from counterpoint.check.events import Collective, Entry, Events, Exchange, Flow
from counterpoint.check.fault import Fault
from counterpoint.plan.action import Action

_Parts = dict[tuple[int, Entry], Exchange]


def check_matching(events: Events) -> Fault | None:
    """The first send or receive without its other end, then the first collective that members disagree on."""
    return _check_exchanges(events) or _check_collectives(events)


def _check_exchanges(events: Events) -> Fault | None:
    parts: _Parts = {}
    for rank, stream in events.items():
        parts.update({(rank, post.entry): post for post in stream if isinstance(post, Exchange)})
    for (rank, _entry), post in parts.items():
        for verb, counter, flows in (("sends", "receive", post.sends), ("receives", "send", post.receives)):
            for flow in flows:
                fault = _check_flow(parts, rank, post, flow, verb, counter)
                if fault is not None:
                    return fault
    return None


def _check_flow(parts: _Parts, rank: int, post: Exchange, flow: Flow, verb: str, counter: str) -> Fault | None:
    action = post.action
    what = f"rank {rank} at {action} {verb} {flow} {'to' if verb == 'sends' else 'from'} rank {flow.peer}"
    other = parts.get((flow.peer, post.entry))
    if other is None:
        return Fault(
            f"{what}, but rank {flow.peer} has no {action}, expected a matching {counter}; put the transfer "
            "into the programs of both ranks or of none",
            ((rank, action),),
        )
    flows = other.receives if verb == "sends" else other.sends
    matches = [candidate for candidate in flows if candidate.peer == rank]
    if len(matches) != 1:
        return Fault(
            f"{what}, but rank {flow.peer} has {len(matches)} {counter}s with rank {rank} there, expected "
            "one; derive both ends from one route",
            ((rank, action), (flow.peer, action)),
        )
    if (matches[0].rows, matches[0].columns, matches[0].dtype) != (flow.rows, flow.columns, flow.dtype):
        return Fault(
            f"{what}, but the {counter} of rank {flow.peer} is {matches[0]}, expected the same rows, "
            "columns and dtype; derive both ends from one route, and let the projector of the source end "
            "in the target's width",
            ((rank, action), (flow.peer, action)),
        )
    return None


def _check_collectives(events: Events) -> Fault | None:
    members: dict[str, tuple[int, ...]] = {}
    orders: dict[str, dict[int, list[Action]]] = {}
    for rank, stream in events.items():
        for post in stream:
            if isinstance(post, Collective):
                members[post.communicator] = post.ranks
                orders.setdefault(post.communicator, {}).setdefault(rank, []).append(post.action)
    for name, ranks in members.items():
        issued = {rank: tuple(orders[name].get(rank, ())) for rank in ranks}
        fault = _check_members(name, issued) or _check_order(name, issued)
        if fault is not None:
            return fault
    return None


def _check_members(name: str, issued: dict[int, tuple[Action, ...]]) -> Fault | None:
    issuers: dict[Action, list[int]] = {}
    for rank, actions in issued.items():
        for action in actions:
            issuers.setdefault(action, []).append(rank)
    for action, ranks in issuers.items():
        missing = [rank for rank in issued if rank not in ranks]
        if missing:
            return Fault(
                f"the collective {action} on {name} is issued by rank {', '.join(map(str, ranks))} and not "
                f"by member rank {', '.join(map(str, missing))}, expected all members; put the action into "
                "the programs of all of them",
                ((ranks[0], action),),
            )
    return None


def _check_order(name: str, issued: dict[int, tuple[Action, ...]]) -> Fault | None:
    """Compare with the order that most members have; of equally common ones, that of the lowest rank."""
    usual = Counter(issued.values()).most_common(1)[0][0]
    for rank, actions in issued.items():
        for position, (got, expected) in enumerate(zip_longest(actions, usual)):
            if got != expected:
                return Fault(
                    f"rank {rank} issues {got} at position {position} on {name}, expected {expected} as on "
                    "the other members; give all members the same order of collectives",
                    ((rank, got if got is not None else actions[-1]),),
                )
    return None
