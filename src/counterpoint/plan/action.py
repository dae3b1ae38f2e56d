"""What a rank does in a step, as values that print and parse: `language.1F3` is stage 1, forward, microbatch 3."""

import re
from dataclasses import dataclass
from enum import StrEnum

from counterpoint.errors import InputError
from counterpoint.plan.graph import Link, Node


class Direction(StrEnum):
    """Forward carries activations, backward carries their gradients."""

    FORWARD = "F"
    BACKWARD = "B"


@dataclass(frozen=True, slots=True)
class Compute:
    """Run a stage forward or backward on one microbatch: `language.1F3`."""

    node: Node
    direction: Direction
    microbatch: int

    def __str__(self) -> str:
        return f"{self.node}{self.direction}{self.microbatch}"


@dataclass(frozen=True, slots=True)
class Transfer:
    """Post this rank's part of a link's exchange, sends and receives together: `vision.0>language.0F3`.

    It is posted, not awaited: a compute action waits for what it consumes, the step's end for the rest.
    """

    link: Link
    direction: Direction
    microbatch: int

    def __str__(self) -> str:
        return f"{self.link}{self.direction}{self.microbatch}"


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

_NODE = r"([A-Za-z_]\w*)\.(\d+)"
_COMPUTE = re.compile(rf"{_NODE}([FB])(\d+)")
_TRANSFER = re.compile(rf"{_NODE}>{_NODE}([FB])(\d+)")
_REDUCE = re.compile(rf"{_NODE}R")


def parse_action(text: str) -> Action:
    """The inverse of `str(action)`; raises InputError for anything else."""
    if text == "S":
        return Step()
    if match := _COMPUTE.fullmatch(text):
        module, stage, direction, microbatch = match.groups()
        return Compute(Node(module, int(stage)), Direction(direction), int(microbatch))
    if match := _TRANSFER.fullmatch(text):
        source, source_stage, target, target_stage, direction, microbatch = match.groups()
        link = Link(Node(source, int(source_stage)), Node(target, int(target_stage)))
        return Transfer(link, Direction(direction), int(microbatch))
    if match := _REDUCE.fullmatch(text):
        return Reduce(Node(match[1], int(match[2])))
    raise InputError(f"action: got {text!r}, expected the form language.1F3, vision.0>language.0B2, language.1R or S")
