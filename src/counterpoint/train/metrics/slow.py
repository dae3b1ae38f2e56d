"""Which ranks are slower than those that do the same."""

from collections.abc import Hashable, Mapping
from statistics import median_low

_RATIO = 1.5
_SHARE = 0.1
"""How much of the time that passed a rank must be behind, so that little work with its noise names nobody."""


def slow_ranks(busy: Mapping[int, float], roles: Mapping[int, Hashable], passed: float) -> dict[int, float]:
    """Ranks that were busy more than half as long again as the median of their role, and how many times as long.

    `busy` are seconds of own work out of `passed`; `roles` say who has the same work. Who is alone in its role is
    compared with nobody, and nobody with a median that did nothing: of that there is no ratio.
    """
    alike: dict[Hashable, list[float]] = {}
    for rank, seconds in busy.items():
        alike.setdefault(roles[rank], []).append(seconds)
    medians = {role: median_low(seconds) for role, seconds in alike.items()}
    found = {}
    for rank, seconds in busy.items():
        usual = medians[roles[rank]]
        if usual and seconds > _RATIO * usual and seconds - usual > _SHARE * passed:
            found[rank] = seconds / usual
    return found
