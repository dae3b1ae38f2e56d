"""What files of sound have in common: their channels are mixed, and their rates are bounded."""

import numpy as np

from counterpoint.errors import DataError
from counterpoint.kinds.arrays import Floats

SLOWEST, FASTEST = 1_000, 768_000
"""Rates that are taken, in samples a second."""


def mix(values: Floats) -> Floats:
    """The mean of channels, (samples, channels) -> (samples,); raises DataError for values that are no numbers."""
    with np.errstate(all="ignore"):
        mean: Floats = values.mean(axis=1, dtype=np.float32)
    if not np.isfinite(mean).all():
        raise DataError("the clip has samples that are infinite or no numbers; replace or remove it.")
    return mean


def check_rate(rate: int) -> None:
    """Raise DataError for a rate that nothing records."""
    if not SLOWEST <= rate <= FASTEST:
        raise DataError(
            f"the clip has {rate} samples a second, expected {SLOWEST} to {FASTEST}; correct its header or convert it."
        )
