"""The interface of objects that follow a run's progress."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from counterpoint.data.corpus import Corpus
from counterpoint.data.feed.reader import BadPayload, StepInputs
from counterpoint.train.engine import StepResult
from counterpoint.train.metrics.compiled import Compiled
from counterpoint.train.nonfinite import Finding
from counterpoint.train.state.saving import Resumption


class Listener(Protocol):
    """Follows a run's progress on every active rank."""

    def data(self, step: int, corpus: Corpus) -> None:
        """Training begins after step `step`, with this data."""

    def resumed(self, resumption: Resumption) -> None:
        """The run resumes from a checkpoint, or starts at step 0."""

    def step(self, step: int, result: StepResult, inputs: StepInputs) -> None:
        """A training step ended."""

    def leave_out(self, seconds: float) -> None:
        """So many seconds that just passed were not those of training steps."""

    def compiled(self, step: int, mine: Compiled) -> None:
        """The first step compiled something, on this rank what `mine` says."""

    def evaluation(self, step: int, split: str, loss: float, further: Mapping[str, float]) -> None:
        """An evaluation ended; `further` are further losses by name."""

    def bad(self, step: int, payloads: Sequence[BadPayload]) -> None:
        """Payloads could not be read, and were replaced by neutral content."""

    def skipped(self, step: int, finding: Finding) -> None:
        """A training step was not finite and updated nothing."""
