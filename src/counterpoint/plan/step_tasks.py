"""The tasks of a step: made from its stages, with the arcs of its data, its seats' order and its memory bound."""

from collections.abc import Iterator, Mapping, Sequence

from counterpoint.plan.action import Compute, Direction, Transfer, Work
from counterpoint.plan.collectives import Groups
from counterpoint.plan.graph import Node
from counterpoint.plan.list_scheduler import places
from counterpoint.plan.stages import Stages
from counterpoint.plan.tasks import Limits, Post, Queue, Tasks, Teams


def tasks_of(stages: Stages, microbatches: int, limits: Limits) -> Tasks:
    """The tasks of a training step, each backward undivided.

    A limit that no order could keep is left out where it would block the step.
    """
    return _Builder(stages, microbatches, limits).tasks()


def seats_of(stages: Stages) -> tuple[tuple[Node, ...], ...]:
    """The nodes at each place of each module's pipeline, which are on the same ranks."""
    number = {module: places(stages, module) for module in dict.fromkeys(node.module for node in stages.nodes)}
    seats: dict[tuple[str, int], list[Node]] = {}
    for node in stages.nodes:
        seats.setdefault((node.module, node.stage % number[node.module]), []).append(node)
    return tuple(map(tuple, seats.values()))


class _Builder:
    def __init__(self, stages: Stages, microbatches: int, limits: Limits) -> None:
        self._stages, self._microbatches, self._limits = stages, microbatches, limits
        self._seats = seats_of(stages)
        self._actions: list[Compute] = []
        self._queues: list[Queue] = []
        self._number: dict[Compute, int] = {}
        for seat in self._seats:
            self._add_queues(seat)
        self._reads = [self._needs(action) for action in self._actions]
        self._follows = [self._earlier(action) for action in self._actions]

    def tasks(self) -> Tasks:
        limited = self._limited()
        self._drop_what_blocks(limited)
        team_of, teams = self._teams()
        reads, follows = tuple(map(tuple, self._reads)), tuple(map(tuple, self._follows))
        posts, gives, takes = self._transfers(teams)
        before, after, together = self._meetings(team_of)
        return Tasks(
            actions=tuple(self._actions),
            units=tuple(map(self._stages.units, self._actions)),
            teams=tuple(teams[action.node] for action in self._actions),
            num_teams=len(set(team_of.values())),
            reads=reads,
            follows=follows,
            readers=_turned(reads),
            followers=_turned(follows),
            queues=tuple(self._queues),
            posts=posts,
            gives=gives,
            takes=takes,
            meets_before=before,
            meets_after=after,
            together=together,
        )

    def _meetings(self, team_of: Mapping[int, int]) -> tuple[dict[int, Teams], dict[int, Teams], dict[int, Teams]]:
        """By task the teams that meet before it and after it, and those that begin each task of its node together."""
        of_node: dict[Node, list[int]] = {}
        for task, action in enumerate(self._actions):
            of_node.setdefault(action.node, []).append(task)
        before: dict[int, Teams] = {}
        after: dict[int, Teams] = {}
        together: dict[int, Teams] = {}
        for node, of in of_node.items():
            first, every, last = (_meeting(groups, team_of) for groups in self._stages.collectives_of(node))
            if every:
                before |= dict.fromkeys(of, every)
                together |= dict.fromkeys(of, _joined(every))
            if first:
                before[of[0]] = first
            if last and self._stages.trains(node):
                after[of[-1]] = last
        return before, after, together

    def _transfers(
        self, teams: Mapping[Node, tuple[int, ...]]
    ) -> tuple[tuple[Post, ...], tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]:
        """Posts, and by task the numbers of those that it gives and takes."""
        stages, number, posts = self._stages, dict[Transfer, int](), list[Post]()
        channels: dict[tuple[object, Direction], int] = {}
        gives: list[tuple[int, ...]] = []
        for action in self._actions:
            given = [
                transfer for transfer in stages.gives(action, self._microbatches) if transfer.ahead == action.ahead
            ]
            for transfer in given:
                link, ends = transfer.link, (teams[transfer.link.source], teams[transfer.link.target])
                # The hops of a pipeline share a channel, but for those from its last place back to its first.
                hops = (link.source.module, link.target.stage % places(stages, link.target.module) > 0)
                key = (hops if link.is_hop else link, transfer.direction)
                channel = channels.setdefault(key, len(channels))
                number[transfer] = len(posts)
                posts.append(Post(channel, *(ends if transfer.direction is Direction.FORWARD else ends[::-1])))
            gives.append(tuple(number[transfer] for transfer in given))
        takes = [
            tuple(number[transfer] for transfer in stages.reads(action, self._microbatches) if transfer in number)
            for action in self._actions
        ]
        return tuple(posts), tuple(gives), tuple(takes)

    def _add_queues(self, seat: tuple[Node, ...]) -> None:
        """Forwards and backwards of a seat's chunks, in rounds of as many microbatches as places."""
        stages, width = self._stages, places(self._stages, seat[0].module)
        cells = [(node, m) for node in seat for m in range(stages.count(node.module, self._microbatches))]
        forwards = sorted(cells, key=lambda cell: (cell[1] // width, cell[0].stage, cell[1]))
        backwards = sorted(cells, key=lambda cell: (cell[1] // width, -cell[0].stage, cell[1]))
        backwards = [(node, m) for node, m in backwards if stages.has_backward(node)]
        is_sink = seat[0].module in stages.sinks
        for work, of in ((Work.FORWARD, forwards), (Work.BACKWARD, backwards)):
            actions = [
                stages.forward(*cell) if work is Work.FORWARD else Compute(cell[0], work, cell[1]) for cell in of
            ]
            first = len(self._actions)
            self._actions += actions
            self._number |= {action: first + place for place, action in enumerate(actions)}
            if actions:
                tasks = tuple(range(first, first + len(actions)))
                self._queues.append(Queue(tasks, is_sink, work is Work.FORWARD))

    def _needs(self, action: Compute) -> list[int]:
        """Tasks of other nodes whose results an action reads in the same step."""
        stages, made = self._stages, []
        for transfer in stages.reads(action, self._microbatches):
            link, exchange = transfer.link, transfer.exchange
            if transfer.direction is Direction.BACKWARD:
                node, microbatch = link.target, stages.target_microbatch(link, exchange)
                made.append(Compute(node, Work.BACKWARD, microbatch))
            elif stages.steps_ahead(link.source) == action.ahead:
                made.append(stages.forward(link.source, stages.source_microbatch(link, exchange)))
        return list(dict.fromkeys(self._number[other] for other in made))

    def _earlier(self, action: Compute) -> list[int]:
        """Earlier work of the same node on the same microbatch."""
        if action.work is Work.FORWARD:
            return []
        return [self._number[self._stages.forward(action.node, action.microbatch)]]

    def _limited(self) -> dict[int, list[int]]:
        """By forward, the tasks after which the memory bound lets it run."""
        limited: dict[int, list[int]] = {}
        for seat in self._seats:
            if seat[0] in self._limits.seats:
                self._limit_seat(seat, self._limits.seats[seat[0]], limited)
                continue
            for node in seat:
                if node not in self._limits.nodes or self._stages.steps_ahead(node):
                    continue
                if self._stages.has_backward(node):
                    self._limit_kept((node,), self._limits.nodes[node], limited)
                else:
                    self._limit_read(node, self._limits.nodes[node], limited)
        return limited

    def _limit_seat(self, seat: tuple[Node, ...], most: int, limited: dict[int, list[int]]) -> None:
        """Chunks with a backward are bounded together; of the others, which no backward frees, each by itself."""
        self._limit_kept(tuple(filter(self._stages.has_backward, seat)), most, limited)
        for node in seat:
            if not self._stages.has_backward(node) and not self._stages.steps_ahead(node):
                self._limit_read(node, most, limited)

    def _limit_kept(self, nodes: tuple[Node, ...], most: int, limited: dict[int, list[int]]) -> None:
        chosen = frozenset(nodes)
        forwards = [n for n, a in enumerate(self._actions) if a.node in chosen and a.work is Work.FORWARD]
        lasts = [n for n, a in enumerate(self._actions) if a.node in chosen and a.work is Work.BACKWARD]
        for forward, last in zip(forwards[most:], lasts):
            limited.setdefault(forward, []).append(last)

    def _limit_read(self, node: Node, most: int, limited: dict[int, list[int]]) -> None:
        """Rows that no backward needs are kept until the forwards that read them."""
        stages, count = self._stages, self._stages.count(node.module, self._microbatches)
        for microbatch in range(most, count):
            covered = (microbatch - most + 1) * stages.group(node.module)
            for link in stages.outgoing(node):
                reader = min(-(-covered // stages.group(link.target.module)), self._count(link.target)) - 1
                forward, read = stages.forward(node, microbatch), stages.forward(link.target, reader)
                limited.setdefault(self._number[forward], []).append(self._number[read])

    def _count(self, node: Node) -> int:
        return self._stages.count(node.module, self._microbatches)

    def _drop_what_blocks(self, limited: dict[int, list[int]]) -> None:
        """Add the arcs of the memory bound; where they would block the step, the most urgent forward goes without."""
        for task, others in limited.items():
            self._follows[task] += others
        before: list[set[int]] = [{*reads, *follows} for reads, follows in zip(self._reads, self._follows, strict=True)]
        for queue in self._queues:
            for one, other in zip(queue.tasks, queue.tasks[1:]):
                before[other].add(one)
        after: list[list[int]] = [[] for _task in before]
        for task, needed in enumerate(before):
            for other in needed:
                after[other].append(task)
        waits = [len(others) for others in before]
        ready = [task for task, count in enumerate(waits) if not count]
        left = len(waits)
        while left:
            while ready:
                task = ready.pop()
                left -= 1
                waits[task] = -1
                for other in after[task]:
                    waits[other] -= 1
                    if not waits[other]:
                        ready.append(other)
            if left:
                ready.append(self._let_through(limited, before, waits))

    def _let_through(self, limited: dict[int, list[int]], before: list[set[int]], waits: list[int]) -> int:
        """Free the first forward that only the memory bound holds back of its bound."""

        def urgency(task: int) -> tuple[int, int, Node]:
            node = self._actions[task].node
            return self._actions[task].microbatch * self._stages.group(node.module), self._stages.depth(node), node

        held = [
            task
            for task, others in limited.items()
            if waits[task] > 0 and all(waits[other] < 0 for other in before[task].difference(others))
        ]
        task = min(held, key=urgency)
        still = [other for other in limited[task] if waits[other] >= 0]
        self._follows[task] = [other for other in self._follows[task] if other not in still]
        waits[task] = 0
        return task

    def _teams(self) -> tuple[dict[int, int], dict[Node, tuple[int, ...]]]:
        """The team of each rank, by number, and those of each node."""
        seats_of_rank: dict[int, list[int]] = {}
        for number, seat in enumerate(self._seats):
            for rank in self._stages.ranks[seat[0]]:
                seats_of_rank.setdefault(rank, []).append(number)
        numbers = {seats: team for team, seats in enumerate(sorted(set(map(tuple, seats_of_rank.values()))))}
        teams = {
            node: tuple(team for seats, team in numbers.items() if number in seats)
            for number, seat in enumerate(self._seats)
            for node in seat
        }
        return {rank: numbers[tuple(of)] for rank, of in seats_of_rank.items()}, teams


def _meeting(groups: Groups, team_of: Mapping[int, int]) -> Teams:
    """The teams of groups of ranks, without groups within a team."""
    found = (tuple(sorted({team_of[rank] for rank in group})) for group in groups)
    return tuple(dict.fromkeys(teams for teams in found if len(teams) > 1))


def _joined(groups: Teams) -> Teams:
    """Groups that share no team: those that did are one."""
    joined: list[set[int]] = []
    for group in groups:
        sharing = [other for other in joined if not other.isdisjoint(group)]
        joined = [*(other for other in joined if other not in sharing), set(group).union(*sharing)]
    return tuple(tuple(sorted(group)) for group in joined)


def _turned(arcs: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    turned: list[list[int]] = [[] for _task in arcs]
    for task, others in _pairs(arcs):
        turned[others].append(task)
    return tuple(map(tuple, turned))


def _pairs(arcs: Sequence[Sequence[int]]) -> Iterator[tuple[int, int]]:
    return ((task, other) for task, others in enumerate(arcs) for other in others)
