"""The whole of a run, top to bottom: config, plan, check, launch, build, train."""

import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from counterpoint.config.run_files import ERROR_FILE
from counterpoint.config.schema import Config
from counterpoint.console import begin_line, say
from counterpoint.errors import CounterpointError
from counterpoint.launch import (
    RESUME,
    SignalledError,
    adopt_slurm,
    check_world,
    is_joined,
    launch_local,
    start_fork_server,
)
from counterpoint.plugins.load import versions_of
from counterpoint.program import check_program
from counterpoint.setup.callbacks import check_callbacks, check_travels
from counterpoint.setup.run import Setup, check_data, check_device, check_recorders, device_type, open_run, prepare_run

if TYPE_CHECKING:
    from counterpoint.train.callbacks import Callback


def train(config: Config, callbacks: "Sequence[Callback]" = (), port: int = 0) -> None:
    """Train a config to its end, on local ranks that this starts, or as one rank that torchrun or Slurm started.

    Everything that can be wrong with the input is found before a rank or a group exists.
    """
    if not is_joined(os.environ):
        check_program()
    if not is_joined(os.environ) and "torch" not in sys.modules:
        # The server that ranks fork from imports torch while this process does.
        start_fork_server()
    from counterpoint.setup.hub import check_hub
    from counterpoint.setup.run_folder import lock_run_folder, open_run_folder
    from counterpoint.setup.settle import settle_items
    from counterpoint.setup.warm_starts import check_films, check_warm_starts

    check_callbacks(callbacks)
    config = settle_items(config)
    setup = prepare_run(config)
    check_data(config, setup.corpus)
    check_device(config)
    check_recorders(config)
    lines = check_warm_starts(config, setup.models)
    check_films(config, setup.models, setup.corpus)
    check_hub(config, setup.models)
    if is_finished(config, setup):
        return
    say_once(lines)
    if is_joined(os.environ):
        join(config, setup, callbacks)
        return
    check_travels(callbacks)
    folder = Path(config.run.dir)
    with lock_run_folder(folder):
        prepare = partial(open_run_folder, config, setup.plan)
        conclude = partial(say_ending, config)
        arguments = (config, tuple(callbacks))
        try:
            launch_local(config.world.size, work, arguments, folder / ERROR_FILE, port, prepare, conclude)
        except SignalledError as ended:
            raise SignalledError(ended.number, RESUME) from None


def say_ending(config: Config, error: CounterpointError | None = None) -> None:
    """Say where the run folder is and what to do next, on lines without a leftover progress bar."""
    from counterpoint.train.closing import Ending

    has_answers = bool(config.data.evaluation) and config.data.tokenizer is not None
    keys = () if config.checkpoint.resume == "auto" else ("checkpoint.resume=auto",)
    begin_line()
    for line in Ending(Path(config.run.dir), config.training.steps, has_answers, keys).lines(error):
        say(line)


def is_finished(config: Config, setup: Setup) -> bool:
    """Whether the run's newest checkpoint is its last step's; if so one of its ranks says so.

    Raises CheckpointError or ConfigError for a wrong warm start, even if nothing would read it.
    """
    from counterpoint.setup.run_folder import check_run_folder
    from counterpoint.setup.warm_starts import check_values

    opened = check_run_folder(config, setup.plan.facts)
    if opened is None or opened.state.data_step < config.training.steps:
        return False
    check_values(config, setup.models)
    say_once(
        [
            f"{config.run.dir}: finished, it has trained {opened.state.data_step} of {config.training.steps} steps; "
            "raise training.steps to go on, choose another run.dir, or start anew with checkpoint.resume=none"
        ]
    )
    return True


def say_once(lines: Sequence[str]) -> None:
    """Say lines, on one of the ranks if they were started already."""
    if os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0":
        for line in lines:
            say(line)


def join(config: Config, setup: Setup, callbacks: "Sequence[Callback]" = ()) -> None:
    """Run as one of the ranks that torchrun or Slurm started; rank 0 keeps other runs out of the folder."""
    from counterpoint.setup.run_folder import check_run_folder, lock_run_folder

    folder = Path(config.run.dir)
    check_run_folder(config, setup.plan.facts)
    adopt_slurm(os.environ)
    if check_world(config.world.size, os.environ) != 0:
        run_rank(config, setup, callbacks)
        return
    with lock_run_folder(folder):
        # No rank of this world can fail before all have joined it, so only an older report is removed.
        (folder / ERROR_FILE).unlink(missing_ok=True)
        run_rank(config, setup, callbacks)
        say_ending(config)


def work(config: Config, callbacks: "Sequence[Callback]" = ()) -> None:
    """Run a locally started rank; the launcher has checked the same config and proved its plan before."""
    run_rank(config, open_run(config), callbacks)


def run_rank(config: Config, setup: Setup, callbacks: "Sequence[Callback]" = ()) -> None:
    """One rank from joining the world to leaving it."""
    from counterpoint.data.feed.reader import Reader
    from counterpoint.execute.agreement import check_digest
    from counterpoint.execute.groups import make_groups
    from counterpoint.execute.rank_log import OWN, rank_log
    from counterpoint.execute.session import open_session
    from counterpoint.parallelize.fsdp import dtype_of
    from counterpoint.setup.rank import recorder_of, saver_of, settings_of, trainer_of
    from counterpoint.setup.run_folder import open_run_folder
    from counterpoint.train.active_rank import ActiveRank
    from counterpoint.train.engine import Engine
    from counterpoint.train.metrics.timing import StepTimer
    from counterpoint.train.versions import check_versions

    plan, models, corpus = setup
    folder = Path(config.run.dir)
    device, rank = device_type(config), int(os.environ["RANK"])
    with (
        rank_log(folder, rank, is_leader=rank == plan.placement.active[0]),
        open_session(device, folder, config.watchdog, config.run.deterministic) as session,
    ):
        check_digest(session.world, plan.digest)
        began = time.perf_counter()
        groups = make_groups(session.world, plan.communicators, plan.placement.active)
        seconds = time.perf_counter() - began
        OWN.info("%d communicators (%d of this rank) in %.1f s", groups.created, groups.joined, seconds)
        if session.world.rank not in plan.placement.active:
            session.wait_for_others()
            return
        session.watch(plan, groups)
        check_versions(versions_of(config.run.plugins), plan.placement.active, groups.control)
        if session.world.rank == plan.placement.active[0]:
            open_run_folder(config, plan)
        timer = StepTimer(session.world.device)
        engine = Engine(settings_of(config), plan, models, groups, (session.watchdog.observe, timer.observe))
        compute = dtype_of(config.training.precision.compute)
        is_pinned = session.world.device.type == "cuda"
        packs = config.data.packing
        reader = Reader(plan, session.world.rank, corpus.sources, compute, is_pinned=is_pinned, packs=packs)
        recorder = recorder_of(config, plan, groups, engine.waits)
        saver = saver_of(config, models, groups)
        active = ActiveRank(folder, session, groups, engine, reader, recorder, saver)
        is_finished = False
        try:
            trainer_of(config, active, corpus, timer, callbacks).run()
            is_finished = True
        finally:
            recorder.close(is_finished)
            engine.close()
        session.release_others()
