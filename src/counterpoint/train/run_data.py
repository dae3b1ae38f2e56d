"""The data of a run, without documents that turned out to be unreadable or not finite."""

import math
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial

from counterpoint.data.corpus import Corpus
from counterpoint.data.feed.open import open_feed
from counterpoint.data.feed.prefetch import Prefetcher
from counterpoint.data.feed.reader import BadPayload, StepInputs
from counterpoint.data.feed.threads import Reading
from counterpoint.data.order.order import Exclusion
from counterpoint.errors import CounterpointError, RunError
from counterpoint.execute.tree import Tree
from counterpoint.plan.samples import Document
from counterpoint.train.active_rank import ActiveRank
from counterpoint.train.agree import agreed
from counterpoint.train.nonfinite import Finding, conclude, find_culprits
from counterpoint.train.state.checkpoint import TrainingState
from counterpoint.train.state.exclusions import KeptExclusions


class RunData:
    """A run's data; all ranks exclude the same documents, beginning with the first step that no rank has read yet.

    `reading` says how steps are read ahead. The run ends after more than `most_skipped` consecutive steps that are not
    finite.
    """

    def __init__(
        self, rank: ActiveRank, corpus: Corpus, kept: KeptExclusions, *, reading: Reading, most_skipped: int
    ) -> None:
        self.corpus = corpus
        self._rank, self._kept, self._reading, self._most_skipped = rank, kept, reading, most_skipped
        self._engine, self._session = rank.engine, rank.session
        self._skipped_in_a_row = 0

    @property
    def depth(self) -> int:
        """Number of steps that the furthest run-ahead module is ahead of the others."""
        return max(self._engine.plan.stages.ahead.values(), default=0)

    def resume(self, state: TrainingState) -> None:
        """Apply the exclusions of a checkpoint, and those that an earlier start kept before it failed."""
        self.corpus = self.corpus.without(Exclusion(*entry) for entry in state.exclusions)
        self.corpus = self.corpus.without(self._read_kept())

    def feed(self, first: int, stop: int) -> Prefetcher:
        """A prefetcher of the inputs of steps `first` to `stop - 1`."""
        source = open_feed(self._rank.reader, self.corpus, self._reading)

        def read(step: int) -> Future[StepInputs]:
            return source.submit(step, self.corpus.order.exclusions)

        return Prefetcher(read, first, stop, self._reading.steps_ahead, source.close)

    def exclude_bad(self, step: int, inputs: StepInputs) -> None:
        """Exclude the documents of a step whose payloads were unreadable on any rank."""
        bad = gathered_bad(self._rank.groups.control, inputs.bad)
        self._rank.recorder.bad(step + 1, bad)
        self.corpus = self.corpus.without(Exclusion(p.source, p.index, self._first_unread(step)) for p in bad)

    def go_on(self) -> None:
        """Note that a step was finite."""
        self._skipped_in_a_row = 0

    def skip(self, step: int, inputs: StepInputs, broken: tuple[str, ...]) -> None:
        """Find the documents that made a step not finite, and exclude them; all ranks find the same ones.

        The step updated nothing, so the next one, already launched, computed with the right parameters. Raises RunError
        after more than `most_skipped` such steps in a row.
        """
        self._session.watchdog.enter("recomputing", step, self._session.checkpoint_limit)
        documents, sources = inputs.batch.documents, self.corpus.sources
        culprits = find_culprits(documents, self._is_finite)

        def is_next_finite() -> bool:
            return self._is_finite([document for pack in self.corpus.packs(step + 1) for document in pack])

        finding = conclude(self._engine.plan, inputs.batch, broken, culprits, is_next_finite, sources)
        self._engine.skipped += 1
        self._skipped_in_a_row += 1
        is_over = self._skipped_in_a_row > self._most_skipped
        # The next start repeats the steps after its checkpoint, including this one.
        first = step if is_over else self._first_unread(step)
        self.corpus = self.corpus.without(Exclusion(d.source, d.index, first) for d in finding.excluded)
        if is_over:
            raise self._ended(step, finding)
        self._rank.recorder.skipped(step + 1, finding)

    def _first_unread(self, step: int) -> int:
        """The first step that prefetching has not begun to read when the results of `step` are examined."""
        # By then the next step is launched, and the steps after it are being prefetched.
        return step + 1 + self.depth + self._reading.steps_ahead + 1

    def _is_finite(self, documents: Sequence[Document]) -> bool:
        """Whether the loss of these documents is finite, each in a separate pack."""
        reader = replace(self._rank.reader, with_mtp=False)
        batch = self._engine.plan.batch(0, tuple((document,) for document in documents))
        found = self._engine.evaluate_step(reader.read(batch))
        return all(map(math.isfinite, (found.loss, *found.further.values())))

    def _ended(self, step: int, finding: Finding) -> RunError:
        """Write everything that is pending, and return the error with which all ranks end the run.

        Failures of writing are appended to the finding.
        """
        # As soon as one rank ends, all ranks end, so pending writes have to be finished first.
        self._session.watchdog.enter("checkpoint", step, self._session.checkpoint_limit)
        sentences = [finding.sentence]
        record, keep = partial(self._rank.recorder.skipped, step + 1, finding), partial(self._write_kept, finding)
        for write in (record, self._rank.saver.finish, keep):
            try:
                agreed(self._rank.groups.control, write)
            except CounterpointError as error:
                sentences.append(str(error))
        return RunError("; ".join(sentences))

    def _write_kept(self, finding: Finding) -> None:
        """On the first rank, store the exclusions for the next start."""
        if finding.excluded and self._rank.is_leader:
            self._kept.write(self.corpus.order.exclusions)

    def _read_kept(self) -> tuple[Exclusion, ...]:
        """The exclusions that an earlier start kept, read by the first rank; its error is raised on all ranks."""
        kept: tuple[Exclusion, ...] | CounterpointError
        try:
            kept = self._kept.read() if self._rank.is_leader else ()
        except CounterpointError as error:
            kept = error
        tree = self._rank.groups.control
        assert tree is not None, "only active ranks read"
        kept = tree.broadcast(kept)
        if isinstance(kept, CounterpointError):
            raise kept
        return kept


def gathered_bad(tree: Tree | None, bad: Sequence[BadPayload]) -> list[BadPayload]:
    """The distinct bad payloads of all ranks of a tree, sorted."""
    assert tree is not None, "only active ranks read"
    payloads = tree.merged(frozenset(bad), lambda some: frozenset().union(*some))
    return sorted(payloads, key=lambda p: (p.source, p.index))
