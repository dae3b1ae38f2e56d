"""From a config to what one rank trains with: the sections that each part reads are chosen here."""

from collections.abc import Sequence
from pathlib import Path

from counterpoint.config.schema import Config
from counterpoint.data.corpus import Corpus
from counterpoint.data.feed.threads import Reading
from counterpoint.execute.groups import Groups
from counterpoint.execute.waits import WaitClock
from counterpoint.plan.plan import Plan
from counterpoint.recorders.kind import Recording
from counterpoint.setup.data import identity_of
from counterpoint.setup.hub import HubExports
from counterpoint.setup.plan import Models
from counterpoint.setup.run import device_type, is_compiled
from counterpoint.setup.warm_starts import warm_starts_of
from counterpoint.train.active_rank import ActiveRank
from counterpoint.train.callbacks import Callback
from counterpoint.train.loop import Pace, Trainer
from counterpoint.train.metrics.recorder import RunRecorder
from counterpoint.train.metrics.timing import StepTimer
from counterpoint.train.run_data import RunData
from counterpoint.train.settings import EngineSettings
from counterpoint.train.state.exclusions import KeptExclusions
from counterpoint.train.state.saving import Saver


def settings_of(config: Config) -> EngineSettings:
    """The settings of an engine."""
    return EngineSettings(
        seed=config.run.seed,
        training=config.training,
        is_compiled=is_compiled(config),
        train={name: module.train for name, module in config.modules.items()},
        optimizers={name: module.optimizer for name, module in config.modules.items()},
        losses={name: module.losses for name, module in config.modules.items()},
    )


def recorder_of(config: Config, plan: Plan, groups: Groups, waits: WaitClock) -> RunRecorder:
    """The recorder of a run in its folder."""
    recording = Recording(
        folder=Path(config.run.dir), steps=config.training.steps, goes_on=config.checkpoint.resume != "none",
        config=config.resolved(), patience_seconds=config.watchdog.checkpoint_seconds / 4,
    )  # fmt: skip
    return RunRecorder(config.log, recording, plan, groups, waits)


def saver_of(config: Config, models: Models, groups: Groups) -> Saver:
    """The saver of a run, which also resumes it from its folder, and exports what it has saved."""
    starts = warm_starts_of(config, models)
    hub = HubExports(config, models, groups)
    return Saver(Path(config.run.dir), config.checkpoint, identity_of(config), starts, groups, hub.after)


def kept_of(config: Config) -> KeptExclusions:
    """The documents that earlier starts of a run excluded."""
    goes_on = config.checkpoint.resume == "auto"
    return KeptExclusions(Path(config.run.dir), identity_of(config).fingerprint, goes_on)


def data_of(config: Config, rank: ActiveRank, corpus: Corpus) -> RunData:
    """The data of a run while it runs."""
    skipped = config.training.skip_nonfinite
    return RunData(rank, corpus, kept_of(config), reading=reading_of(config), most_skipped=skipped)


def reading_of(config: Config) -> Reading:
    """How the ranks of a run read ahead."""
    data = config.data
    processes = int(device_type(config) == "cuda") if data.processes == "auto" else data.processes
    return Reading(data.workers, data.prefetch_steps, data.read_timeout_seconds, processes)


def trainer_of(
    config: Config, rank: ActiveRank, corpus: Corpus, timer: StepTimer, callbacks: Sequence[Callback] = ()
) -> Trainer:
    """The trainer of a config on a rank."""
    pace = Pace(
        config.training.steps, config.checkpoint.every_steps, config.evaluation.every_steps, config.log.timeline_steps
    )
    return Trainer(rank, data_of(config, rank, corpus), pace, timer, callbacks)
