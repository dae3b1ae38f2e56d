"""What a rank does in a step, as values that print and parse: `language.1F3` is stage 1, forward, microbatch 3."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, Self, TypeVar

from counterpoint.errors import InputError
from counterpoint.plan.graph import Link, Node
from counterpoint.plan.hashed import Hashed


class Direction(StrEnum):
    """Forward carries activations, backward carries their gradients."""

    FORWARD = "F"
    BACKWARD = "B"

    __hash__ = str.__hash__


class Summed(Protocol):
    """What is counted of a work, such as seconds."""

    def __add__(self, other: Self, /) -> Self: ...


_Counted = TypeVar("_Counted", bound=Summed)


class Work(StrEnum):
    """What is computed: forward, backward as a whole, or its two halves: gradients of inputs, then of weights."""

    FORWARD = "F"
    BACKWARD = "B"
    INPUT = "I"
    WEIGHT = "W"

    __hash__ = str.__hash__

    @property
    def gives_gradient(self) -> bool:
        """Whether gradients of the inputs come out of it."""
        return self in (Work.BACKWARD, Work.INPUT)

    def of(self, forward: _Counted, inputs: _Counted, weights: _Counted) -> _Counted:
        """What is counted of this work, from that of forward and of the two halves of backward."""
        match self:
            case Work.FORWARD:
                return forward
            case Work.INPUT:
                return inputs
            case Work.WEIGHT:
                return weights
            case Work.BACKWARD:
                return inputs + weights


@dataclass(frozen=True, slots=True)
class Compute(Hashed):
    """Run a stage on one of its module's microbatches: `language.1F3`, `vision.0F3+1` for the step after this one."""

    node: Node
    work: Work
    microbatch: int
    ahead: int = 0

    __hash__ = Hashed.__hash__

    def hashed(self) -> tuple[object, ...]:
        return self.node, self.work, self.microbatch, self.ahead

    def __str__(self) -> str:
        return f"{self.node}{self.work}{self.microbatch}{_ahead(self.ahead)}"


@dataclass(frozen=True, slots=True)
class Transfer(Hashed):
    """Post this rank's part of a link's exchange, sends and receives together: `vision.0>language.0F3`.

    It is posted, not awaited: a compute action waits for what it consumes, the step's end for the rest.
    """

    link: Link
    direction: Direction
    exchange: int
    ahead: int = 0

    __hash__ = Hashed.__hash__

    def hashed(self) -> tuple[object, ...]:
        return self.link, self.direction, self.exchange, self.ahead

    def __str__(self) -> str:
        return f"{self.link}{self.direction}{self.exchange}{_ahead(self.ahead)}"


@dataclass(frozen=True, slots=True)
class Reduce:
    """Sum a stage's gradients over the ranks that hold copies of its parameters: `language.1R`."""

    node: Node

    def __str__(self) -> str:
        return f"{self.node}R"


@dataclass(frozen=True, slots=True)
class Step:
    """Sum loss and norms over all ranks, clip, and update every parameter: `S`."""

    def __str__(self) -> str:
        return "S"


Action = Compute | Transfer | Reduce | Step


def is_ahead(action: Action) -> bool:
    """Whether an action belongs to a later step than the program that holds it."""
    match action:
        case Compute(ahead=ahead) | Transfer(ahead=ahead):
            return ahead > 0
        case Reduce() | Step():
            return False


_NODE = r"([A-Za-z_]\w*)\.(\d+)"
_AHEAD = r"(?:\+([1-9]\d*))?"
_COMPUTE = re.compile(rf"{_NODE}([FBIW])(\d+){_AHEAD}")
_TRANSFER = re.compile(rf"{_NODE}>{_NODE}(?:/(\d+)-(\d+))?([FB])(\d+){_AHEAD}")
_REDUCE = re.compile(rf"{_NODE}R")


def parse_action(text: str) -> Action:
    """The inverse of `str(action)`; raises InputError for anything else."""
    if text == "S":
        return Step()
    if match := _COMPUTE.fullmatch(text):
        module, stage, work, microbatch, ahead = match.groups()
        return Compute(Node(module, int(stage)), Work(work), int(microbatch), int(ahead or 0))
    if match := _TRANSFER.fullmatch(text):
        source, source_stage, target, target_stage, after, into, direction, exchange, ahead = match.groups()
        ends = Node(source, int(source_stage)), Node(target, int(target_stage))
        link = Link(*ends) if after is None else Link(*ends, int(after), int(into))
        return Transfer(link, Direction(direction), int(exchange), int(ahead or 0))
    if match := _REDUCE.fullmatch(text):
        return Reduce(Node(match[1], int(match[2])))
    raise InputError(f"action: got {text!r}, expected the form language.1F3, vision.0>language.0B2, language.1R or S")


def _ahead(steps: int) -> str:
    return f"+{steps}" if steps else ""
