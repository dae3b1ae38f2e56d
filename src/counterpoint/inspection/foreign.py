"""A torch.distributed.checkpoint of another program: its tensors, and the encoders that a module can start from."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from counterpoint.errors import CheckpointError
from counterpoint.inspection.contents import DAMAGED, Contents, StoredModule, StoredTensor, module_of
from counterpoint.train.warm.folders import FolderKind
from counterpoint.train.warm.iterations import open_foreign
from counterpoint.train.warm.megatron import prefixes_in


def open_other(path: Path, *, verify: bool) -> Contents:
    """What lies in a checkpoint of another program; raises CheckpointError.

    With `verify` every tensor is compared with the checksums of its archive.
    """
    checkpoint = open_foreign(path, check=False)
    stored = checkpoint.tensors
    tensors = {
        key: StoredTensor(key, shape, str(stored.dtypes[key]).removeprefix("torch."))
        for key, shape in stored.shapes.items()
    }
    problems: list[str] = []
    try:
        stored.check_files()
    except CheckpointError as error:
        problems.append(str(error))
    if verify:
        problems += stored.wrong_archives()
    sizes = stored.least_sizes()
    return Contents(
        path=path,
        kind=FolderKind.FOREIGN,
        folder=checkpoint.folder,
        tensors=tensors,
        modules=tuple(_modules(path, tensors, can_start=not problems)),
        read=stored.read,
        problems=tuple(problems),
        notes=(
            *(() if checkpoint.note is None else (f"{checkpoint.folder.name} is {checkpoint.note}",)),
            *((DAMAGED,) if problems else ()),
        ),
        step=_iteration(checkpoint.folder),
        files=len(sizes),
        size_bytes=sum(sizes.values()),
        others=len(stored.others),
    )


def _iteration(folder: Path) -> int | None:
    number = folder.name.removeprefix("iter_")
    return int(number) if number.isdigit() and number != folder.name else None


def _modules(path: Path, tensors: Mapping[str, StoredTensor], *, can_start: bool) -> Iterator[StoredModule]:
    """Encoders by their prefix, and the rest by the first component of its names."""
    sizes = {one.dtype: getattr(torch, one.dtype).itemsize for one in tensors.values()}
    prefixes = prefixes_in(tensors)
    groups: dict[str, list[StoredTensor]] = {prefix: [] for prefix in prefixes}
    for name, tensor in tensors.items():
        of = next((prefix for prefix in prefixes if name.startswith(prefix)), None)
        groups.setdefault(_first(name) if of is None else of, []).append(tensor)
    for name, own in groups.items():
        is_encoder = name in prefixes
        takes = f"init_from: {{path: {path}, prefix: {name or chr(34) * 2}, fresh: [projector.*]}}"
        start = takes if is_encoder and can_start else None
        yield module_of(name or "(no prefix)", "encoder of images" if is_encoder else "", own, sizes, start=start)


def _first(name: str) -> str:
    """What a name begins with: its first component, and a second below `model`."""
    first, *rest = name.split(".")
    return f"{first}.{rest[0]}." if first == "model" and len(rest) > 1 else f"{first}."
