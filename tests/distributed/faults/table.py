"""Runs every fault once and writes what was said of it: the table in docs/faults.md.

python -m tests.distributed.faults.table OUT.md [CASE ...]
"""

import json
import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from counterpoint.errors import CounterpointError
from counterpoint.launch import launch_local
from tests.distributed.faults.cases import SAID, Said
from tests.distributed.faults.script import work
from tests.parity.layouts import named_config, override


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its exit code, its last words on stderr, its report, and after how many seconds."""

    code: int
    last: str
    report: dict[str, Any]
    seconds: float

    def is_right(self, said: Said) -> bool:
        """Whether the right rank and the right action were named, with the right code."""
        is_named = said.rank is None or self.report.get("rank") == said.rank
        return self.code == said.code and is_named and re.search(said.words, self.last) is not None


def run(name: str, folder: Path, timeout_seconds: float = 8, slowness: float = 1) -> Outcome:
    """Train vision dp2 on ranks 0 and 1, and language tp2 on 2 and 3, with a fault in it; all limits are `slowness`
    times as long."""
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
        "watchdog.timeout_seconds": slowness * timeout_seconds,
        "watchdog.startup_seconds": slowness * 120,
        "watchdog.checkpoint_seconds": slowness * 16,
    }
    if SAID[name].is_load:
        keys |= {"watchdog.startup_seconds": slowness * 30, "watchdog.checkpoint_seconds": slowness * 120}
    config = override(base, keys)
    began = time.monotonic()
    code, last, file = 0, "", folder / "run" / "error.json"
    try:
        # As `counterpoint train` does it, which says the error last and leaves with its code.
        launch_local(config.world.size, work, (name, config, slowness), file)
    except CounterpointError as error:
        code, last = error.exit_code, f"error: {error}"
    return Outcome(code, last, json.loads(file.read_text()) if file.exists() else {}, time.monotonic() - began)


def main(out: str, *names: str) -> None:
    """See above."""
    lines = ["| fault | in rank | named | code | right | last words |", "|---|---|---|---|---|---|"]
    for name in names or tuple(SAID):
        said = SAID[name]
        with tempfile.TemporaryDirectory() as folder:
            outcome = run(name, Path(folder))
            # Gloo's words, with ports and paths of its build, are left out.
            words = re.sub(r" \(\[/.*?\);", ";", outcome.last.replace(folder, "")).replace("|", "\\|")
        # Who never joined stands in no report.
        in_words = re.search(r"rank (\d+)", words)
        named = outcome.report.get("rank", in_words[1] if in_words else "nobody")
        right = "yes" if outcome.is_right(said) else "**no**"
        lines.append(f"| {name} | {said.planted} | {named} | {outcome.code} | {right} | {words} |")
        print(lines[-1], f"{outcome.seconds:.0f} s", flush=True)  # noqa: T201
    Path(out).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
