"""The walk through a space: every placement's best guess, then moves from the best candidates that the clock knows.

Nothing is random: a search repeated finds the same. What is pruned cannot win: it does not fit the memory, or a bound
says that it takes longer than the candidates that are kept. A space of no more candidates than may be simulated is
looked through whole.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from math import inf, prod
from typing import final

from counterpoint.errors import InputError
from counterpoint.search.bounds import Bounds
from counterpoint.search.candidate import Candidate
from counterpoint.search.moves import layout_moves, schedule_moves
from counterpoint.search.placements import Placed
from counterpoint.search.scoring import Score, Scorer
from counterpoint.search.second import Second
from counterpoint.search.shortlist import Shortlist
from counterpoint.search.space import BATCH, Space

_BEAM = 3
"""Layouts from whose best candidates moves are made in turn."""

_MOVES = 6
"""Moves from one candidate before the others of the beam have theirs."""

_SEEDS = 0.4
"""The share of simulations that compare placements."""

_SLACK = 1.0 + 1e-9
"""Bounds and times are sums in different orders."""


@final
@dataclass(frozen=True, slots=True)
class Outcome:
    """A candidate and what the clock says of it."""

    candidate: Candidate
    score: Score


@final
@dataclass(slots=True)
class Counts:
    """What became of candidates: those of the space on the first schedule, those that were looked at, and of these
    those that were refused, too large, too slow by a bound, the same as another one, and simulated; `overflowing` ones
    were simulated and did not fit. `is_whole`
    says that nothing of the space was left out."""

    space: int = 0
    looked_at: int = 0
    refused: int = 0
    too_large: int = 0
    too_slow: int = 0
    same: int = 0
    simulated: int = 0
    overflowing: int = 0
    is_whole: bool = False


@final
@dataclass(frozen=True, slots=True)
class Found:
    """The best outcome of every layout that fits, fastest first, and what was done for them."""

    outcomes: tuple[Outcome, ...]
    counts: Counts

    @property
    def homogeneous(self) -> Outcome | None:
        """The fastest with one layout for all modules."""
        return next((each for each in self.outcomes if each.candidate.is_homogeneous), None)

    @property
    def heterogeneous(self) -> Outcome | None:
        """The fastest whose modules have layouts of their own."""
        return next((each for each in self.outcomes if not each.candidate.is_homogeneous), None)


@final
@dataclass(frozen=True)
class Walk:
    """A walk that simulates at most `simulations` candidates; no bound prunes any of the `top` fastest layouts.

    `memory_bytes` is what a rank has. A `second` process takes a part of each simulation.
    """

    space: Space
    bounds: Bounds
    shortlist: Shortlist
    scorer: Scorer
    memory_bytes: float
    simulations: int
    top: int
    second: Second | None = None
    counts: Counts = field(default_factory=Counts)
    _outcomes: list[Outcome] = field(default_factory=list)
    _refused: Counter[str] = field(default_factory=Counter)
    _seen: set[object] = field(default_factory=set)

    def run(self) -> Found:
        """Walk; raises InputError if no candidate fits."""
        self.counts.space = sum(map(self._layouts, self.space.placements))
        if self._all_within(self.simulations):
            self.counts.is_whole = True
            self._try_all(sorted(self._everything(), key=self.shortlist.key))
        else:
            self._try_all(self._seeds(), most=max(1, int(_SEEDS * self.simulations)))
            self._improve()
        outcomes = tuple(each for each in self._ranking() if self._fits(each))
        if not outcomes:
            raise InputError(self._nothing())
        return Found(outcomes, self.counts)

    def _everything(self) -> Iterator[Candidate]:
        for placed in self.space.placements:
            for layouts in self.space.candidates(placed):
                for cut in self._with_chunks(layouts):
                    for schedule in self.space.schedules(cut):
                        yield Candidate(cut.choices, schedule)

    def _with_chunks(self, candidate: Candidate) -> Iterator[Candidate]:
        """A candidate with every choice of chunks, its own first."""
        cut = [candidate]
        for name, choice in candidate.choices:
            if choice.degrees.pp > 1:
                more = self.space.chunks(name, choice.degrees)
                degrees = [choice.degrees, *more]
                cut = [c.with_choice(name, choice._replace(degrees=each)) for c in cut for each in degrees]
        return iter(cut)

    def _all_within(self, most: int) -> bool:
        """Whether the space has no more candidates than `most`."""
        if self.counts.space > most:
            return False
        return sum(1 for _candidate, _number in zip(self._everything(), range(most + 1))) <= most

    def _layouts(self, placed: Placed) -> int:
        """The number of candidates on a placement, on the first schedule."""
        choices = [len(self.space.degrees(n, len(ranks))) * len(self.space.recomputes[n]) for n, ranks in placed.ranks]
        name, ranks = placed.ranks[-1]
        cuts = self.space.degrees(name, len(ranks))
        steps = sum(len(self.space.microbatches(degrees)) for degrees in cuts) * len(self.space.recomputes[name])
        return prod(choices[:-1]) * steps

    def _seeds(self) -> list[Candidate]:
        """The best guess of every placement, fastest first, after the best guesses with one layout for all modules."""
        best: list[tuple[float, int, Candidate]] = []
        for number, placed in enumerate(self.space.placements):
            ranked, alike = self.shortlist.combined(placed), self.shortlist.alike(placed)
            best += [(key, 2 * number + place, candidate) for place, (key, candidate) in enumerate(ranked)]
            best += [(0.0, place, candidate) for place, (_key, candidate) in enumerate(alike)]
        return [candidate for _key, _number, candidate in sorted(best, key=lambda each: each[:2])]

    def _improve(self) -> None:
        """Make moves from the best candidates of the fastest layouts until all are tried or the simulations spent."""
        begun: dict[Candidate, Iterator[Candidate]] = {}
        while self.counts.simulated < self.simulations:
            best = self._beam()
            before = self.counts.looked_at
            for candidate in best:
                if candidate not in begun:
                    begun[candidate] = self._moves(candidate)
                left = self.simulations - self.counts.simulated
                if not left:
                    return
                self._try_all(begun[candidate], most=min(_MOVES, left))
            if self.counts.looked_at == before:
                return

    def _beam(self) -> list[Candidate]:
        """The best candidates of the fastest layouts, and the best one with one layout for all modules."""
        ranking = [each.candidate for each in self._ranking()]
        alike = [candidate for candidate in ranking if candidate.is_homogeneous]
        return list(dict.fromkeys([*ranking[:_BEAM], *alike[:1]]))

    def _moves(self, candidate: Candidate) -> Iterator[Candidate]:
        """Moves from a candidate: other schedules and, guessed fastest first, other layouts, in turn."""
        layouts = sorted(
            enumerate(layout_moves(self.space, candidate)), key=lambda each: (self.shortlist.key(each[1]), each[0])
        )
        schedules = schedule_moves(self.space, candidate)
        for one, other in zip_longest((move for _number, move in layouts), schedules):
            yield from (move for move in (one, other) if move is not None)

    def _ranking(self) -> list[Outcome]:
        """The best outcome of every layout: those that fit by their time, others after them by their size."""
        best: dict[object, Outcome] = {}
        for each in self._ordered():
            best.setdefault(each.candidate.layout, each)
        return list(best.values())

    def _ordered(self) -> list[Outcome]:
        """All outcomes by their standing; among equals, those with one layout for all modules come first."""
        alike: list[tuple[int, bool, Outcome]] = []
        over, longest = 0.0, -inf
        for place, each in enumerate(sorted(self._outcomes, key=self._standing)):
            standing = self._standing(each)
            if standing[0] != over or standing[1] > longest or not alike:
                first, over, longest = place, standing[0], standing[1] * _SLACK
            alike.append((first, not each.candidate.is_homogeneous, each))
        return [each for *_key, each in sorted(alike, key=lambda one: one[:2])]

    def _standing(self, outcome: Outcome) -> tuple[float, float]:
        over = 0.0 if self._fits(outcome) else outcome.score.memory_bytes / self.memory_bytes
        return over, outcome.score.seconds

    def _fits(self, outcome: Outcome) -> bool:
        return outcome.score.memory_bytes <= self.memory_bytes

    def _limit(self) -> float:
        """The time of the slowest layout that is kept; infinite while there are too few."""
        kept = [each.score.seconds for each in self._ranking()[: self.top] if self._fits(each)]
        return kept[-1] if len(kept) == self.top else inf

    def _try_all(self, candidates: Iterable[Candidate], most: int | None = None) -> None:
        stop = inf if most is None else self.counts.simulated + most
        for candidate in candidates:
            self._try(candidate)
            if self.counts.simulated >= stop:
                return

    def _try(self, candidate: Candidate) -> None:
        """Simulate a candidate, unless it was seen before, is refused, or cannot be among the best."""
        if candidate in self._seen:
            return
        self._seen.add(candidate)
        self.counts.looked_at += 1
        if (rule := self.space.problem(candidate)) is not None:
            self._refuse(rule)
        elif self.bounds.memory_bytes(candidate) > self.memory_bytes * _SLACK:
            self.counts.too_large += 1
        elif self.bounds.seconds(candidate) > self._limit() * _SLACK:
            self.counts.too_slow += 1
        else:
            self._simulate(candidate)

    def _simulate(self, candidate: Candidate) -> None:
        try:
            plan = self.scorer.plan(candidate)
            same = (candidate.choices, plan.group, plan.run_ahead, plan.schedule.order)
            if same in self._seen:
                self.counts.same += 1
                return
            self._seen.add(same)
            score = self.scorer.score(plan) if self.second is None else self.second.score(candidate, plan)
            found = Outcome(candidate, score)
        except InputError as error:
            self._refuse(str(error).partition(":")[0])
            return
        self.counts.simulated += 1
        self.counts.overflowing += not self._fits(found)
        self._outcomes.append(found)

    def _refuse(self, rule: str) -> None:
        self.counts.refused += 1
        self._refused[rule] += 1

    def _nothing(self) -> str:
        """Why no candidate fits, in one sentence."""
        where = f"{self.space.world_size} ranks of {self.memory_bytes / 2**30:.4g} GiB"
        counts = self.counts
        if self._outcomes:
            least = min(each.score.memory_bytes for each in self._outcomes)
            return (
                f"search: got {where}, expected {least / 2**30:.1f} GiB, the least of {counts.simulated} simulated "
                "candidates; use more ranks, more memory (--memory), or recompute more"
            )
        if counts.refused and counts.refused == counts.looked_at:
            by = ", ".join(f"{rule} {count:,}" for rule, count in sorted(self._refused.items()))
            return (
                f"search: got {where}, for which the plan's rules refuse all {counts.refused:,} candidates that were "
                f"looked at (by {by}), expected one that they allow; allow other schedules (--schedule), or hold "
                "fewer keys"
            )
        if counts.too_large or self.shortlist.is_too_large:
            return (
                f"search: got {where}, which no candidate fits into by its parameters, gradients and optimizer state "
                "alone, expected more; use more ranks or more memory (--memory)"
            )
        rules = ", ".join(sorted(self.space.refused))
        refused = f"; the plan's rules refuse degrees by {rules}" if rules else ""
        # More lanes than sequences are the one reason that the batch can mend.
        more = f"raise {BATCH}, " if BATCH in self.space.refused else ""
        return (
            f"search: got {where}, over which no layout of all modules divides, expected one that does{refused}; "
            f"{more}change --world-size, or hold fewer keys"
        )
