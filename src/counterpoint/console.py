"""The one way to write on a terminal: text as it stands. To rich `[a]` is markup, and `:train:` a picture of one."""

from rich.console import Console
from rich.control import Control
from rich.segment import ControlType


def console(*, stderr: bool = False, soft_wrap: bool = True) -> Console:
    """A console on stdout or stderr; lines are left to the terminal to wrap, unless a width is to be kept."""
    return Console(stderr=stderr, soft_wrap=soft_wrap, highlight=False, markup=False, emoji=False)


def say(words: str) -> None:
    """Write a line on stdout."""
    console().print(words)


def begin_line() -> None:
    """Begin a line on stdout, where a process that was killed may have left a bar on a terminal."""
    output = console()
    if output.is_interactive:
        output.control(Control((ControlType.ERASE_IN_LINE, 2), ControlType.CARRIAGE_RETURN))
