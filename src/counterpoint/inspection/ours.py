"""A run of ours, or one of its checkpoints: what its metadata, manifest and config say."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from counterpoint.config.load import read_run_config
from counterpoint.config.run_files import CONFIG_FILE
from counterpoint.errors import CheckpointError, ConfigError
from counterpoint.inspection.contents import DAMAGED, Contents, StoredModule, StoredTensor, module_of
from counterpoint.train.state.checkpoint import (
    OpenedCheckpoint,
    checkpoint_folder,
    list_checkpoints,
    open_checkpoint,
    unverified,
)
from counterpoint.train.state.manifest import BlockDigest
from counterpoint.train.state.stored_tensors import StoredTensors
from counterpoint.train.warm.folders import FolderKind, checkpoint_at

_REMEDY = "take another"
MODEL, OPTIMIZER = "model/", "optimizer/"
_PIECE_BYTES = 1 << 24


def open_ours(path: Path, kind: FolderKind, *, verify: bool) -> Contents:
    """What lies in a run, of which the newest checkpoint is opened, or in a checkpoint; raises CheckpointError.

    With `verify` every block is compared with its digest.
    """
    place = checkpoint_at(path)
    opened = open_checkpoint(place.folder, _REMEDY)
    stored = StoredTensors(place.folder, opened.metadata, _REMEDY)
    tensors = {
        key: StoredTensor(key, shape, str(stored.dtypes[key]).removeprefix("torch."))
        for key, shape in stored.shapes.items()
    }
    steps = tuple(list_checkpoints(place.run)) if kind is FolderKind.RUN else ()
    damage = list(_damage(opened, stored))
    if verify:
        damage += _wrong_digests(opened, stored)
    older = _other_damage(place.run, steps[:-1]) if steps else ()
    note = unverified(place.folder)
    sizes = stored.least_sizes()
    return Contents(
        path=path,
        kind=kind,
        folder=place.folder,
        tensors=tensors,
        modules=tuple(_modules(path, place.run, tensors, can_start=not damage)),
        read=stored.read,
        problems=(*damage, *older),
        notes=(*(() if note is None else (note,)), *((DAMAGED,) if damage else ())),
        step=opened.state.data_step,
        steps=steps,
        files=len(sizes),
        size_bytes=sum(sizes.values()),
        others=len(stored.others),
    )


def _damage(opened: OpenedCheckpoint, stored: StoredTensors) -> Iterator[str]:
    for check in (opened.check_sizes, stored.check_files):
        try:
            check()
        except CheckpointError as error:
            yield str(error)
            return


def _other_damage(run: Path, steps: tuple[int, ...]) -> Iterator[str]:
    """What is wrong with the older checkpoints of a run."""
    for step in steps:
        try:
            open_checkpoint(checkpoint_folder(run, step), _REMEDY).check_sizes()
        except CheckpointError as error:
            yield str(error)


def _wrong_digests(opened: OpenedCheckpoint, stored: StoredTensors) -> Iterator[str]:
    """Blocks that are not what the manifest says."""
    if opened.manifest is None:
        yield from stored.wrong_archives()
        return
    for index, info in opened.metadata.storage_data.items():
        digest = BlockDigest(opened.manifest.step, index.fqn, tuple(index.offset or ()))
        try:
            with (stored.folder / info.relative_path).open("rb") as file:
                file.seek(info.offset)
                left = info.length
                while left and (data := file.read(min(left, _PIECE_BYTES))):
                    digest.update(data)
                    left -= len(data)
        except OSError as error:
            yield f"{stored.folder / info.relative_path}: cannot be read ({os.strerror(error.errno or 0)})"
            continue
        if digest.text != opened.manifest.block_digest(info.relative_path, info.offset):
            yield (
                f"{stored.folder / info.relative_path}: the block of {index.fqn} at {tuple(index.offset or ())} is not "
                "what was written"
            )


def _modules(path: Path, run: Path, tensors: Mapping[str, StoredTensor], *, can_start: bool) -> Iterator[StoredModule]:
    sizes = {one.dtype: getattr(torch, one.dtype).itemsize for one in tensors.values()}
    kinds, layouts = _described(run)
    for begin, what in ((MODEL, ""), (OPTIMIZER, " optimizer")):
        names = sorted({key.removeprefix(begin).split(".")[0] for key in tensors if key.startswith(begin)})
        for name in names:
            own = [one for key, one in tensors.items() if key.startswith(f"{begin}{name}.")]
            start = f"init_from: {{path: {path}, module: {name}}}" if begin == MODEL and can_start else None
            kind, layout = kinds.get(name, ""), layouts.get(name) if begin == MODEL else None
            yield module_of(f"{name}{what}", "" if what else kind, own, sizes, layout, start)


def _described(run: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The kinds and layouts of a run's modules; empty without a config that can be read."""
    try:
        config = read_run_config(run / CONFIG_FILE)
    except ConfigError:
        return {}, {}
    kinds, layouts = {}, {}
    for name, module in config.modules.items():
        kinds[name] = module.model.kind
        keys = module.layout.model_dump(exclude_defaults=True)
        layouts[name] = ", ".join(f"{key} {_plain(value)}" for key, value in keys.items()) or "one rank"
    return kinds, layouts


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key} {one}" for key, one in value.items()) + ")"
    return f"{list(value)}" if isinstance(value, tuple | list) else f"{value}"
