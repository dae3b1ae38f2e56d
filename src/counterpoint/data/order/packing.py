"""Laying documents into packs of a token budget."""

from collections.abc import Callable, Sequence

from counterpoint.errors import DataError
from counterpoint.plan.samples import Document, Pack


def pack_documents(
    documents: Sequence[Document], budget_tokens: int, is_alone: Callable[[Document], bool] = lambda _document: False
) -> tuple[Pack, ...]:
    """Pack first-fit decreasing; packs and their documents keep the order in which they were drawn.

    A document that `is_alone` has a pack to itself.

    Needs at most 11/9 of the fewest possible packs, plus one (Dosa 2007). Raises DataError for a document
    over the budget.
    """
    free: list[int] = []
    packs: list[list[int]] = []
    for number in sorted(range(len(documents)), key=lambda n: (-documents[n].tokens, n)):
        tokens = documents[number].tokens
        check_budget(documents[number], budget_tokens)
        if is_alone(documents[number]):
            packs.append([number])
            free.append(0)
            continue
        place = next((p for p, room in enumerate(free) if room >= tokens), None)
        if place is None:
            place = len(packs)
            packs.append([])
            free.append(budget_tokens)
        packs[place].append(number)
        free[place] -= tokens
    in_order = sorted(sorted(pack) for pack in packs)
    return tuple(tuple(documents[number] for number in pack) for pack in in_order)


def check_budget(document: Document, budget_tokens: int) -> None:
    """Raise DataError for a document over the budget of a pack."""
    if document.tokens > budget_tokens:
        raise DataError(
            f"source {document.source}, document {document.index}: {document.tokens} tokens exceed the pack budget of "
            f"{budget_tokens}; raise data.sequence_tokens."
        )
