"""Ranks that fail in a training: a fault is a name of CASES, and the rank is the case's.

`work` is what a rank runs; the command line takes the fault from its environment:

    FAULT=exit FAULT_STEP=2 python -m tests.distributed.faults.script train CONFIG

With FAN_OUT hosts talk in groups of at most so many ranks.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from counterpoint import run
from counterpoint.cli import main
from counterpoint.config.schema import Config
from counterpoint.data.feed.reader import Reader
from counterpoint.execute import groups, session
from counterpoint.execute.bridge import Bridge
from counterpoint.execute.stage import Stage
from counterpoint.execute.waits import WaitClock
from counterpoint.parallelize.fsdp import finish_reduction
from counterpoint.plan.action import Direction, Transfer
from counterpoint.train.engine import Engine
from counterpoint.train.optimizer import ModuleOptimizer
from counterpoint.train.replica import Replica
from counterpoint.train.state import stored_block
from counterpoint.train.state.saving import Saver
from tests.distributed.faults.cases import SLOW_SECONDS

STEP = int(os.environ.get("FAULT_STEP", "2"))
"""The step, counted from 0, in which it happens, if it does in a step."""

Act = Callable[[], object]


class Here:
    """What this process does."""

    step = -1
    skips = False
    more_busy = 0.0
    slowness = 1.0


def _exit(code: int) -> Act:
    return lambda: os._exit(code)


def _signal(number: int) -> Act:
    return lambda: os.kill(os.getpid(), number)


def _loop() -> None:
    while True:
        pass


def _fail(error: BaseException) -> Act:
    def act() -> None:
        raise error

    return act


def _slow() -> None:
    time.sleep(SLOW_SECONDS * Here.slowness)


def _stop_all() -> None:
    """As Ctrl-C and a terminal that closes do: a signal to launcher and ranks alike."""
    os.killpg(os.getpgid(0), signal.SIGTERM)


def _kill_when_saved(process: Callable[[], int]) -> Act:
    """Kill a process as soon as there is a checkpoint of this step."""

    def act() -> None:
        while not Path(os.environ["FAULT_AFTER"]).exists():
            time.sleep(0.02)
        os.kill(process(), signal.SIGKILL)

    return act


def _launcher() -> int:
    """The process that was started in a session of its own."""
    return os.getsid(0)


def _be_slow() -> None:
    """Be busy for longer than any step takes, by the clock that tells it; to sleep as long would be the same."""
    Here.more_busy = 3600.0


def _skip() -> None:
    Here.skips = True


FORWARD, BACKWARD, READ, UPDATE, SEND, EVALUATE = "forward", "backward", "read", "update", "send", "evaluate"
WRITE, LOAD, JOIN = "write", "load", "join"

CASES: dict[str, tuple[int, str, Act]] = {
    "exit": (1, FORWARD, _exit(5)),
    "exit as if in order": (1, FORWARD, _exit(0)),
    "sys.exit": (0, FORWARD, lambda: sys.exit(3)),
    "killed": (2, FORWARD, _signal(signal.SIGKILL)),
    "segmentation fault": (0, BACKWARD, lambda: ctypes.string_at(0)),
    "stopped": (3, FORWARD, _signal(signal.SIGSTOP)),
    "loop in the encoder": (0, FORWARD, _loop),
    "loop in the language model": (2, FORWARD, _loop),
    "loop in backward": (1, BACKWARD, _loop),
    "loop in a read": (1, READ, _loop),
    "loop in a checkpoint's write": (3, WRITE, _loop),
    "loop in the optimizer": (2, UPDATE, _loop),
    "loop in a transfer": (1, SEND, _loop),
    "skipped collective": (3, FORWARD, _skip),
    "error in forward": (0, FORWARD, _fail(ValueError("planted"))),
    "error in backward": (2, BACKWARD, _fail(ValueError("planted"))),
    "error in a read": (3, READ, _fail(ValueError("planted"))),
    "error in the optimizer": (1, UPDATE, _fail(ValueError("planted"))),
    "error in a checkpoint's write": (2, WRITE, _fail(OSError(28, "No space left on device"))),
    "out of memory": (2, FORWARD, _fail(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))),
    "killed in an evaluation": (3, EVALUATE, _signal(signal.SIGKILL)),
    "dies before it joins": (2, JOIN, _exit(7)),
    "slow load": (2, LOAD, _slow),
    "slow": (1, FORWARD, _be_slow),
    "stopped by a signal to all": (1, FORWARD, _stop_all),
    "stopped by a signal to all, in an evaluation": (1, EVALUATE, _stop_all),
    "killed after a checkpoint": (1, FORWARD, _kill_when_saved(os.getpid)),
    "launcher killed after a checkpoint": (1, FORWARD, _kill_when_saved(_launcher)),
}


def _wrap(fault: str, owner: Any, name: str, place: str, is_due: Callable[..., bool]) -> None:
    """Let the fault happen in front of a call, once."""
    call = getattr(owner, name)
    rank, wanted, act = CASES[fault]
    done: list[bool] = []

    def wrapped(*arguments: Any, **named: Any) -> Any:
        if place == wanted and not done and os.environ.get("RANK") == str(rank) and is_due(*arguments):
            done.append(True)
            act()
        return call(*arguments, **named)

    setattr(owner, name, wrapped)


def _in_step(*_arguments: object) -> bool:
    return Here.step == STEP


def _sends_forward(_bridge: object, transfer: Transfer, _rows: object) -> bool:
    return _in_step() and transfer.direction is Direction.FORWARD


def _note(engine: Engine, inputs: Any, *others: Any, launch: Any = Engine.launch_step, **named: Any) -> Any:
    Here.step = inputs.batch.step
    return launch(engine, inputs, *others, **named)


def _finish(replica: Replica, reached: bool, finish: Any = Replica.finish_reduction) -> None:
    """The end of a reduction without the sum over tensor-parallel ranks."""
    if Here.skips and replica.tensor_group is not None:
        Here.skips = False
        finish_reduction(replica.chain, reached)
        return
    finish(replica, reached)


def _take_busy(clock: WaitClock, take: Any = WaitClock.take_busy) -> Any:
    return take(clock) + Here.more_busy


def plant(fault: str) -> None:
    """Put a fault into this process."""
    Engine.launch_step = _note  # type: ignore[method-assign, assignment]
    Replica.finish_reduction = _finish  # type: ignore[method-assign, assignment]
    WaitClock.take_busy = _take_busy  # type: ignore[method-assign, assignment]
    _wrap(fault, Stage, "forward", FORWARD, _in_step)
    _wrap(fault, Stage, "backward", BACKWARD, _in_step)
    _wrap(fault, ModuleOptimizer, "step", UPDATE, _in_step)
    _wrap(fault, Bridge, "post", SEND, _sends_forward)
    _wrap(fault, Reader, "read", READ, lambda _reader, batch: batch.step == STEP)
    _wrap(fault, Engine, "evaluate_step", EVALUATE, lambda *_arguments: True)
    _wrap(fault, stored_block.BlockSavePlanner, "lookup_object", WRITE, lambda *_arguments: True)
    _wrap(fault, Saver, "resume", LOAD, lambda *_arguments: True)
    _wrap(fault, session, "join_world", JOIN, lambda *_arguments: True)


def work(fault: str, config: Config, slowness: float) -> None:
    """What a rank runs that a launcher started."""
    Here.slowness = slowness
    plant(fault)
    run.work(config)


if os.environ.get("FAULT"):
    plant(os.environ["FAULT"])
if os.environ.get("FAN_OUT"):
    groups.make_groups = partial(groups.make_groups, fan_out=int(os.environ["FAN_OUT"]))

if __name__ == "__main__":
    main()
