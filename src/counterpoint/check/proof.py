"""The proof of a plan: all checks in one order, and what it says when they hold."""

from collections.abc import Mapping
from dataclasses import dataclass

from counterpoint.check.buffers import check_buffers, peaks
from counterpoint.check.complete import check_complete
from counterpoint.check.coverage import check_batch, check_layouts
from counterpoint.check.dataflow import check_dataflow, check_members
from counterpoint.check.events import Collective, Events, Exchange, Programs, expand
from counterpoint.check.fault import Fault
from counterpoint.check.fifo import check_fifos
from counterpoint.check.grid import format_programs
from counterpoint.check.matching import check_matching
from counterpoint.check.quotient import expand_roles
from counterpoint.check.roles import RANKS, Ranks, coarse, stable
from counterpoint.check.routes import check_routes
from counterpoint.errors import ProofError
from counterpoint.garbage import rare
from counterpoint.plan.action import Step, is_ahead
from counterpoint.plan.batch import BatchPlan
from counterpoint.plan.erase import Erasure
from counterpoint.plan.graph import Node
from counterpoint.plan.plan import Plan
from counterpoint.plan.schedule import Schedule


@dataclass(frozen=True, slots=True)
class Proof:
    """What was proved, in numbers; rows are those that a batch moves, 0 without one."""

    ranks: int
    actions: int
    events: int
    posts: int
    communicators: int
    in_flight: dict[Node, int]
    receives_ahead: int
    rows: int

    def __str__(self) -> str:
        flights = ", ".join(f"{node} {count}" for node, count in sorted(self.in_flight.items())) or "none"
        moved = f", {self.rows} rows delivered once each" if self.rows else ""
        return (
            f"proved: {self.actions} actions of {self.ranks} ranks, {self.events} events, {self.posts} "
            f"posts on {self.communicators} communicators, no cycle{moved}; in flight at most: {flights}; "
            f"receives posted ahead at most: {self.receives_ahead}"
        )


@rare()
def check_plan(plan: Plan, batch: BatchPlan | None = None, ahead: BatchPlan | None = None) -> Proof:
    """Prove a plan: its templates with every optional action, which covers every batch.

    Covers the training and the evaluation schedule and returns the proof of the former; raises ProofError. Where
    modules run ahead, it also covers prologue and epilogue, and that every step makes for later ones what it takes from
    earlier ones. All steps end with nothing under way, so the proof holds for any number of them.

    With a batch the proof is that of its step, and covers what the batch brings as well: that its rows are computed and
    delivered once. `ahead` is the batch of what runs ahead of `batch`. A template is proved once for a plan.
    """
    _raise(check_layouts(plan), {})
    template = plan.remembered.get("template")
    if not isinstance(template, Proof):
        template = plan.remembered["template"] = _check_templates(plan)
    if batch is None:
        return template
    _raise(check_batch(plan, batch) or check_routes(plan, batch), {})
    programs = plan.of_step(plan.schedule, batch, ahead).programs
    roles = coarse(plan, programs)
    return _proof(plan, programs, roles, expand_roles(plan, programs, roles, is_template=False), batch)


def _check_templates(plan: Plan) -> Proof:
    _raise(check_complete(plan, plan.schedule, training=True), {})
    _raise(check_complete(plan, plan.evaluation, training=False), {})
    _check_schedule(plan, plan.evaluation)
    if plan.stages.ahead:
        _check_schedule(plan, plan.schedule.keep(lambda action: is_ahead(action) or action == Step()))
        _check_schedule(plan, plan.schedule.keep(lambda action: not is_ahead(action)))
    return _check_schedule(plan, plan.schedule)


def _check_schedule(plan: Plan, schedule: Schedule) -> Proof:
    return check_programs(plan, schedule.programs, bounds=schedule.bounds)


@rare()
def check_programs(
    plan: Plan,
    programs: Programs,
    batch: BatchPlan | None = None,
    ahead: BatchPlan | None = None,
    bounds: Mapping[Node, int] | None = None,
) -> Proof:
    """Prove that programs are safe on a placement and that a batch's rows arrive; raises ProofError.

    Without a batch they are proved for any batch, whichever actions it may erase, and by roles: first by the fewest;
    if these do not pass, by stable ones, of which what is said of a role holds for each of its ranks. With a batch all
    ranks are played.

    `bounds` are the most microbatches that nodes keep, by default those of the plan's schedule of this kind.
    """
    programs = {rank: programs.get(rank, ()) for rank in sorted({*plan.stages.world, *programs})}
    if batch is not None:
        _raise(check_members(plan, programs), programs)
        _raise(check_batch(plan, batch) or check_routes(plan, batch), programs)
        events, erasure = expand(plan, programs, batch, ahead), Erasure(plan.stages, batch, ahead)
        _raise(_check(plan, programs, events, RANKS, bounds, erasure), programs)
        return _proof(plan, programs, RANKS, events, batch)
    return prove_by_roles(plan, programs, bounds)


def prove_by_roles(plan: Plan, programs: Programs, bounds: Mapping[Node, int] | None = None) -> Proof:
    """Prove programs for any batch by their roles; raises ProofError."""
    outside = {rank: program for rank, program in programs.items() if not plan.nodes_of(rank)}
    _raise(check_members(plan, outside), programs)
    roles = coarse(plan, programs)
    own = roles.programs(programs)
    _raise(check_members(plan, own), programs)
    events = expand_roles(plan, programs, roles)
    fault = _check(plan, own, events, roles, bounds)
    if fault is not None:
        roles = stable(plan, roles)
        events = expand_roles(plan, programs, roles)
        _raise(_check(plan, roles.programs(programs), events, roles, bounds), programs)
    return _proof(plan, programs, roles, events)


def _check(
    plan: Plan,
    programs: Programs,
    events: Events,
    roles: Ranks,
    bounds: Mapping[Node, int] | None,
    erasure: Erasure | None = None,
) -> Fault | None:
    """The first fault of the programs and events of roles."""
    return (
        check_matching(events, roles)
        or check_dataflow(plan, programs, erasure)
        or check_fifos(events, roles)
        or check_buffers(plan, programs, events, bounds)
    )


def _proof(plan: Plan, programs: Programs, roles: Ranks, events: Events, batch: BatchPlan | None = None) -> Proof:
    posts = {r: sum(isinstance(event, Exchange | Collective) for event in stream) for r, stream in events.items()}
    found = peaks(plan, programs)
    return Proof(
        ranks=len(programs),
        actions=sum(len(program) for program in programs.values()),
        events=sum(len(stream) * len(roles.ranks(role)) for role, stream in events.items()),
        posts=sum(count * len(roles.ranks(role)) for role, count in posts.items()),
        communicators=roles.count_communicators(events),
        in_flight=found.in_flight,
        receives_ahead=max(found.receives.values(), default=0),
        rows=0 if batch is None else _rows(plan, batch),
    )


def _rows(plan: Plan, batch: BatchPlan) -> int:
    stages = plan.stages
    return sum(
        plan.route(batch, link, exchange).rows
        for link in stages.links
        for exchange in range(stages.exchanges(link, plan.microbatches))
    )


def _raise(fault: Fault | None, programs: Programs) -> None:
    if fault is None:
        return
    grid = format_programs(programs, fault.marks) if programs and fault.marks else ""
    raise ProofError(f"{grid}\n{fault.sentence}".lstrip("\n"))
