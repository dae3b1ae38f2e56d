"""A program whose import would start ranks again, or that no rank can import, is refused in one sentence."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from counterpoint.errors import InputError
from counterpoint.program import IMPORTED_AGAIN

GUARD = 'if __name__ == "__main__":'
BEGIN = "from counterpoint.program import check_program as train\n"


def _run(folder: Path, text: str, name: str = "__main__") -> Path:
    script = folder / "script.py"
    script.write_text(BEGIN + text)
    runpy.run_path(str(script), run_name=name)
    return script


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("train()", 2),
        ("with open(__file__):\n    run = (\n        train())", 4),
        ("def main():\n    train()\n\nmain()", 5),
        (f"{GUARD}\n    pass\ntrain()", 4),
    ],
)
def test_a_call_that_every_import_makes_is_refused(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(InputError) as caught:
        _run(tmp_path, text)
    assert str(caught.value) == (
        f"{tmp_path / 'script.py'}:{line}: got a call that starts ranks outside of `{GUARD}`, expected it inside, "
        "since ranks are processes that import this file again; move it there"
    )


@pytest.mark.parametrize(
    "text",
    [
        f"{GUARD}\n    train()",
        f"def main():\n    train()\n\n{GUARD}\n    main()",
        "import sys\n__name__ == '__main__' and sys.exit and train()",
        "import os\ndef main():\n    if 'RANK' in os.environ:\n        return\n    train()\n\nmain()",
        "import functools\nfunctools.reduce(lambda one, other: train(), [1, 2]) if __name__ else None",
    ],
)
def test_a_call_under_a_condition_is_left_to_ranks(tmp_path: Path, text: str) -> None:
    _run(tmp_path, text)


def test_a_rank_that_imports_the_program_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(code: int) -> None:
        raise RuntimeError(f"left with {code}")

    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(RuntimeError, match=f"left with {IMPORTED_AGAIN}"):
        _run(tmp_path, "if True:\n    train()", name="__mp_main__")


def test_a_program_of_standard_input_is_refused() -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run(
        [sys.executable, "-"], input=f"{BEGIN}{GUARD}\n    train()", env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert ran.returncode == 1
    assert ran.stderr.endswith(
        "counterpoint.errors.InputError: <stdin>: got a program that is in no file, expected one that ranks, which are "
        f"other processes, can import; save it in a file, with the call that starts ranks under `{GUARD}`\n"
    )


def test_a_program_without_a_file_that_none_imports_is_taken() -> None:
    """Of `python -c` and of a notebook multiprocessing imports nothing."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run([sys.executable, "-c", f"{BEGIN}train()"], env=environment, check=False)
    assert ran.returncode == 0
