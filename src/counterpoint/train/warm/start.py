"""Warm starts: the values that a module begins with, from a Hugging Face folder, a run or a checkpoint of Megatron.

Every rank reads its own blocks and no rank waits for another. What can be wrong is found from headers, on every
process before it joins the others.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Protocol, final

import torch

from counterpoint.config.schema import InitFromConfig
from counterpoint.convert.composite import VISION, CompositeModel, Stored
from counterpoint.convert.differences import differences, free_keys
from counterpoint.convert.folder import CONFIG_NAME, ModelFolder
from counterpoint.convert.found import model_in
from counterpoint.convert.links import Link, Place
from counterpoint.convert.megatron import FILMS
from counterpoint.convert.modules import is_added
from counterpoint.convert.start import Shapes, linked_names, links_to_start, unread_names
from counterpoint.errors import CheckpointError, ConfigError
from counterpoint.families import FAMILIES
from counterpoint.families.parts import parts_of
from counterpoint.kinds.family import Model
from counterpoint.models.chain import build_chain
from counterpoint.parallelize.blocks import Block
from counterpoint.section.problem import Problem, nearest, show
from counterpoint.train.parameters import LocalBuffer, LocalParameter
from counterpoint.train.state.checkpoint import OpenedCheckpoint, open_checkpoint, read_blocks
from counterpoint.train.state.stored_block import StoredBlock
from counterpoint.train.warm.folders import FolderKind, checkpoint_at, demand_kind
from counterpoint.train.warm.megatron import demand_all, load_lines, open_encoder
from counterpoint.train.warm.same_model import first_other_key


class Values(Protocol):
    """Where values of one module lie; what it has and lacks has been checked."""

    @property
    def lines(self) -> tuple[str, ...]:
        """What is to be said of the load."""

    @property
    def films(self) -> str | None:
        """The patches of films that the values have and the module has no place for, by name."""

    def fill(self, blocks: Mapping[str, tuple[Block, torch.Tensor]]) -> None:
        """Write into local tensors, by their parameter's name, the values of their blocks."""


@final
@dataclass(frozen=True, slots=True)
class WarmStart:
    """A module that begins with values of elsewhere."""

    module: str
    model: Model
    init: InitFromConfig

    @property
    def where(self) -> str:
        """The key of the config that says so."""
        return f"modules.{self.module}.init_from"

    def open(self) -> tuple[Values, frozenset[str]]:
        """The values that the module begins with, and the names of what begins anew.

        Raises CheckpointError or ConfigError unless they are all values of the module and no others.
        """
        with torch.device("meta"):
            chain = build_chain(parts_of(self.model))
        shapes = {name: tuple(tensor.shape) for name, tensor in chain.state_dict().items()}
        opened = _OPEN[demand_kind(self.where, Path(self.init.path))]
        return opened(self, shapes), frozenset(name for name in shapes if _is_fresh(self.init, name))


def warm_start(starts: Iterable[WarmStart], held: Iterable[LocalParameter | LocalBuffer]) -> None:
    """Fill this rank's part of every module that starts warm, but for what begins anew."""
    held = tuple(held)
    for start in starts:
        values, fresh = start.open()
        mine = [one for one in held if one.module == start.module and one.block.numel and one.block.name not in fresh]
        values.fill({one.block.name: (one.block, one.value) for one in mine})


def _is_fresh(init: InitFromConfig, name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in init.fresh)


def _check_fresh(where: str, init: InitFromConfig, ours: Collection[str], stored: Collection[str]) -> None:
    """Raise ConfigError unless each pattern of `fresh` fits a name of either side, and one of ours fits none."""
    for number, pattern in enumerate(init.fresh):
        if not any(fnmatchcase(name, pattern) for name in (*ours, *stored)):
            alike = nearest(pattern, ours) or next(iter(ours))
            expected = f"a pattern that fits a parameter of the module or of what it is loaded from, like {show(alike)}"
            raise ConfigError(str(Problem(f"{where}.fresh.{number}", show(pattern), expected, "correct or remove it")))
    if all(_is_fresh(init, name) for name in ours):
        remedy = "leave init_from out"
        raise ConfigError(str(Problem(f"{where}.fresh", "all parameters", "some that are loaded", remedy)))


class _Folder(Protocol):
    """Tensors by name, of which any piece can be read alone."""

    def read(self, name: str, place: Place | None) -> torch.Tensor:
        """A piece of a tensor, or all of it, in the dtype that it is stored in."""


@final
@dataclass(frozen=True)
class _ModelValues:
    """Values of a folder that links lead to, whose tensors have names in links and those in `name_of` there."""

    folder: _Folder
    links: tuple[Link, ...]
    name_of: Mapping[str, str]
    lines: tuple[str, ...] = ()
    films: str | None = None

    def fill(self, blocks: Mapping[str, tuple[Block, torch.Tensor]]) -> None:
        link_of = {name: link for link in self.links for name in link.ours}
        for name, (block, tensor) in blocks.items():
            piece = link_of[name].piece(name, block.global_slices, self._read)
            tensor[block.local_slices].copy_(piece)

    def _read(self, name: str, place: Place | None) -> torch.Tensor:
        return self.folder.read(self.name_of[name], place)


def _hugging_face(start: WarmStart, shapes: Shapes) -> _ModelValues:
    where, init, path = start.where, start.init, Path(start.init.path)
    _refuse_foreign_keys(start, "a Hugging Face folder")
    if init.module is not None:
        got, expected = f"{show(init.module)} with a Hugging Face folder", "null, because its kind of model says it"
        raise ConfigError(str(Problem(f"{where}.module", got, expected, "leave it out")))
    folder = ModelFolder(path)
    whole, name_of = model_in(folder)
    stored = _stored(f"{where}: {path}", whole, start.model)
    _check_fresh(where, init, shapes.keys(), linked_names(stored) | unread_names(whole, folder.shapes))
    _check_model(start, stored, shapes.keys(), path / CONFIG_NAME)
    links = links_to_start(f"{where}: {path}", whole, stored, folder.shapes, shapes, partial(_is_fresh, init))
    folder.demand_numbers(name_of[name] for link in links for name in link.theirs)
    unread = sorted(name for name in unread_names(whole, folder.shapes) if whole.spell(name).endswith(FILMS))
    return _ModelValues(folder, links, name_of, films=next(iter(unread), None))


def _stored(owner: str, whole: CompositeModel, model: Model) -> Stored:
    """The module of a checkpoint that is of the same family; raises CheckpointError."""
    for stored in whole.modules.values():
        if stored.model.section.kind == model.section.kind:
            return stored
    held = (FAMILIES[stored.model.section.kind].called for stored in whole.modules.values())
    raise CheckpointError(
        f"{owner} holds {' and '.join(held)}, got it for {FAMILIES[model.section.kind].called}; choose another"
    )


def _megatron(start: WarmStart, shapes: Shapes) -> _ModelValues:
    """Values of an encoder in a checkpoint of Megatron."""
    init, section = start.init, start.model.section
    tensors, whole = open_encoder(start.where, init, section)
    owner, stored = f"{start.where}: {tensors.path}", whole.modules[VISION]
    theirs = tensors.shapes.keys() | tensors.unreadable
    _check_fresh(start.where, init, shapes.keys(), linked_names(stored) | theirs)
    fresh = {name for name in (*shapes, *linked_names(stored), *theirs) if _is_fresh(init, name)}
    demand_all(owner, tensors, whole, stored.links, fresh)
    _check_model(start, stored, shapes.keys(), tensors.path)
    links = links_to_start(owner, whole, stored, tensors.shapes, shapes, partial(_is_fresh, init))
    names = {name for link in links for name in link.theirs}
    tensors.demand_numbers(names)
    lines = load_lines(start.module, tensors, section, names)
    films = FILMS if FILMS in tensors.shapes or FILMS in tensors.left_out else None
    return _ModelValues(tensors, links, {name: name for name in names}, tuple(lines), films)


def _refuse_foreign_keys(start: WarmStart, kind: str) -> None:
    """Raise ConfigError for keys that only mean something with a checkpoint of another program."""
    for key, value, default in (("prefix", start.init.prefix, None), ("skip", start.init.skip, ())):
        if value != default:
            got, remedy = f"{show(value)} with {kind}", "leave it out" + ", and use fresh" * (key == "skip")
            raise ConfigError(str(Problem(f"{start.where}.{key}", got, show(default), remedy)))


def _check_model(start: WarmStart, stored: Stored, names: Collection[str], source: Path) -> None:
    """Raise ConfigError for the keys in which a module differs from what is stored of it."""
    problems = list(_model_problems(start, stored, names, source))
    if problems:
        raise ConfigError("\n".join(map(str, problems)))


def _model_problems(start: WarmStart, stored: Stored, names: Collection[str], source: Path) -> Iterator[Problem]:
    """The keys in which a module differs from what is stored of it, as `source` says."""
    model, says = f"modules.{start.module}.model", f"as {source} says"
    loaded = [name for name in names if not _is_fresh(start.init, name) and not is_added(name, stored)]
    free = free_keys(loaded, [name for name in linked_names(stored) if not _is_fresh(start.init, name)])
    for key, got, expected in differences(start.model, stored.model, free):
        if key == "tied" and stored.unequal is not None:
            head, words = stored.unequal
            why = f"because {start.init.path} holds a {head} that differs from {words}, whatever its {CONFIG_NAME} says"
            yield Problem(
                f"{model}.{key}", show(got), f"{show(expected)}, {why}", f"set {model}.{key}={show(expected)}"
            )
        elif key in _KEYLESS:
            yield Problem(model, f"{key} {show(got)}", f"{show(expected)}, {says}", _KEYLESS[key])
        else:
            remedy = f"set {model}.{key}={show(expected)}, or choose a model that fits"
            yield Problem(f"{model}.{key}", show(got), f"{show(expected)}, {says}", remedy)


_KEYLESS = {
    "taps": "let depths of an edge begin at these layers, or name taps.* in init_from.fresh",
    "out": "give what reads its rows this width, or name projector.* in init_from.fresh",
}
"""What helps where no key of the model does."""


@final
@dataclass(frozen=True)
class _RunValues:
    """Values of a module of a run, in one of its checkpoints."""

    opened: OpenedCheckpoint
    prefix: str
    lines: tuple[str, ...] = ()
    films: None = None

    def fill(self, blocks: Mapping[str, tuple[Block, torch.Tensor]]) -> None:
        tensors = {f"{self.prefix}{name}": StoredBlock(block, tensor) for name, (block, tensor) in blocks.items()}
        read_blocks(self.opened, tensors, tree=None)


def _of_run(start: WarmStart, shapes: Shapes) -> _RunValues:
    where, init = start.where, start.init
    _refuse_foreign_keys(start, "a run")
    place, theirs = checkpoint_at(Path(init.path)), init.module or start.module
    folder = place.folder
    opened, prefix = open_checkpoint(folder, f"choose another in {where}.path"), f"model/{theirs}."
    opened.check_sizes()
    stored = opened.shapes
    found = {key.removeprefix(prefix): shape for key, shape in stored.items() if key.startswith(prefix)}
    if not found:
        known = sorted({key.split("/")[1].split(".")[0] for key in stored if key.startswith("model/")})
        raise CheckpointError(
            f"{where}: {folder} has no module {theirs!r}, expected one of {', '.join(known)}; name it in {where}.module"
        )
    _check_fresh(where, init, shapes.keys(), found.keys())
    needed, loaded = ({n: s for n, s in names.items() if not _is_fresh(init, n)} for names in (shapes, found))
    free = free_keys(needed, loaded)
    key = first_other_key(place.run, theirs, start.model.section, free)
    if key is not None:
        raise CheckpointError(f"{where}: {folder} is of another model: {key}; restore it or choose another checkpoint")
    _demand_names(f"{where}: {folder}", needed, loaded)
    return _RunValues(opened, prefix)


def _demand_names(owner: str, needed: Shapes, found: Shapes) -> None:
    missing, unknown = sorted(needed.keys() - found.keys()), sorted(found.keys() - needed.keys())
    if missing:
        raise CheckpointError(
            f"{owner} lacks {missing[0]}{_more(missing)}, expected all parameters of the module; choose another, or "
            "name what begins anew in init_from.fresh"
        )
    if unknown:
        raise CheckpointError(
            f"{owner} has the unknown {unknown[0]}{_more(unknown)}, expected parameters of the module only; give the "
            "module the model of that run, or name what is not to be loaded in init_from.fresh"
        )
    for name, shape in needed.items():
        if found[name] != shape:
            raise CheckpointError(
                f"{owner} has {name} of shape {found[name]}, expected {shape}; give the module the model of that run, "
                "or name it in init_from.fresh"
            )


def _more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


_OPEN: Mapping[FolderKind, Callable[[WarmStart, Shapes], Values]] = {
    FolderKind.HUB: _hugging_face,
    FolderKind.RUN: _of_run,
    FolderKind.CHECKPOINT: _of_run,
    FolderKind.FOREIGN: _megatron,
}
"""How values are found in a folder of each kind."""
