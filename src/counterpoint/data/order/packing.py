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
    rooms = _Rooms(len(documents), budget_tokens)
    packs: list[list[int]] = []
    for number in sorted(range(len(documents)), key=lambda n: (-documents[n].tokens, n)):
        check_budget(documents[number], budget_tokens)
        alone = is_alone(documents[number])
        place = len(packs) if alone else rooms.first(documents[number].tokens)
        if place == len(packs):
            packs.append([])
        packs[place].append(number)
        rooms.take(place, budget_tokens if alone else documents[number].tokens)
    in_order = sorted(sorted(pack) for pack in packs)
    return tuple(tuple(documents[number] for number in pack) for pack in in_order)


def check_budget(document: Document, budget_tokens: int) -> None:
    """Raise DataError for a document over the budget of a pack."""
    if document.tokens > budget_tokens:
        raise DataError(
            f"source {document.source}, document {document.index}: {document.tokens} tokens exceed the pack budget of "
            f"{budget_tokens}; raise data.sequence_tokens."
        )


class _Rooms:
    """The room that is left in each of `count` packs: finds the first with enough, in steps that grow as log(count)."""

    def __init__(self, count: int, budget: int) -> None:
        self._leaves = 1 << max(count - 1, 0).bit_length()
        # A tree: the most room below each node, whose children are 2n and 2n + 1; the packs are its last nodes.
        self._most = [budget] * (2 * self._leaves)

    def first(self, tokens: int) -> int:
        """The first pack with room for so many tokens, of which there is one: an empty pack."""
        node = 1
        while node < self._leaves:
            node = 2 * node + (self._most[2 * node] < tokens)
        return node - self._leaves

    def take(self, place: int, tokens: int) -> None:
        """Take room of a pack."""
        node = place + self._leaves
        self._most[node] -= tokens
        while node > 1:
            node //= 2
            self._most[node] = max(self._most[2 * node], self._most[2 * node + 1])
