"""Laying documents into packs of a token budget."""

from collections.abc import Sequence

from counterpoint.errors import DataError
from counterpoint.plan.samples import Document, Pack


def pack_documents(documents: Sequence[Document], budget_tokens: int) -> tuple[Pack, ...]:
    """Pack first-fit decreasing; packs and their documents keep the order in which they were drawn.

    Needs at most 11/9 of the fewest possible packs, plus one (Dosa 2007). Raises DataError for a document
    over the budget.
    """
    free: list[int] = []
    packs: list[list[int]] = []
    for number in sorted(range(len(documents)), key=lambda n: (-documents[n].tokens, n)):
        tokens = documents[number].tokens
        if tokens > budget_tokens:
            raise DataError(
                f"source {documents[number].source}, document {documents[number].index}: {tokens} tokens "
                f"exceed the pack budget of {budget_tokens}; raise data.sequence_tokens."
            )
        place = next((p for p, room in enumerate(free) if room >= tokens), None)
        if place is None:
            place = len(packs)
            packs.append([])
            free.append(budget_tokens)
        packs[place].append(number)
        free[place] -= tokens
    in_order = sorted(sorted(pack) for pack in packs)
    return tuple(tuple(documents[number] for number in pack) for pack in in_order)
