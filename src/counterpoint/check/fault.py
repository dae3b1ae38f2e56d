"""A fault: why a proof fails and where, before it is turned into an error with the grid around it."""

from dataclasses import dataclass

from counterpoint.plan.action import Action


@dataclass(frozen=True, slots=True)
class Fault:
    """One sentence (what, where, got, expected, remedy) and the (rank, action) pairs to mark in the grid."""

    sentence: str
    marks: tuple[tuple[int, Action], ...] = ()
