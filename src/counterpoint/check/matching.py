"""Both ends agree: sends and receives on rows, columns and dtype, collectives on members and order."""

from collections import Counter
from itertools import zip_longest

from counterpoint.check.events import Collective, Entry, Events, Exchange, Flow
from counterpoint.check.fault import Fault
from counterpoint.check.roles import RANKS, Ranks
from counterpoint.plan.action import Action

_Parts = dict[tuple[int, Entry], Exchange]


def check_matching(events: Events, roles: Ranks = RANKS) -> Fault | None:
    """The first send or receive without its other end, then the first collective that members disagree on."""
    return _check_exchanges(events, roles) or _check_collectives(events, roles)


def _check_exchanges(events: Events, roles: Ranks) -> Fault | None:
    parts: _Parts = {}
    for rank, stream in events.items():
        parts.update({(rank, post.entry): post for post in stream if isinstance(post, Exchange)})
    for (rank, _entry), post in parts.items():
        for verb, counter, flows in (("sends", "receive", post.sends), ("receives", "send", post.receives)):
            for flow in flows:
                fault = _check_flow(parts, rank, post, flow, verb, counter, roles)
                if fault is not None:
                    return fault
    return None


def _check_flow(
    parts: _Parts, rank: int, post: Exchange, flow: Flow, verb: str, counter: str, roles: Ranks
) -> Fault | None:
    action = post.action
    other = parts.get((flow.peer, post.entry))
    flows = () if other is None else other.receives if verb == "sends" else other.sends
    matches = [candidate for candidate in flows if candidate.peer == rank]
    if len(matches) == 1 and matches[0].carries == flow.carries:
        return None
    peer = next((peer for peer in roles.members(rank, post) if roles.role(peer) == flow.peer), flow.peer)
    what = f"rank {rank} at {action} {verb} {flow} {'to' if verb == 'sends' else 'from'} rank {peer}"
    if other is None:
        return Fault(
            f"{what}, but rank {peer} has no {action}, expected a matching {counter}; put the transfer "
            "into the programs of both ranks or of none",
            ((rank, action),),
        )
    if len(matches) != 1:
        return Fault(
            f"{what}, but rank {peer} has {len(matches)} {counter}s with rank {rank} there, expected "
            "one; derive both ends from one route",
            ((rank, action), (peer, action)),
        )
    return Fault(
        f"{what}, but the {counter} of rank {peer} is {matches[0]}, expected the same rows, "
        "columns and dtype; derive both ends from one route, and let the projector of the source end "
        "in the target's width",
        ((rank, action), (peer, action)),
    )


def _check_collectives(events: Events, roles: Ranks) -> Fault | None:
    # Among roles several communicators have one name; those of a name have no member in common.
    posts: dict[tuple[str, int], tuple[int, Collective]] = {}
    orders: dict[tuple[str, int], dict[int, list[Action]]] = {}
    for rank, stream in events.items():
        for post in stream:
            if isinstance(post, Collective):
                key = post.communicator, post.ranks[0]
                posts.setdefault(key, (rank, post))
                orders.setdefault(key, {}).setdefault(rank, []).append(post.action)
    for key, (rank, post) in posts.items():
        issued = {member: tuple(orders[key].get(member, ())) for member in post.ranks}
        if len(set(issued.values())) > 1:
            members = {member: issued[roles.role(member)] for member in roles.members(rank, post)}
            return _disagree(roles.name(rank, post), members) or _disagree(post.communicator, issued)
    return None


def _disagree(name: str, issued: dict[int, tuple[Action, ...]]) -> Fault | None:
    return _check_members(name, issued) or _check_order(name, issued)


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
