"""The one way to write on a terminal: text as it is. To rich `[a]` is markup, and `:train:` an emoji."""

from rich.console import Console
from rich.control import Control
from rich.segment import ControlType


def console(*, stderr: bool = False, soft_wrap: bool = True) -> Console:
    """A console on stdout or stderr; the terminal wraps lines (`soft_wrap`), or rich does."""
    return Console(stderr=stderr, soft_wrap=soft_wrap, highlight=False, markup=False, emoji=False)


def say(words: str) -> None:
    """Write a line on stdout."""
    console().print(words)


def begin_line() -> None:
    """Begin a line on stdout: a process that was killed may have left a progress bar and no cursor."""
    output = console()
    if output.is_interactive:
        output.control(Control((ControlType.ERASE_IN_LINE, 2), ControlType.CARRIAGE_RETURN, ControlType.SHOW_CURSOR))
