"""Compilation: what a layer does between exchanges and hand-written kernels becomes a few fused kernels.

Only functions of rows are compiled, so hooks of FSDP2, recomputation and attention's kernels stay outside. All layers
of a kind share one compiled function: one variant for the first sizes, and one for any number of rows if others follow.
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
"""Most variants of one function over all modules that share it: sizes, dtypes, with and without gradients."""


def apply_compile(chain: Chain) -> None:
    """Compile the regions of a chain, in place; compilation happens at the first rows."""
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
    """A method shared by modules of one kind only: a compiler specialises a function on its first sizes, so modules
    with fewer rows, and classes that inherit the method, get a function of their own."""
    return MethodType(_copied_function(method.__func__, kind), method.__self__)


@cache
def _copied_function(function: FunctionType, kind: str) -> FunctionType:
    """A function of the same code that a compiler treats as a different one."""
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
