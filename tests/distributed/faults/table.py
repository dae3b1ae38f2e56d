"""Runs every fault once and writes what was said of it: the table in docs/faults.md.

python -m tests.distributed.faults.table OUT.md [CASE ...]
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.distributed.faults.cases import SAID, SLOW_SECONDS, Said
from tests.parity.layouts import named_config, override

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its exit code, all that it wrote to stderr, its report, and after how many seconds."""

    code: int
    written: str
    report: dict[str, Any]
    seconds: float

    @property
    def last(self) -> str:
        """The last words."""
        return next(reversed(self.written.strip().splitlines()), "")

    def is_right(self, said: Said) -> bool:
        """Whether the right rank and the right action were named, with the right code."""
        is_named = said.rank is None or self.report.get("rank") == said.rank
        return self.code == said.code and is_named and re.search(said.words, self.last) is not None


def run(name: str, folder: Path) -> Outcome:
    """Train vision dp2 on ranks 0 and 1, and language tp2 on 2 and 3, with a fault in it."""
    base = named_config("dp2_to_tp2")
    documents = base.resolved()["data"]["train"][0]["synthetic"] | {"documents": 16}
    keys = {
        "run.dir": str(folder / "run"),
        "training.steps": 6,
        "checkpoint.every_steps": 2,
        "log.every_steps": 1,
        "log.tensorboard": False,
        "evaluation.every_steps": 2,
        "data.evaluation": [{"synthetic": documents}],
        "watchdog.timeout_seconds": 8,
        "watchdog.startup_seconds": 120,
        "watchdog.checkpoint_seconds": 16,
    }
    if SAID[name].is_load:
        keys |= {"watchdog.startup_seconds": 30, "watchdog.checkpoint_seconds": 120}
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(override(base, keys).resolved()))
    environment = {**os.environ, "FAULT": name, "SLOW": str(SLOW_SECONDS)}
    command = [sys.executable, "-m", "tests.distributed.faults.script", "train", str(file)]
    began = time.monotonic()
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=ROOT)
    report = folder / "run" / "error.json"
    return Outcome(
        ended.returncode,
        ended.stderr,
        json.loads(report.read_text()) if report.exists() else {},
        time.monotonic() - began,
    )


def main(out: str, *names: str) -> None:
    """See above."""
    lines = ["| fault | in rank | named | code | right | seconds | last words |", "|---|---|---|---|---|---|---|"]
    for name in names or tuple(SAID):
        said = SAID[name]
        with tempfile.TemporaryDirectory() as folder:
            outcome = run(name, Path(folder))
            words = outcome.last.replace(folder, "").replace("|", "\\|")
        named = outcome.report.get("rank", "nobody")
        right = "yes" if outcome.is_right(said) else "**no**"
        lines.append(
            f"| {name} | {said.planted} | {named} | {outcome.code} | {right} | {outcome.seconds:.0f} | {words} |"
        )
        print(lines[-1], flush=True)  # noqa: T201
    Path(out).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
