"""The tensors of two folders under names that both have: their own, or ours where the folders are of other kinds."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from counterpoint.config.load import read_run_config
from counterpoint.config.run_files import CONFIG_FILE
from counterpoint.convert.composite import CompositeModel, Stored
from counterpoint.convert.found import as_found
from counterpoint.convert.links import Link, Place
from counterpoint.convert.megatron import ENCODERS
from counterpoint.convert.modules import kept_tensors
from counterpoint.errors import CheckpointError, ConfigError
from counterpoint.inspection.contents import Contents
from counterpoint.inspection.ours import MODEL
from counterpoint.kinds.family import ModelSection
from counterpoint.train.warm.folders import FolderKind, checkpoint_at
from counterpoint.train.warm.iterations import open_foreign
from counterpoint.train.warm.megatron import EncoderTensors, prefixes_in

_OURS = (FolderKind.RUN, FolderKind.CHECKPOINT)


@dataclass(frozen=True, slots=True)
class NamedTensor:
    """A tensor under a name that may be compared; `read` reads a piece of it. The dtype is None for converted ones."""

    shape: tuple[int, ...]
    dtype: str | None
    read: Callable[[Place], Tensor]


Named = Mapping[str, NamedTensor]


def in_common_names(one: Contents, other: Contents) -> tuple[Named, Named]:
    """The tensors of both folders: as they are called there if both are of a kind, else by names of ours.

    Raises CheckpointError if one of them holds no model of ours.
    """
    if one.kind is other.kind or (one.kind in _OURS and other.kind in _OURS):
        return _own_names(one), _own_names(other)
    run = next((found for found in (one, other) if found.kind in _OURS), None)
    hub = next((found for found in (one, other) if found.whole is not None), None)
    modules = _modules(one if hub is None else hub) if run is None else _modules(run)
    return _our_names(one, modules), _our_names(other, modules)


def _own_names(found: Contents) -> Named:
    return {
        name: NamedTensor(tensor.shape, tensor.dtype, partial(found.read, name))
        for name, tensor in found.tensors.items()
    }


def _modules(found: Contents) -> dict[str, ModelSection]:
    """The models of a folder by name of the module, where it says them."""
    if found.whole is not None:
        return {name: stored.model.section for name, stored in found.whole.modules.items()}
    if found.kind not in _OURS:
        return {}
    try:
        config = read_run_config(checkpoint_at(found.path).run / CONFIG_FILE)
    except ConfigError:
        return {}
    return {name: module.model for name, module in config.modules.items()}


def _our_names(found: Contents, modules: Mapping[str, ModelSection]) -> Named:
    if found.kind in _OURS:
        own = {name: tensor for name, tensor in _own_names(found).items() if name.startswith(MODEL)}
        return {name.removeprefix(MODEL): NamedTensor(one.shape, None, one.read) for name, one in own.items()}
    if found.kind is FolderKind.HUB:
        if found.whole is None:
            raise CheckpointError(f"{found.path}: {'; '.join(found.notes)}; compare it with a Hugging Face folder")
        spelled = {found.whole.spell(name): name for name in found.tensors}
        shapes = {name: found.tensors[there].shape for name, there in spelled.items()}

        def read(name: str, place: Place | None) -> Tensor:
            return found.read(spelled[name], place)

        def are_equal(one: str, other: str) -> bool:
            return torch.equal(read(one, None), read(other, None))

        return _converted(as_found(found.whole, spelled, are_equal), modules, shapes, read)
    return _encoder(found.path, modules)


def _encoder(path: Path, modules: Mapping[str, ModelSection]) -> Named:
    """The encoder of Megatron's in a checkpoint; how many heads it has, the other folder says."""
    checkpoint = open_foreign(path, check=False)
    prefixes = prefixes_in(checkpoint.tensors.shapes)
    section = next((one for one in modules.values() if one.kind in ENCODERS), None)
    if len(prefixes) != 1 or section is None:
        lacks = f"{len(prefixes)} encoders of Megatron's" if section is not None else "no encoder of images beside it"
        raise CheckpointError(
            f"{path}: got {lacks}, expected one that the other folder describes; compare it with one of its own kind"
        )
    tensors = EncoderTensors(checkpoint, prefixes[0])
    whole = ENCODERS[section.kind](str(path), tensors.shapes, section)
    return _converted(whole, modules, tensors.shapes, tensors.read)


def _converted(
    whole: CompositeModel,
    modules: Mapping[str, ModelSection],
    shapes: Mapping[str, tuple[int, ...]],
    read: Callable[[str, Place | None], Tensor],
) -> Named:
    """Our tensors of all links whose sources are there, below the names that the run's modules of the kinds have."""
    found: dict[str, NamedTensor] = {}
    for name, stored in whole.modules.items():
        same = [module for module, section in modules.items() if section.kind == stored.model.section.kind]
        module = same[0] if len(same) == 1 else name
        found |= {f"{module}.{ours}": tensor for ours, tensor in _linked(stored, shapes, read)}
    return found


def _linked(
    stored: Stored, shapes: Mapping[str, tuple[int, ...]], read: Callable[[str, Place | None], Tensor]
) -> Iterator[tuple[str, NamedTensor]]:
    """The tensors of ours whose sources are there and have the shapes that the module says."""
    kept = kept_tensors(stored)
    for link in stored.links:
        expected = zip(link.theirs, link.to_theirs([kept[name] for name in link.ours]), strict=True)
        if all(shapes.get(name) == tuple(tensor.shape) for name, tensor in expected):
            for name in link.ours:
                yield name, NamedTensor(tuple(kept[name].shape), None, partial(_piece, link, name, read))


def _piece(link: Link, name: str, read: Callable[[str, Place | None], Tensor], place: Place) -> Tensor:
    return link.piece(name, place, read)
