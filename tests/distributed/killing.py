"""A script for torchrun: trains a config whose ranks kill themselves, then the same config undisturbed.

    torchrun ... -m tests.distributed.killing CONFIG FOLDER RANK@STEP RANK@STEP ...

In start n of the world the n-th rank of the list is killed before it launches its step; the start after the last of
them ends the run, and trains the same into FOLDER.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import counterpoint
from counterpoint.train.engine import Engine


def _kill_before(rank: int, step: int) -> None:
    launch = Engine.launch_step

    def launch_or_die(engine: Engine, inputs: Any, *others: Any, **named: Any) -> Any:
        if os.environ["RANK"] == str(rank) and inputs.batch.step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return launch(engine, inputs, *others, **named)

    setattr(Engine, "launch_step", launch_or_die)  # noqa: B010


def main(config: str, folder: str, *deaths: str) -> None:
    """See above."""
    start = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    if start < len(deaths):
        rank, step = map(int, deaths[start].split("@"))
        _kill_before(rank, step)
    counterpoint.train(Path(config))
    counterpoint.train(Path(config), [f"run.dir={folder}"])


if __name__ == "__main__":
    main(*sys.argv[1:])
