"""Steps that are not finite: which documents make them so, and what is said of it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from counterpoint.plan.batch import BatchPlan
from counterpoint.plan.layout import format_ranks
from counterpoint.plan.plan import Plan
from counterpoint.plan.samples import Document
from counterpoint.sources.source import Source

MOST_CULPRITS = 16
"""Documents after which the search ends: more point to the model."""

_NAMED = 8


@dataclass(frozen=True, slots=True)
class Finding:
    """A step that was not finite: what of it, the documents that are not finite by themselves, and all of its own.

    `is_model` says that the documents tell nothing, since those of the next step are not finite either.
    """

    step: int
    broken: tuple[str, ...]
    culprits: tuple[Document, ...]
    is_model: bool
    names: tuple[str, ...]

    @property
    def excluded(self) -> tuple[Document, ...]:
        """The documents that are left out from now on."""
        return () if self.is_model else self.culprits

    @property
    def said(self) -> str:
        """What happened and why."""
        if self.excluded:
            why = "not finite by itself, and left out from now on, is"
        elif self.culprits:
            why = "the documents of the next step are not finite either, so it is the model; the step held"
        else:
            why = "every document's loss is finite by itself; the step held"
        what = f"{' and '.join(self.broken)} {'are' if len(self.broken) > 1 else 'is'} not finite, nothing was updated"
        return f"step {self.step}: {what}; {why} {_listed(self.names)}"

    @property
    def sentence(self) -> str:
        """What happened and what the remedy is, for whoever the run ends with."""
        if self.excluded:
            remedy = "look at its files and resume, or set training.skip_nonfinite to go on in such steps"
        else:
            remedy = (
                "resume from the last checkpoint with a lower learning rate, a lower training.clip_norm or float32 "
                "precision"
            )
        return f"{self.said}; {remedy}"


def find_culprits(documents: Sequence[Document], is_finite: Callable[[Sequence[Document]], bool]) -> list[Document]:
    """Documents that are not finite by themselves, at most MOST_CULPRITS, found by halving what is not."""
    return list(_halved(documents, is_finite, [MOST_CULPRITS]))


def _halved(
    documents: Sequence[Document], is_finite: Callable[[Sequence[Document]], bool], left: list[int]
) -> Iterator[Document]:
    if not documents or not left[0] or is_finite(documents):
        return
    if len(documents) == 1:
        left[0] -= 1
        yield documents[0]
        return
    middle = len(documents) // 2
    yield from _halved(documents[:middle], is_finite, left)
    yield from _halved(documents[middle:], is_finite, left)


def conclude(
    plan: Plan,
    batch: BatchPlan,
    broken: tuple[str, ...],
    culprits: Sequence[Document],
    is_next_finite: Callable[[], bool],
    sources: Sequence[Source],
) -> Finding:
    """What a search says: where it found any, `is_next_finite` is asked whether other documents are finite."""
    is_model = bool(culprits) and not is_next_finite()
    if culprits and not is_model:
        names = tuple(name_of(document, sources) for document in culprits)
    else:
        names = tuple(_by_ranks(plan, batch, sources))
    return Finding(batch.step, broken, tuple(culprits), is_model, names)


def name_of(document: Document, sources: Sequence[Source]) -> str:
    """A document by its number and by where it lies."""
    return sources[document.source].where(document.index)


def _by_ranks(plan: Plan, batch: BatchPlan, sources: Sequence[Source]) -> Iterator[str]:
    layout = plan.layouts[plan.sink]
    for number, lanes in enumerate(batch.shares[plan.sink]):
        for lane, share in enumerate(lanes):
            where = f"microbatch {number}, ranks {format_ranks(layout.lane_ranks(layout.stages - 1, lane))}"
            for span in share.spans:
                yield f"{name_of(batch.documents[span.document], sources)} ({where})"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
