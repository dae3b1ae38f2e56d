"""Compilation: what a layer does between two exchanges or kernels of its own becomes a few fused kernels.

Only functions of rows are compiled, so hooks of FSDP2, recomputation and attention's kernels stay outside. All layers
of a kind share one compiled function: a first one for the sizes that come first, and one for any number of rows if
others follow.
"""

from collections.abc import Callable
from functools import cache
from types import FunctionType, MethodType
from typing import Any, final

import torch
from torch import Tensor

from counterpoint.models.chain import Chain
from counterpoint.models.scored import ScoredRows
from counterpoint.models.seams import Fusible

_VARIANTS = 64
"""Of one function, over all modules that share it: sizes, dtypes, with and without gradients."""


def apply_compile(chain: Chain) -> None:
    """Compile the regions of a chain, in place; nothing is compiled before rows come."""
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _VARIANTS)
    narrowed = chain.parts()[chain.num_whole :] if isinstance(chain.narrow, ScoredRows) else []
    apart = {inner for _name, part in narrowed for inner in part.modules()}
    for module in chain.modules():
        for region in module.regions if isinstance(module, Fusible) else ():
            function = getattr(module, region)
            if isinstance(function, MethodType):
                kind = type(module).__name__
                function = _of_kind(function, f"{kind}_of_scored_rows" if module in apart else kind)
            setattr(module, region, _Compiled(function))


def _of_kind(method: MethodType, kind: str) -> MethodType:
    """A method that modules of a kind share, and no others: a compiler leaves a function its sizes until others come,
    so those of fewer rows have one of their own, and so has each class that inherits it."""
    return MethodType(_copied_function(method.__func__, kind), method.__self__)


@cache
def _copied_function(function: FunctionType, kind: str) -> FunctionType:
    """A function of the same code, which a compiler takes for another."""
    code = function.__code__.replace(co_name=f"{function.__name__}_of_{kind}")
    return FunctionType(code, function.__globals__, code.co_name, function.__defaults__, function.__closure__)


@final
class _Compiled:
    """A function whose first argument is rows; a compiler would make variants for 0 and 1, which run as they are."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._plain = function
        self._compiled = torch.compile(function)

    def __call__(self, rows: Tensor, *others: Any) -> Any:
        return (self._compiled if rows.shape[0] > 1 else self._plain)(rows, *others)
