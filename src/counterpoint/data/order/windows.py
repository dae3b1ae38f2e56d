"""Packing over the documents of several steps: fuller packs, as many in each step, of about the same cost."""

import heapq
from bisect import bisect_left, insort
from collections.abc import Callable, Sequence

from counterpoint.data.order.packing import check_budget
from counterpoint.plan.cost import CAUSAL
from counterpoint.plan.samples import Document, Pack

ROW = 16_384
"""Query-key pairs that cost as much as one row of the language model: 6 times its width h, since a layer takes 24 h^2
FLOPs for a row and 4 h for a pair."""

ITEM_ROW = 1_024
"""Query-key pairs that cost as much as one row of an encoder with a sixteenth of the language model's weights."""

ITEM_PAIRS = 16
"""Query-key pairs of such an encoder that cost as much as one of the language model."""

Numbers = list[int]


def document_cost(document: Document) -> int:
    """The cost of a document in query-key pairs of the language model: pairs, rows and items.

    The constants are those of common models, and not the run's: the order of data must not depend on its models.
    """
    items = sum(ITEM_ROW * item.rows_in + item.rows_in**2 // ITEM_PAIRS for item in document.items)
    return ROW * document.tokens + CAUSAL.pairs(document.tokens) + items


def pack_window(
    documents: Sequence[Document], steps: int, budget_tokens: int | None, is_alone: Callable[[Document], bool]
) -> tuple[tuple[Pack, ...], ...]:
    """The packs of each of `steps` steps, in which every document is once.

    The numbers of packs differ by at most one, and by none where enough packs hold several documents. Without a budget,
    and where it `is_alone`, a document has a pack to itself. Packs and their documents keep the order in which they
    were drawn. Raises DataError for a document over the budget.
    """
    costs = [document_cost(document) for document in documents]
    packs = _packs(documents, budget_tokens, is_alone)
    wanted = -(-len(packs) // steps) * steps
    packs = _spread(documents, packs, wanted, budget_tokens, costs) or _split(packs, wanted - len(packs), costs)
    return tuple(
        tuple(tuple(documents[number] for number in pack) for pack in sorted(dealt))
        for dealt in _deal(packs, steps, costs)
    )


def _packs(
    documents: Sequence[Document], budget_tokens: int | None, is_alone: Callable[[Document], bool]
) -> list[Numbers]:
    """Best-fit decreasing: a document goes where it leaves the least room."""
    packs: list[Numbers] = []
    rooms: list[tuple[int, int]] = []
    for number in sorted(range(len(documents)), key=lambda n: (-documents[n].tokens, n)):
        document = documents[number]
        if budget_tokens is None or is_alone(document):
            packs.append([number])
            continue
        check_budget(document, budget_tokens)
        place = bisect_left(rooms, (document.tokens, 0))
        if place == len(rooms):
            insort(rooms, (budget_tokens - document.tokens, len(packs)))
            packs.append([number])
        else:
            room, pack = rooms.pop(place)
            packs[pack].append(number)
            insort(rooms, (room - document.tokens, pack))
    return [sorted(pack) for pack in packs]


def _spread(
    documents: Sequence[Document], packs: list[Numbers], count: int, budget_tokens: int | None, costs: Sequence[int]
) -> list[Numbers]:
    """The documents of the packs with several in as many other ones, `count` packs in all, of about equal cost: the
    costliest document goes to the cheapest pack with room; nothing if one finds no room."""
    apart = [pack for pack in packs if len(pack) == 1]
    numbers = [number for pack in packs if len(pack) > 1 for number in pack]
    if budget_tokens is None or not numbers or len(numbers) < count - len(apart):
        return []
    spread: list[Numbers] = [[] for _ in range(count - len(apart))]
    rooms = [budget_tokens] * len(spread)
    loads = [(0, place) for place in range(len(spread))]
    for number in sorted(numbers, key=lambda n: (-costs[n], n)):
        tokens, passed = documents[number].tokens, []
        while loads and rooms[loads[0][1]] < tokens:
            passed.append(heapq.heappop(loads))
        if not loads:
            return []
        load, place = loads[0]
        heapq.heapreplace(loads, (load + costs[number], place))
        spread[place].append(number)
        rooms[place] -= tokens
        for entry in passed:
            heapq.heappush(loads, entry)
    return apart + [sorted(pack) for pack in spread]


def _split(packs: list[Numbers], count: int, costs: Sequence[int]) -> list[Numbers]:
    """Split the costliest packs of several documents into two of about equal cost, until there are `count` more."""
    packs = list(packs)
    several = [(-sum(costs[number] for number in pack), place) for place, pack in enumerate(packs) if len(pack) > 1]
    heapq.heapify(several)
    for _ in range(count):
        if not several:
            break
        _cost, place = heapq.heappop(several)
        halves: tuple[Numbers, Numbers] = ([], [])
        loads = [0, 0]
        for number in sorted(packs[place], key=lambda n: (-costs[n], n)):
            half = int(loads[1] < loads[0])
            halves[half].append(number)
            loads[half] += costs[number]
        packs[place] = sorted(halves[0])
        packs.append(sorted(halves[1]))
        for load, at in ((loads[0], place), (loads[1], len(packs) - 1)):
            if len(packs[at]) > 1:
                heapq.heappush(several, (-load, at))
    return packs


def _deal(packs: list[Numbers], steps: int, costs: Sequence[int]) -> list[list[Numbers]]:
    """Packs for each step: the costliest goes to the step with the least cost that still takes one (Graham 1969)."""
    fewest, more = divmod(len(packs), steps)
    dealt: list[list[Numbers]] = [[] for _ in range(steps)]
    loads = [(0, step) for step in range(steps)]
    waiting: list[tuple[int, int]] = []
    for cost, pack in sorted((-sum(costs[number] for number in pack), pack) for pack in packs):
        if not loads:
            # All have the fewest, and some get one more.
            loads = waiting
            heapq.heapify(loads)
        load, step = heapq.heappop(loads)
        dealt[step].append(pack)
        if len(dealt[step]) < fewest:
            heapq.heappush(loads, (load - cost, step))
        elif len(dealt[step]) == fewest and more:
            waiting.append((load - cost, step))
    return dealt
