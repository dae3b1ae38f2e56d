"""What sentences call an argument: an option of a command, or an argument of the Python function of the same name."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_IS_COMMAND = ContextVar("is_command", default=False)


@contextmanager
def command_line() -> Iterator[None]:
    """What runs inside was called by a command."""
    before = _IS_COMMAND.set(True)
    try:
        yield
    finally:
        _IS_COMMAND.reset(before)


def argument(name: str, option: str | None = None) -> str:
    """What the caller calls an argument: `top_p`, or `--top-p` on the command line, where `option` may name another."""
    if not _IS_COMMAND.get():
        return name
    return f"--{name.replace('_', '-')}" if option is None else option
