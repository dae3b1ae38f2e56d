"""Steps that are not finite: finding the documents that cause it, and the message about it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from counterpoint.plan.batch import BatchPlan
from counterpoint.plan.layout import format_ranks
from counterpoint.plan.plan import Plan
from counterpoint.plan.samples import Document
from counterpoint.sources.source import Source

MOST_CULPRITS = 16
"""Number of documents after which the search ends: with more of them, the model is the likely cause."""

_NAMED = 8


@dataclass(frozen=True, slots=True)
class Finding:
    """A step that was not finite: what was `broken`, and the `culprits`, documents that alone are not finite either.

    `is_model` says that documents of the next step are not finite either, so that the model is the cause. `names` are
    the culprits in words, or all documents of the step if no culprit is the cause.
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
        """What happened, why, and the remedy, for the error that ends the run."""
        if self.excluded:
            remedy = "look at its files and resume, or set training.skip_nonfinite to go on in such steps"
        else:
            remedy = (
                "resume from the last checkpoint with a lower learning rate, a lower training.clip_norm or float32 "
                "precision"
            )
        return f"{self.said}; {remedy}"


def find_culprits(documents: Sequence[Document], is_finite: Callable[[Sequence[Document]], bool]) -> list[Document]:
    """At most MOST_CULPRITS documents whose loss alone is not finite, found by bisection."""
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
    """The finding of a search; if there are culprits, `is_next_finite` tells whether the next documents are finite."""
    is_model = bool(culprits) and not is_next_finite()
    if culprits and not is_model:
        names = tuple(name_of(document, sources) for document in culprits)
    else:
        names = tuple(_by_ranks(plan, batch, sources))
    return Finding(batch.step, broken, tuple(culprits), is_model, names)


def name_of(document: Document, sources: Sequence[Source]) -> str:
    """A document in words: its number and its place in the dataset."""
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
