"""Tensor parallelism of registered modules: every rank sees all rows of a lane, and linear layers are cut in pairs.

A column-parallel layer passes its outputs to what works on a part of them, and a row-parallel layer sums over the ranks
(Shoeybi et al., 2019, arXiv:1909.08053, section 3). All ranks compute everything else alike.
"""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from counterpoint.models.chain import Chain
from counterpoint.models.seams import Foreign
from counterpoint.parallelize.exchange import RowExchange, TensorGroup, keep


def cut_custom_linears(chain: Chain, ranks: TensorGroup) -> None:
    """Give the cut linear layers of a registered module their exchanges, in place."""
    for _where, foreign in _foreign(chain):
        for name, linear in foreign.tower.named_modules():
            role = next((role for pattern, role in foreign.tensor_rules if fnmatchcase(name, pattern)), None)
            if isinstance(linear, nn.Linear) and role is not None:
                linear.forward = _Outputs(linear, ranks) if role == "outputs" else _Inputs(linear, ranks)  # type: ignore


def _foreign(chain: Chain) -> Iterator[tuple[str, Foreign]]:
    return ((name, module) for name, module in chain.named_modules() if isinstance(module, Foreign))


@final
class _Outputs:
    """A column-parallel forward: this rank's outputs; the gradient of the input is summed over the ranks."""

    def __init__(self, linear: nn.Linear, ranks: TensorGroup) -> None:
        self._linear, self._enter = linear, RowExchange(keep, ranks.all_reduce)

    def __call__(self, rows: Tensor) -> Tensor:
        return F.linear(self._enter(rows), self._linear.weight, self._linear.bias)


@final
class _Inputs:
    """A row-parallel forward from this rank's inputs, summed over the ranks before the bias is added once."""

    def __init__(self, linear: nn.Linear, ranks: TensorGroup) -> None:
        self._linear, self._leave = linear, RowExchange(ranks.all_reduce, keep)

    def __call__(self, rows: Tensor) -> Tensor:
        summed: Tensor = self._leave(F.linear(rows, self._linear.weight))
        return summed if self._linear.bias is None else summed + self._linear.bias
