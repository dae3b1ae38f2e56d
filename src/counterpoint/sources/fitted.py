"""Which documents of a source fit into a sequence, how much of each is kept, and what is lost, from sizes alone."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import final

import numpy as np

from counterpoint.kinds.arrays import Ints
from counterpoint.kinds.modality import Intake
from counterpoint.sources.census import CUT_TARGETS, EMPTY, NO_TARGET, TOO_LARGE, UNFIT, Census
from counterpoint.sources.prepared.item_table import ItemTable

TargetsBetween = Callable[[Ints, Ints], Ints]
"""The number of targets of each document from one token up to, but not including, another, (documents,) each."""


@final
class Fitted:
    """The documents `rows` of a dataset, in sequences of `sequence_tokens` rows: text is cut at its end, never an item.

    `lengths` (documents,) are the tokens of all documents of the dataset, `items` their items, of which a kind enters
    the module in `intakes`. Raises DataError for an item that no settings of its module would fit.

    `rows` (kept,) are those that a step may contain, `left_out` the others, `kept_tokens` (kept,) the tokens that are
    left of each, and `losses` (kept, 1 + mtp_depths) its targets at each depth of prediction.
    """

    def __init__(
        self,
        rows: Ints,
        lengths: Ints,
        items: ItemTable,
        intakes: Mapping[str, Intake],
        sequence_tokens: int,
        mtp_depths: int,
        targets_between: TargetsBetween,
    ) -> None:
        demands = items.demands(intakes)
        kept = np.minimum(lengths, sequence_tokens - demands.rows)
        reaches = kept >= demands.last
        is_kept = (demands.fits & reaches & (kept + demands.rows > 0))[rows]
        self.rows, self.left_out = rows[is_kept], rows[~is_kept]
        self.kept_tokens = kept[self.rows]
        self._lengths, self._reasons = lengths, (demands.fits, reaches)
        leading = [items.leading_tokens(demands.of_items, depth + 1) for depth in range(1 + mtp_depths)]
        whole = np.clip(kept, 0, lengths)
        counts = [targets_between(np.minimum(each, whole), whole) for each in leading]
        self.losses = np.stack(counts, axis=1)[self.rows]
        self._targets_between, self._first = targets_between, np.minimum(leading[0], lengths)

    @property
    def shortened(self) -> Ints:
        """The documents of which something is lost: those that are cut, and those that are left out unless empty."""
        cut = self.rows[self.kept_tokens < self._lengths[self.rows]]
        fits, reaches = (reason[self.left_out] for reason in self._reasons)
        return np.sort(np.concatenate([cut, self.left_out[~(fits & reaches)]]))

    @cached_property
    def census(self) -> Census:
        """The census of all documents."""
        documents = len(self.rows) + len(self.left_out)
        fits, reaches = (reason[self.left_out] for reason in self._reasons)
        left_out = {TOO_LARGE: int((~fits).sum()), UNFIT: int((fits & ~reaches).sum())}
        left_out[EMPTY] = len(self.left_out) - sum(left_out.values())
        is_silent, had = self.losses[:, 0] == 0, self._targets_between(self._first, self._lengths)[self.rows] > 0
        without_loss = {CUT_TARGETS: int((is_silent & had).sum()), NO_TARGET: int((is_silent & ~had).sum())}
        return Census(
            documents=documents,
            counted=documents,
            cut=int((self.kept_tokens < self._lengths[self.rows]).sum()),
            loss_tokens=int(self.losses[:, 0].sum()),
            left_out={reason: count for reason, count in left_out.items() if count},
            without_loss={reason: count for reason, count in without_loss.items() if count},
        )
