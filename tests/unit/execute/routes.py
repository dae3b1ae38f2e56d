"""Random routes: every row of a source goes to one row of a target, or to none."""

from hypothesis import strategies as st

from counterpoint.plan.route import Copy, Route

Place = tuple[int, int]
"""A rank and one of its local rows."""

Ranks = tuple[int, ...]


@st.composite
def routes(draw: st.DrawFn, sources: Ranks, targets: Ranks, most: int = 12) -> tuple[Route, dict[int, int]]:
    """A route, and how many rows each source has, some of them without a way."""
    owners = draw(st.lists(st.tuples(st.sampled_from(sources), st.sampled_from(targets)), max_size=most))
    held, filled = dict.fromkeys(sources, 0), dict.fromkeys(targets, 0)
    copies: list[Copy] = []
    for source, target in owners:
        held[source] += draw(st.integers(0, 1))
        rows = draw(st.integers(1, 3))
        copies.append(Copy(source, target, held[source], filled[target], rows))
        held[source], filled[target] = held[source] + rows, filled[target] + rows
    return Route(tuple(sorted(copies))), held


def by_hand(route: Route) -> dict[Place, Place]:
    """Where the row at a place of a source goes."""
    return {
        (copy.source_rank, copy.source_row + row): (copy.target_rank, copy.target_row + row)
        for copy in route.copies
        for row in range(copy.rows)
    }
