"""What was found in a folder: its tensors, of which any piece can be read, its modules, and what is wrong with it."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from counterpoint.convert.composite import CompositeModel
from counterpoint.convert.links import Read
from counterpoint.train.warm.folders import FolderKind

DAMAGED = "init_from takes nothing of it while it is damaged"
"""Why no module can start from a folder whose files are not whole."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor by the name that it has in its folder, as headers describe it."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def elements(self) -> int:
        """Number of its elements."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class StoredModule:
    """Tensors that belong together: a module of ours, or what the names of another program begin with alike.

    `start` is what a config says to start a module from it; None if none can.
    """

    name: str
    kind: str
    tensors: int
    parameters: int
    size_bytes: int
    dtypes: tuple[str, ...]
    layout: str | None = None
    start: str | None = None


@dataclass(frozen=True, kw_only=True)
class Contents:
    """A folder: nothing but headers has been read. `problems` are what is damaged or missing, a sentence each."""

    path: Path
    kind: FolderKind
    folder: Path
    tensors: Mapping[str, StoredTensor]
    modules: tuple[StoredModule, ...]
    read: Read
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    step: int | None = None
    steps: tuple[int, ...] = ()
    files: int = 0
    size_bytes: int = 0
    others: int = 0
    """Number of values that are no tensors."""
    whole: CompositeModel | None = field(default=None, repr=False)
    """The modules as models of ours, where the folder says it."""


def module_of(
    name: str,
    kind: str,
    tensors: Collection[StoredTensor],
    sizes: Mapping[str, int],
    layout: str | None = None,
    start: str | None = None,
) -> StoredModule:
    """The sums over some tensors; `sizes` are bytes of an element by dtype."""
    return StoredModule(
        name,
        kind,
        len(tensors),
        sum(one.elements for one in tensors),
        sum(one.elements * sizes[one.dtype] for one in tensors),
        tuple(sorted({one.dtype for one in tensors})),
        layout,
        start,
    )
