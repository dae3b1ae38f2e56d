"""The recorder of the lowest loss as configs know it."""

from typing import Literal

from counterpoint.extend import RecorderKind, RecorderSection, Text


class BestSection(RecorderSection):
    """The lowest loss of all recorded steps, and its step, as a line of text."""

    kind: Literal["best"] = "best"
    """The lowest loss in a file."""
    file: Text = "best.txt"
    """The file in the run's folder."""


BEST = RecorderKind(section=BestSection, open_with="counterpoint_example.best.recorder:Best")
