"""Warm starts: the values that a module begins with, from a Hugging Face folder or a checkpoint of a run.

Every rank reads its own blocks and no rank waits for another. What can be wrong is found from headers, on every
process before it joins the others.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol, final

import torch

from counterpoint.config.problem import Problem, nearest, show
from counterpoint.config.schema import Config, InitFromConfig
from counterpoint.convert.differences import differences
from counterpoint.convert.families import family_named
from counterpoint.convert.fields import Fields
from counterpoint.convert.folder import CONFIG_NAME, ModelFolder
from counterpoint.convert.links import Link
from counterpoint.convert.tensors import demand_tensors
from counterpoint.errors import CheckpointError, ConfigError
from counterpoint.models.catalog import model_parts
from counterpoint.models.chain import build_chain
from counterpoint.parallelize.blocks import Block
from counterpoint.plan.plan import Plan
from counterpoint.plan.sizes import DecoderSizes, ModelSizes
from counterpoint.train.checkpoint import (
    STATE_FILE,
    StoredBlock,
    checkpoint_folder,
    list_checkpoints,
    read_blocks,
    stored_shapes,
)
from counterpoint.train.models import first_other_key
from counterpoint.train.parameters import LocalBuffer, LocalParameter
from counterpoint.train.resume import newest_step

Shapes = Mapping[str, tuple[int, ...]]
_SECTIONS = {("projector", "tap_norm"): ("projector.", "taps."), ("mtp",): ("mtp.",)}
"""Keys of a model that are about parameters of these names only."""


class Values(Protocol):
    """Where values of one module lie; what it has and lacks has been checked."""

    def fill(self, blocks: Mapping[str, tuple[Block, torch.Tensor]]) -> None:
        """Write into local tensors, by their parameter's name, the values of their blocks."""


def check_warm_starts(config: Config, plan: Plan) -> None:
    """`check_values` of a run, unless it goes on from a checkpoint of its own and reads nothing else."""
    if newest_step(config) is None:
        check_values(config, plan)


def check_values(config: Config, plan: Plan) -> None:
    """Raise CheckpointError or ConfigError unless every `init_from` gives all values of its module and no others."""
    for module in config.modules:
        _values(config, plan.sizes[module], module)


def warm_start(config: Config, plan: Plan, held: Iterable[LocalParameter | LocalBuffer]) -> None:
    """Fill this rank's part of every module that has `init_from`, but for what begins anew."""
    held = tuple(held)
    for module in config.modules:
        opened = _values(config, plan.sizes[module], module)
        if opened is not None:
            values, fresh = opened
            mine = [one for one in held if one.module == module and one.block.numel and one.block.name not in fresh]
            values.fill({one.block.name: (one.block, one.value) for one in mine})


def _values(config: Config, sizes: ModelSizes, module: str) -> tuple[Values, frozenset[str]] | None:
    """The values that a module begins with, and the names of what begins anew; None without a warm start."""
    init = config.modules[module].init_from
    if init is None:
        return None
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in build_chain(model_parts(sizes)).state_dict().items()}
    where, path = f"modules.{module}.init_from", Path(init.path)
    fresh = _fresh(where, init, shapes)
    if (path / CONFIG_NAME).is_file():
        return _hugging_face(where, path, init, sizes, fresh), fresh
    return _of_run(where, path, config, module, shapes, fresh), fresh


def _fresh(where: str, init: InitFromConfig, shapes: Shapes) -> frozenset[str]:
    """The names that fit a pattern of `fresh`; each pattern must fit one."""
    for number, pattern in enumerate(init.fresh):
        if not any(fnmatchcase(name, pattern) for name in shapes):
            alike = nearest(pattern, shapes) or next(iter(shapes))
            expected = f"a pattern that fits a parameter of the module, like {show(alike)}"
            raise ConfigError(str(Problem(f"{where}.fresh.{number}", show(pattern), expected, "correct or remove it")))
    fresh = frozenset(name for name in shapes if any(fnmatchcase(name, pattern) for pattern in init.fresh))
    if len(fresh) == len(shapes):
        remedy = "leave init_from out"
        raise ConfigError(str(Problem(f"{where}.fresh", "all parameters", "some that are loaded", remedy)))
    return fresh


@final
@dataclass(frozen=True)
class _ModelValues:
    """Values of a Hugging Face folder."""

    folder: ModelFolder
    links: tuple[Link, ...]

    def fill(self, blocks: Mapping[str, tuple[Block, torch.Tensor]]) -> None:
        link_of = {name: link for link in self.links for name in link.ours}
        for name, (block, tensor) in blocks.items():
            piece = link_of[name].piece(name, block.global_slices, self.folder.read)
            tensor[block.local_slices].copy_(piece)


def _hugging_face(
    where: str, path: Path, init: InitFromConfig, sizes: ModelSizes, fresh: Collection[str]
) -> _ModelValues:
    if init.module is not None:
        got = f"{show(init.module)} with a Hugging Face folder"
        raise ConfigError(str(Problem(f"{where}.module", got, "null, because the folder is one model", "leave it out")))
    folder = ModelFolder(path)
    family = Fields(folder.config, str(path / CONFIG_NAME)).text("model_type")
    if not isinstance(sizes, DecoderSizes):
        raise CheckpointError(
            f"{where}: {path} holds a {family}, got it for an encoder, expected a run of counterpoint; choose a run"
        )
    problems = list(_size_problems(where, path, sizes, family_named(family).sizes(Fields(folder.config))))
    if problems:
        raise ConfigError("\n".join(map(str, problems)))
    links = demand_tensors(f"{where}: {path}", folder.shapes, family, sizes, fresh)
    return _ModelValues(folder, tuple(links))


def _size_problems(where: str, path: Path, ours: DecoderSizes, theirs: DecoderSizes) -> Iterator[Problem]:
    model = where.removesuffix("init_from") + "model"
    for key, got, expected in differences(ours, theirs):
        remedy = f"set {model}.{key}={show(expected)}, or choose a model that fits"
        if key == "bias":
            remedy = "choose another model, because no key gives biases to all linears"
        yield Problem(f"{model}.{key}", show(got), f"{show(expected)}, as {path / CONFIG_NAME} says", remedy)


@final
@dataclass(frozen=True)
class _RunValues:
    """Values of a module of a run, in one of its checkpoints."""

    folder: Path
    prefix: str

    def fill(self, blocks: Mapping[str, tuple[Block, torch.Tensor]]) -> None:
        tensors = {f"{self.prefix}{name}": StoredBlock(block, tensor) for name, (block, tensor) in blocks.items()}
        read_blocks(self.folder, tensors, group=None)


def _of_run(where: str, path: Path, config: Config, module: str, shapes: Shapes, fresh: Collection[str]) -> _RunValues:
    init = config.modules[module].init_from
    assert init is not None, "only a module with a warm start is filled"
    folder, theirs = _checkpoint(where, path), init.module or module
    stored, prefix = stored_shapes(folder, f"choose another in {where}.path"), f"model/{theirs}."
    found = {key.removeprefix(prefix): shape for key, shape in stored.items() if key.startswith(prefix)}
    if not found:
        known = sorted({key.split("/")[1].split(".")[0] for key in stored if key.startswith("model/")})
        raise CheckpointError(
            f"{where}: {folder} has no module {theirs!r}, expected one of {', '.join(known)}; name it in {where}.module"
        )
    loaded = shapes.keys() - set(fresh)
    left_out = [
        key
        for keys, prefixes in _SECTIONS.items()
        for key in keys
        if not any(name.startswith(prefixes) for name in loaded)
    ]
    key = first_other_key(folder.parent.parent, theirs, config.modules[module].model, left_out)
    if key is not None:
        raise CheckpointError(f"{where}: {folder} is of another model: {key}; restore it or choose another checkpoint")
    _demand_names(f"{where}: {folder}", {n: s for n, s in shapes.items() if n not in fresh}, found, fresh)
    return _RunValues(folder, prefix)


def _checkpoint(where: str, path: Path) -> Path:
    """The checkpoint that a path means: the newest of a run, or itself."""
    if (path / STATE_FILE).is_file():
        return path
    steps = list_checkpoints(path)
    if not steps:
        raise CheckpointError(
            f"{where}: {path} is no Hugging Face folder with a {CONFIG_NAME}, no run with a checkpoint and no "
            "checkpoint, expected one of these; correct the path"
        )
    return checkpoint_folder(path, steps[-1])


def _demand_names(owner: str, needed: Shapes, found: Shapes, fresh: Collection[str]) -> None:
    missing, unknown = sorted(needed.keys() - found.keys()), sorted(found.keys() - needed.keys() - set(fresh))
    if missing:
        raise CheckpointError(
            f"{owner} lacks {missing[0]}{_more(missing)}, expected all parameters of the module; choose another, or "
            "name what begins anew in init_from.fresh"
        )
    if unknown:
        raise CheckpointError(
            f"{owner} has the unknown {unknown[0]}{_more(unknown)}, expected parameters of the module only; give the "
            "module the model of that run"
        )
    for name, shape in needed.items():
        if found[name] != shape:
            raise CheckpointError(
                f"{owner} has {name} of shape {found[name]}, expected {shape}; give the module the model of that run, "
                "or name it in init_from.fresh"
            )


def _more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""
