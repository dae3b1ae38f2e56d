"""The positions of a document's rows as an array, from the plan's runs."""

import numpy as np

from counterpoint.kinds.arrays import Ints
from counterpoint.plan.positions import position_runs
from counterpoint.plan.samples import Document


def lay_positions(document: Document, axes: int) -> Ints:
    """Positions int64 (tokens, axes): counted from 0 with one axis, of time, height and width with three."""
    if axes == 1:
        return np.arange(document.tokens, dtype=np.int64)[:, None]
    positions = np.empty((document.tokens, axes), dtype=np.int64)
    for run in position_runs(document):
        steps = np.arange(run.rows)
        if run.columns is None:
            offsets = np.stack([steps] * axes, axis=1)
        else:
            offsets = np.stack([np.zeros_like(steps), steps // run.columns, steps % run.columns], axis=1)
        positions[run.row : run.row + run.rows] = run.start + offsets
    return positions
