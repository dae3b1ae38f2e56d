"""A step from the order of its computes: the actions that follow each, and what nodes keep in it."""

from collections.abc import Iterable, Sequence

from counterpoint.plan.action import Action, Compute, Direction, Reduce, Step, Transfer, Work
from counterpoint.plan.graph import Node
from counterpoint.plan.stages import Stages


def actions_of(stages: Stages, microbatches: int, computes: Sequence[Compute]) -> tuple[Action, ...]:
    """A whole step in the order of its computes: each is followed by its node's reduction, if it is the node's last
    backward, and by the transfers of what it made."""
    early = [link for link in stages.links if stages.steps_ahead(link.source) > stages.steps_ahead(link.target)]
    cells = sorted((exchange, link) for link in early for exchange in range(stages.exchanges(link, microbatches)))
    order: list[Action] = [Transfer(link, Direction.FORWARD, exchange) for exchange, link in cells]
    last = {action.node: action for action in computes if action.work is not Work.FORWARD}
    for action in computes:
        order.append(action)
        if last.get(action.node) == action and stages.trains(action.node):
            order.append(Reduce(action.node))
        order += [given for given in stages.gives(action, microbatches) if given.ahead == action.ahead]
    return (*order, Step())


def kept(stages: Stages, microbatches: int, order: Iterable[Action]) -> dict[Node, int]:
    """The most microbatches that each node keeps at once in an order; of what runs ahead, all of a step."""
    begun, ended = dict.fromkeys(stages.nodes, 0), dict.fromkeys(stages.nodes, 0)
    most = {n: stages.count(n.module, microbatches) if stages.steps_ahead(n) else 1 for n in stages.nodes}
    splits = frozenset(a.node for a in order if isinstance(a, Compute) and a.work is Work.WEIGHT)

    def read(node: Node) -> int:
        """Microbatches whose rows the forwards of all readers have begun to read."""
        covered = [begun[node]]
        for link in stages.outgoing(node):
            done, target = begun[link.target], link.target.module
            if done < stages.count(target, microbatches):
                covered.append(done * stages.group(target) // stages.group(node.module))
        return min(covered)

    for action in order:
        if not isinstance(action, Compute):
            continue
        node = action.node
        if action.work is not Work.FORWARD:
            ended[node] += action.work is Work.WEIGHT or node not in splits
            continue
        begun[node] += 1
        for other in (node, *(link.source for link in stages.incoming(node))):
            done = ended[other] if stages.has_backward(other) else read(other)
            most[other] = max(most[other], begun[other] - done)
    return most
