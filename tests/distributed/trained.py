"""A training on a rank of a pool, and what its recorder hears."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from counterpoint.config.schema import Config
from counterpoint.data.corpus import Corpus
from counterpoint.data.feed.reader import Reader, StepInputs
from counterpoint.errors import RunError
from counterpoint.plan.samples import Document
from counterpoint.setup.rank import saver_of, settings_of, trainer_of
from counterpoint.setup.run import prepare_run
from counterpoint.train.active_rank import ActiveRank
from counterpoint.train.callbacks import Callback
from counterpoint.train.engine import Engine, StepResult
from counterpoint.train.metrics.timing import StepTimer
from counterpoint.train.nonfinite import Finding
from counterpoint.verify.member import Member


class Heard:
    """What a recorder hears."""

    def __init__(self) -> None:
        self.steps: list[tuple[StepResult, tuple[Document, ...]]] = []
        self.findings: list[Finding] = []
        self.evaluations: list[tuple[int, str, float]] = []

    def step(self, _step: int, result: StepResult, inputs: StepInputs) -> None:
        self.steps.append((result, inputs.batch.documents))

    def skipped(self, _step: int, finding: Finding) -> None:
        self.findings.append(finding)

    def bad(self, _step: int, payloads: Sequence[Any]) -> None:
        assert not payloads, "all payloads can be read"

    def evaluation(self, step: int, split: str, loss: float, _further: Any) -> None:
        self.evaluations.append((step, split, loss))

    def data(self, *_arguments: Any) -> None:
        pass

    def resumed(self, *_arguments: Any) -> None:
        pass

    def leave_out(self, _seconds: float) -> None:
        pass


def train(member: Member, config: Config, callbacks: Sequence[Callback] = ()) -> tuple[Heard, Engine, Corpus]:
    """Train as a run does, on this rank of a pool; raises what it raises, with what was heard until then."""
    plan, models, corpus = prepare_run(config)
    groups, heard = member.groups(plan), Heard()
    timer = StepTimer(member.world.device)
    engine = Engine(settings_of(config), plan, models, groups, (member.observe, timer.observe))
    watchdog = SimpleNamespace(enter=lambda *_arguments, **_keys: None)
    session: Any = SimpleNamespace(world=member.world, watchdog=watchdog, checkpoint_limit=None, startup_limit=None)
    reader = Reader(plan, member.world.rank, corpus.sources, torch.float64)
    recorder: Any = heard
    saver = saver_of(config, models, groups)
    rank = ActiveRank(Path(config.run.dir), session, groups, engine, reader, recorder, saver)
    try:
        trainer_of(config, rank, corpus, timer, callbacks).run()
    except RunError as error:
        error.add_note(repr([finding.broken for finding in heard.findings]))
        raise
    finally:
        engine.close()
    return heard, engine, corpus
