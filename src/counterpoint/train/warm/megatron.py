"""An encoder in a checkpoint of Megatron: where it lies, under which names, and its tensors as links name them."""

import re
from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from counterpoint.config.schema import InitFromConfig
from counterpoint.convert.accounts import listed
from counterpoint.convert.composite import CompositeModel
from counterpoint.convert.links import Link, Place
from counterpoint.convert.megatron import ACTIVATION, CLASS_TOKEN, ENCODERS, FILMS, LAYERS, UNSAID
from counterpoint.convert.start import unlinked_names
from counterpoint.errors import CheckpointError, ConfigError
from counterpoint.families import FAMILIES
from counterpoint.kinds.family import ModelSection
from counterpoint.section.problem import Problem, nearest, show
from counterpoint.train.warm.iterations import ForeignCheckpoint, open_foreign

_EXTRA_STATE = "_extra_state"
"""A component of the names under which Transformer Engine keeps what is no weight, often as pickles."""
_OPTIMIZER = "optimizer"
_NUMBERS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_STACKED = re.compile(re.escape(LAYERS) + r"(?!\d+\.)(.+)")


@final
class EncoderTensors:
    """The tensors of an encoder by the names that they have below its prefix; those of stacked layers one by one.

    `unreadable` are names of values that are no tensors, and `left_out` names that `skip` matches.
    """

    def __init__(self, checkpoint: ForeignCheckpoint, prefix: str, skip: Collection[str] = ()) -> None:
        self.path, self.prefix, self.note = checkpoint.folder, prefix, checkpoint.note
        self._tensors = checkpoint.tensors
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._source: dict[str, tuple[str, int | None]] = {}
        self.unreadable: set[str] = set()
        self.left_out: set[str] = set()
        self.used: set[str] = set()
        """Patterns of `skip` that match a name."""
        for key in sorted(checkpoint.tensors.shapes.keys() | checkpoint.tensors.others):
            name = key.removeprefix(prefix)
            if not key.startswith(prefix) or _is_extra(key):
                continue
            stacked = _STACKED.fullmatch(name)
            shape = checkpoint.tensors.shapes.get(key)
            if shape is None:
                self._adopt(skip, key, name, None, None)
            elif stacked is None:
                self._adopt(skip, key, name, shape, None)
            else:
                for layer in range(shape[0]):
                    self._adopt(skip, key, f"{LAYERS}{layer}.{stacked[1]}", shape[1:], layer)

    def read(self, name: str, place: Place | None) -> Tensor:
        """A piece of a tensor, or all of it, in the dtype that it is stored in."""
        key, layer = self._source[name]
        if layer is None:
            return self._tensors.read(key, place)
        return self._tensors.read(key, (slice(layer, layer + 1), *(place or (slice(None),) * len(self.shapes[name]))))[
            0
        ]

    def demand_numbers(self, names: Iterable[str]) -> None:
        """Raise CheckpointError if one of these tensors holds no plain numbers."""
        for name in names:
            dtype = self._tensors.dtypes[self._source[name][0]]
            if dtype not in _NUMBERS:
                known = ", ".join(str(one).removeprefix("torch.") for one in _NUMBERS)
                raise CheckpointError(
                    f"{self.path}: {self.prefix}{name} is of type {str(dtype).removeprefix('torch.')}, expected one of "
                    f"{known}; save it without quantization"
                )

    def _adopt(
        self, skip: Collection[str], key: str, name: str, shape: tuple[int, ...] | None, layer: int | None
    ) -> None:
        fitting = {pattern for pattern in skip if any(fnmatchcase(one, pattern) for one in (name, key))}
        self.used |= fitting
        if fitting:
            self.left_out.add(name)
        elif shape is None:
            self.unreadable.add(name)
        else:
            self.shapes[name], self._source[name] = shape, (key, layer)


def open_encoder(where: str, init: InitFromConfig, model: ModelSection) -> tuple[EncoderTensors, CompositeModel]:
    """The encoder that `init_from` of a module names, and what its shapes say that it is.

    Raises CheckpointError or ConfigError.
    """
    if init.module is not None:
        got, expected = f"{show(init.module)} with a checkpoint of another program", "null"
        raise ConfigError(str(Problem(f"{where}.module", got, expected, "leave it out, and name its prefix")))
    if model.kind not in ENCODERS:
        known = " or ".join(FAMILIES[kind].called for kind in ENCODERS)
        raise CheckpointError(
            f"{where}: {init.path} is a torch.distributed.checkpoint of another program, from which {known} is read, "
            f"got it for {FAMILIES[model.kind].called}; choose another"
        )
    checkpoint = open_foreign(Path(init.path), f"choose another in {where}.path")
    prefix = _prefix(where, init, checkpoint)
    tensors = EncoderTensors(checkpoint, prefix, init.skip)
    for number, pattern in enumerate(init.skip):
        if pattern not in tensors.used:
            alike = nearest(pattern, tensors.shapes) or next(iter(tensors.shapes), CLASS_TOKEN)
            expected = f"a pattern that fits a tensor below {show(prefix)}, like {show(alike)}"
            raise ConfigError(str(Problem(f"{where}.skip.{number}", show(pattern), expected, "correct or remove it")))
    return tensors, ENCODERS[model.kind](f"{where}: {checkpoint.folder}", tensors.shapes, model)


def prefixes_in(keys: Iterable[str]) -> list[str]:
    """The prefixes of names under which encoders lie in a checkpoint; copies that an optimizer keeps are none."""
    held = set(keys)
    return sorted(
        prefix
        for prefix in (key.removesuffix(CLASS_TOKEN) for key in held if key.endswith(CLASS_TOKEN))
        if (not prefix or prefix.endswith("."))
        and _OPTIMIZER not in prefix.split(".")
        and any(key.startswith(f"{prefix}{LAYERS}") for key in held)
    )


def _prefix(where: str, init: InitFromConfig, checkpoint: ForeignCheckpoint) -> str:
    """The prefix that is given, or the only one that there is."""
    keys = checkpoint.tensors.shapes
    found = prefixes_in(keys)
    shown = ", ".join(one or '""' for one in found)
    if init.prefix is not None:
        prefix = init.prefix if not init.prefix or init.prefix.endswith(".") else f"{init.prefix}."
        if any(key.startswith(f"{prefix}{LAYERS}") or key == f"{prefix}{CLASS_TOKEN}" for key in keys):
            return prefix
        got, there = show(init.prefix), f"; there {'is' if len(found) == 1 else 'are'} {shown}" if found else ""
        expected = f"one under which {checkpoint.folder} has an encoder with a {CLASS_TOKEN}{there}"
        remedy = "correct it" if found else "choose another path"
        raise ConfigError(str(Problem(f"{where}.prefix", got, expected, remedy)))
    if not found:
        begun = sorted({key.split(".")[0] for key in keys})
        raise CheckpointError(
            f"{where}: {checkpoint.folder} has no {CLASS_TOKEN} beside {LAYERS}, expected an encoder of pictures of "
            f"Megatron; its {len(keys)} tensors begin with {listed(begun)}; choose another"
        )
    if len(found) > 1:
        got = f"nothing, with {len(found)} encoders in {checkpoint.folder}"
        raise ConfigError(str(Problem(f"{where}.prefix", got, f"one of {shown}", "name it")))
    return found[0]


def demand_all(
    owner: str, tensors: EncoderTensors, whole: CompositeModel, links: Iterable[Link], fresh: Collection[str]
) -> None:
    """Raise CheckpointError unless the links of what is not fresh and the tensors are about the same names.

    `fresh` are the names, of either side, that are reinitialised or passed over.
    """
    wanted = {name for link in links if not set(link.ours) <= set(fresh) for name in link.theirs}
    missing = wanted - tensors.shapes.keys()
    unknown = (unlinked_names(whole, tensors.shapes) | tensors.unreadable) - set(fresh)
    if not (missing or unknown):
        return
    lists = [f"lacks {listed(missing)}"] * bool(missing) + [f"has the unknown {listed(unknown)}"] * bool(unknown)
    remedies = ["what begins anew in init_from.fresh"] * bool(missing)
    remedies += ["what is not to be read in init_from.skip"] * bool(unknown)
    below = f" below {tensors.prefix}" if tensors.prefix else ""
    raise CheckpointError(f"{owner} {' and '.join(lists)}{below}: choose another, or name {' and '.join(remedies)}.")


def load_lines(module: str, tensors: EncoderTensors, section: ModelSection, loaded: Collection[str]) -> list[str]:
    """What is said of a load: how much is read from where, and what no file says."""
    whole = len(tensors.shapes) + len(tensors.left_out)
    below = f", below {tensors.prefix}" if tensors.prefix else ""
    note = f" ({tensors.note})" if tensors.note is not None else ""
    lines = [f"{module}: {len(loaded)} of {whole} tensors from {tensors.path}{below}{note}"]
    if FILMS in tensors.shapes:
        lines.append(f"{module}: {FILMS} is left out: pictures do not use it")
    if tensors.left_out:
        lines.append(f"{module}: init_from.skip leaves out {listed(tensors.left_out)}")
    keys = section.model_dump(include=set(UNSAID))
    said = ", ".join(f"{key} {keys[key]}" for key in UNSAID)
    lines.append(
        f"{module}: the checkpoint does not say {said}, how pixels are normalised and the order of values in a patch; "
        "these are as this config has them"
    )
    if keys["activation"] != ACTIVATION:
        lines.append(
            f"warning: {module}: activation is {keys['activation']}, but Megatron computes {ACTIVATION} in such an "
            f"encoder; set modules.{module}.model.activation={ACTIVATION} unless this one was trained otherwise"
        )
    return lines


def _is_extra(key: str) -> bool:
    return _EXTRA_STATE in re.split(r"[./]", key)
