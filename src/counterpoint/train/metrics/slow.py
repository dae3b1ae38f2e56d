"""Detection of ranks that are slower than others with the same work."""

from collections.abc import Hashable, Mapping
from statistics import median_low

_RATIO = 1.5
_SHARE = 0.1
"""Least excess over the median, as a share of the elapsed time, so that noise in little work is not reported."""


def slow_ranks(busy: Mapping[int, float], roles: Mapping[int, Hashable], passed: float) -> dict[int, float]:
    """Ranks that were busy more than 1.5 times as long as the median of their role, and that ratio.

    `busy` are seconds of own work out of `passed`; ranks with equal `roles` have the same work. A rank that is alone in
    its role is never slow, and a role whose median is 0 has no slow ranks.
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
