"""The candidates of a placement that are worth a look: each module's choices by a rough guess, combined."""

import heapq
from bisect import insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import final

from counterpoint.config.schema import ScheduleConfig
from counterpoint.search.bounds import Bounds
from counterpoint.search.candidate import Candidate, Choice, Degrees, Recompute
from counterpoint.search.guess import Guess
from counterpoint.search.placements import Placed
from counterpoint.search.space import Space

_BEST = 2
"""Candidates of a placement that are worth a simulation, and as many with one layout for all modules."""

_CUTS = 8
"""Cuts of a module whose variants are compared."""

_CHOICES = 16
"""Choices of a module that are combined with those of others."""

_COMBINED = 2048
"""Combinations of a placement: the more modules, the fewer choices of each."""

_OVERFULL = 10.0
"""Times by which a candidate seems slower that does not seem to fit, the more the less it does."""

_ALIKE = 4
"""Layouts for all modules, and half as many as choices of each module that is cut like that."""

_Cuts = dict[str, dict[Degrees, list[Degrees]]]
"""The cuts of modules, each with its variants."""

_SMALLER = 0.9
"""Of the bytes of faster choices, that a slower one takes at most to be worth a place."""

Ranked = tuple[float, Candidate]
"""A candidate and what it is ranked by."""


@final
@dataclass(frozen=True)
class Shortlist:
    """The shortlists of a space for ranks with so many bytes of memory."""

    space: Space
    bounds: Bounds
    guess: Guess
    memory_bytes: float
    _lists: dict[tuple[str, Sequence[int]], list[Choice]] = field(default_factory=dict, repr=False)

    def key(self, candidate: Candidate) -> float:
        """What candidates are ranked by: the guessed time, larger where the guessed memory does not fit."""
        over = self.guess.memory_bytes(candidate) / self.memory_bytes
        return self.guess.seconds(candidate) * (1.0 if over <= 1.0 else _OVERFULL * over)

    @property
    def is_too_large(self) -> bool:
        """Whether all choices of a module on some ranks are too large by a bound."""
        return any(not choices for choices in self._lists.values())

    def combined(self, placed: Placed) -> list[Ranked]:
        """The best candidates of a placement, best first."""
        most = min(_CHOICES, int(_COMBINED ** (1 / len(placed.ranks))))
        return self._ranked(placed, [[self._choices(name, ranks)[:most] for name, ranks in placed.ranks]])

    def alike(self, placed: Placed) -> list[Ranked]:
        """The best candidates of a placement with one layout for several modules, best first."""
        if not placed.is_colocated or len(placed.ranks) == 1:
            return []
        ranks = placed.ranks[0][1]
        cuts = {name: self._by_cut(name, len(ranks)) for name, _ranks in placed.ranks}
        dense_of = [{cut.dense for cut in found} for found in cuts.values()]
        compared = [(self._quickest(cuts, ranks, dense), dense) for dense in sorted(set.intersection(*dense_of))]
        every = []
        for _key, dense in heapq.nsmallest(_ALIKE, compared):
            lists = []
            for name, found in cuts.items():
                variants = [d for cut, more in found.items() if cut.dense == dense for d in more]
                lists.append(self._best(name, ranks, variants, self.space.recomputes[name], 2 * _ALIKE))
            every.append(lists)
        return self._ranked(placed, every)

    def _quickest(self, cuts: _Cuts, ranks: Sequence[int], dense: tuple[int, ...]) -> float:
        """The guessed seconds of all modules that are cut alike."""
        return sum(
            min(self._quick(name, ranks, more) for cut, more in found.items() if cut.dense == dense)
            for name, found in cuts.items()
        )

    def _ranked(self, placed: Placed, every: Sequence[Sequence[Sequence[Choice]]]) -> list[Ranked]:
        """The best of all combinations, best first; each of `every` has a list of choices for each module."""
        best: list[Ranked] = []
        for lists in every:
            for choice in lists[-1]:
                for count in self.space.microbatches(choice.degrees):
                    last = Candidate(((placed.ranks[-1][0], choice),), self.space.first_of(count))
                    self._combine(placed, lists, last, best)
        return best

    def _combine(
        self, placed: Placed, lists: Sequence[Sequence[Choice]], candidate: Candidate, best: list[Ranked]
    ) -> None:
        """Give a candidate, which has the last modules, every choice of those before. None of them needs less time or
        memory than without, so one that is behind the best is left at that."""
        key = self.key(candidate)
        if len(best) == _BEST and key >= best[-1][0]:
            return
        left = len(lists) - len(candidate.choices)
        if not left:
            insort(best, (key, candidate), key=lambda each: each[0])
            del best[_BEST:]
            return
        for choice in lists[left - 1]:
            named = ((placed.ranks[left - 1][0], choice), *candidate.choices)
            self._combine(placed, lists, Candidate(named, candidate.schedule), best)

    def _choices(self, module: str, ranks: Sequence[int]) -> list[Choice]:
        """The best choices of a module: those of the best cuts, which are compared by their plainest variants first."""
        if (module, ranks) not in self._lists:
            cuts, again = self._by_cut(module, len(ranks)), self.space.recomputes[module]
            ranked = [(self._quick(module, ranks, more), number, more) for number, more in enumerate(cuts.values())]
            fitting = [each for each in ranked if each[0] < inf]
            best = heapq.nsmallest(_CUTS, fitting, key=lambda each: each[:2])
            variants_of = [degrees for _key, _number, variants in best for degrees in variants]
            self._lists[module, ranks] = self._best(module, ranks, variants_of, again, _CHOICES)
        return self._lists[module, ranks]

    def _quick(self, module: str, ranks: Sequence[int], variants: Sequence[Degrees]) -> float:
        """The guess for a cut, of the first of few variants that seems to fit: nothing computed again, everything, and
        parameters freed after each use; infinite if none can fit."""
        again, best = self.space.recomputes[module], inf
        for degrees, recompute in ((variants[0], again[0]), (variants[0], again[-1]), (variants[-1], again[-1])):
            keys = list(self._keys(module, ranks, [degrees], [recompute]))
            best = min([best, *keys])
            if keys and self._bytes(module, Choice(ranks, degrees, recompute)) <= self.memory_bytes:
                break
        return best

    def _most(self, module: str, degrees: Degrees) -> ScheduleConfig:
        """The first schedule with the most microbatches, which keep the least."""
        return self.space.first_of(self._counts(module, degrees)[-1])

    def _by_cut(self, module: str, ranks: int) -> dict[Degrees, list[Degrees]]:
        """The degrees of a module, those together that differ only in how parameters are kept."""
        found: dict[Degrees, list[Degrees]] = {}
        for degrees in self.space.degrees(module, ranks):
            cut = degrees._replace(dp_replicate=1, dp_shard=degrees.dp, reshard=False)
            found.setdefault(cut, []).append(degrees)
        return found

    def _best(
        self, module: str, ranks: Sequence[int], degrees: Sequence[Degrees], recomputes: Sequence[Recompute], most: int
    ) -> list[Choice]:
        """At most so many choices that may fit: those than which no faster one is smaller, since modules on the same
        ranks share their memory, then the fastest others."""
        found = [
            (key, number, self._bytes(module, choice), choice)
            for number, (each, recompute) in enumerate((d, r) for d in degrees for r in recomputes)
            for choice in [Choice(ranks, each, recompute)]
            for key in [min(self._keys(module, ranks, [each], [recompute]), default=None)]
            if key is not None
        ]
        front: list[Choice] = []
        others: list[Choice] = []
        least = inf
        for _key, _number, size, choice in sorted(found, key=lambda each: each[:2]):
            (front if size < least * _SMALLER else others).append(choice)
            least = min(least, size)
        return [*front, *others][:most]

    def _bytes(self, module: str, choice: Choice) -> float:
        """The guessed bytes of a choice, with the most microbatches, which keep the least."""
        return self.guess.memory_bytes(Candidate(((module, choice),), self._most(module, choice.degrees)))

    def _keys(
        self, module: str, ranks: Sequence[int], degrees: Sequence[Degrees], recomputes: Sequence[Recompute]
    ) -> Iterator[float]:
        for each in degrees:
            if self.bounds.module_bytes(module, each, accumulates=False) / each.pp > self.memory_bytes:
                continue
            for recompute in recomputes:
                for count in self._counts(module, each):
                    yield self.key(Candidate(((module, Choice(ranks, each, recompute)),), self.space.first_of(count)))

    def _counts(self, module: str, degrees: Degrees) -> Sequence[int]:
        """Numbers of microbatches with which a module is compared with others: some, and as many as there are."""
        counts = self.space.microbatches(degrees if module == self.space.sink else Degrees())
        return sorted({counts[len(counts) // 2], counts[-1]})
