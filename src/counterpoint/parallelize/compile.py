"""Compilation: what a layer does between exchanges and hand-written kernels becomes a few fused kernels.

Only functions of rows are compiled, so hooks of FSDP2, recomputation and attention's kernels stay outside. All layers
of a kind share one compiled function: one variant for the first sizes, and one for any number of rows if others follow.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any, final

import torch
from torch import Tensor
from torch._inductor.runtime.cache_dir_utils import default_cache_dir

from counterpoint.models.chain import Chain
from counterpoint.models.scored import ScoredRows
from counterpoint.models.seams import Fusible

_VARIANTS = 64
"""Most variants of one function over all modules that share it: sizes, dtypes, with and without gradients."""


CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
"""The environment variable with the folder in which torch keeps what it compiled."""


def apply_compile(chain: Chain) -> None:
    """Compile the regions of a chain, in place; compilation happens at the first rows."""
    keep_compiled(os.environ)
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _VARIANTS)
    narrowed = chain.parts()[chain.num_whole :] if isinstance(chain.narrow, ScoredRows) else []
    apart = {inner for _name, part in narrowed for inner in part.modules()}
    for module in chain.modules():
        for region in module.regions if isinstance(module, Fusible) else ():
            function, kind = getattr(module, region), type(module).__name__
            if isinstance(function, MethodType):
                function = _of_kind(function, f"{kind}_of_scored_rows" if module in apart else kind)
            setattr(module, region, _Compiled(function, kind))


def keep_compiled(environment: MutableMapping[str, str]) -> None:
    """Let torch keep what it compiles in the user's cache folder, unless the environment names another or a right is
    missing: torch's own choice is below `/tmp`, which machines empty and do not share.

    Many ranks and machines may use the folder at once: files are named by digests of what they were made from, and
    appear under their names once they are whole.
    """
    # Importing the compiler already sets the variable to this.
    by_torch = default_cache_dir()
    if environment.get(CACHE_VARIABLE, by_torch) != by_torch:
        return
    try:
        folder = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "counterpoint" / "compiled"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return
    if os.access(folder, os.W_OK | os.X_OK):
        environment[CACHE_VARIABLE] = str(folder)


def compiled_kinds(chain: Chain) -> frozenset[str]:
    """The names of the classes in a chain of which `apply_compile` compiles functions."""
    values = (value for module in chain.modules() for value in vars(module).values())
    return frozenset(value.kind for value in values if isinstance(value, _Compiled))


def compilations() -> int:
    """Number of functions that this process has compiled so far, each variant for other sizes or dtypes included."""
    # A process that compiles nothing need not import the compiler to know it.
    compiler = sys.modules.get("torch._dynamo.utils")
    return 0 if compiler is None else int(compiler.counters["frames"]["ok"])


@final
class CompileClock:
    """Adds up the `seconds` in which this process compiles; torch's kernels are made by processes of its own meanwhile,
    for which it waits."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth, self._began = 0, 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count what is compiled meanwhile."""
        from torch._dynamo.callback import callback_handler

        callback_handler.register_start_callback(self._begin)
        callback_handler.register_end_callback(self._end)
        try:
            yield
        finally:
            callback_handler.remove_start_callback(self._begin)
            callback_handler.remove_end_callback(self._end)

    def _begin(self, _what: object) -> None:
        if not self._depth:
            self._began = time.perf_counter()
        self._depth += 1

    def _end(self, _what: object) -> None:
        self._depth -= 1
        if not self._depth:
            self.seconds += time.perf_counter() - self._began


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
    """A function of a class `kind` whose first argument is rows; a compiler would make variants for 0 and 1, which run
    as they are."""

    def __init__(self, function: Callable[..., Any], kind: str) -> None:
        self._plain, self.kind = function, kind
        self._compiled = torch.compile(function)

    def __call__(self, rows: Tensor, *others: Any) -> Any:
        return (self._compiled if rows.shape[0] > 1 else self._plain)(rows, *others)
