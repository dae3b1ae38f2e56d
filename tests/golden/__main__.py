"""Shows that two commits compute the same: `python -m tests.golden BASE_COMMIT [--out FILE]`.

BASE is collected by its own collector in a git worktree, the tree at hand by this one, which also goes on with the runs
that BASE has stored. Prints a line per kind and the first differences; exits with 1 if there are any.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.golden.compare import compare

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Compare what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__)
    parser.add_argument("base", help="the commit to compare with")
    parser.add_argument("--out", type=Path, help="keep what the tree at hand computes in this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="goldens-") as name:
        folder = Path(name)
        base, hand, runs = folder / "base.json", folder / "hand.json", folder / "runs"
        with _worktree(options.base, folder / "tree") as tree:
            _collect(tree, [base, "--runs", runs])
        _collect(ROOT, [hand, "--runs", runs, "--like", base])
        found = compare(json.loads(base.read_text())["goldens"], json.loads(hand.read_text())["goldens"])
        if options.out is not None:
            options.out.write_bytes(hand.read_bytes())
    for kind in found:
        for line in kind.lines():
            print(line)  # noqa: T201
    return int(any(kind.differences for kind in found))


@contextmanager
def _worktree(commit: str, folder: Path) -> Iterator[Path]:
    """The sources of a commit, for a time."""
    git = ("git", "-C", str(ROOT), "worktree")
    subprocess.run([*git, "add", "--quiet", "--detach", str(folder), commit], check=True)
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def _collect(tree: Path, arguments: list[object]) -> None:
    """Run the collector of a tree on that tree's own sources, on one thread."""
    command = [sys.executable, "-m", "tests.golden.collect", *map(str, arguments)]
    outside = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    places = os.pathsep.join([str(tree / "src"), *filter(None, outside)])
    path = {"PYTHONPATH": places, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    subprocess.run(command, cwd=tree, env=os.environ | path, check=True)


if __name__ == "__main__":
    sys.exit(main())
