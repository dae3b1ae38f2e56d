"""The Python program that starts ranks: multiprocessing imports its file again in each of them."""

import ast
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, ModuleType

from counterpoint.errors import InputError

IMPORTED_AGAIN = 79
"""Exit code of a process that would have started ranks while it imported the program for its parent."""

_GUARD = 'if __name__ == "__main__":'


def check_program() -> None:
    """Raise InputError for a program that ranks cannot import, or whose import would start ranks again.

    Some of the latter are known only once a rank imports the program: that process ends here, with IMPORTED_AGAIN, and
    without a word, since the process that started it has the sentence.
    """
    if any(_is_body(frame, "__mp_main__") for frame in _callers()):
        os._exit(IMPORTED_AGAIN)
    main = sys.modules["__main__"]
    name = _file_of(main)
    if name is None:
        return
    if not is_importable(main):
        raise InputError(
            f"{name}: got a program that is in no file, expected one that ranks, which are other processes, can "
            f"import; save it in a file, with the call that starts ranks under `{_GUARD}`"
        )
    lines = _lines_of_body()
    if lines and all(_is_always_run(name, line) for line in lines):
        raise unguarded(f"{name}:{lines[-1]}")


def unguarded(where: str | None = None) -> InputError:
    """The error about a program that starts ranks whenever it is imported, at a place or somewhere."""
    return InputError(
        f"{where or _file_of(sys.modules['__main__'])}: got a call that starts ranks outside of `{_GUARD}`, expected "
        "it inside, since ranks are processes that import this file again; move it there"
    )


def is_importable(main: ModuleType) -> bool:
    """Whether processes that multiprocessing starts find a program again: as a module, or by its file."""
    return main.__spec__ is not None or Path(_file_of(main) or "").is_file()


def _file_of(main: ModuleType) -> str | None:
    """What is called the file of a program, which need not be one; None where multiprocessing imports nothing."""
    name: str | None = vars(main).get("__file__")
    return name


def _callers() -> Iterator[FrameType]:
    """The frames of this call, from the inside out."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_body(frame: FrameType, module: str) -> bool:
    """Whether a frame runs the body of a module, which importing it does."""
    return frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") == module


def _lines_of_body() -> list[int]:
    """The lines of the program by which its body called this, the innermost first; none where others called."""
    lines = []
    for frame in _callers():
        module = frame.f_globals.get("__name__", "")
        if module == "__main__":
            lines.append(frame.f_lineno)
            if _is_body(frame, module):
                return lines
        elif module.partition(".")[0] != "counterpoint":
            break
    return []


def _is_always_run(file: str, line: int) -> bool:
    """Whether nothing in a statement of a file's body, which may be a function's definition, keeps a line from being
    run."""
    try:
        statements = ast.parse(Path(file).read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return False
    here = [s for s in statements if s.lineno <= line <= (s.end_lineno or s.lineno)]
    conditions = (ast.If, ast.IfExp, ast.BoolOp, ast.Try, ast.TryStar, ast.While, ast.For, ast.Match)
    return len(here) == 1 and not any(isinstance(node, conditions) for node in ast.walk(here[0]))
