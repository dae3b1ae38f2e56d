"""What a folder holds: which tensors are made of ours, by which links, and which the base folder has."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import torch

from counterpoint.convert.accounts import refuse
from counterpoint.convert.composite import CompositeModel, Stored, composite_of
from counterpoint.convert.differences import differences, free_keys
from counterpoint.convert.folder import CONFIG_NAME
from counterpoint.convert.links import Link, their_tensors
from counterpoint.convert.modules import is_added, kept_tensors
from counterpoint.convert.start import linked_names
from counterpoint.errors import CheckpointError
from counterpoint.families import FAMILIES
from counterpoint.families.parts import parts_of
from counterpoint.hub.base import BaseFolder, as_lying
from counterpoint.hub.config_json import with_both_spellings, with_vocabulary
from counterpoint.hub.plan import FLOATS, Tensor, sharded
from counterpoint.kinds.family import Model
from counterpoint.models.chain import build_chain
from counterpoint.section.problem import show

SHARD_BYTES = 5 * 10**9
"""Most bytes of a file where no base divides the tensors, as transformers does."""

Shapes = Mapping[str, tuple[int, ...]]


@final
@dataclass(frozen=True, slots=True)
class Linked:
    """A tensor of the folder that a link makes of a module's; `name` is the one in the link."""

    module: str
    link: Link
    name: str


@final
@dataclass(frozen=True)
class Contents:
    """All of a folder before it is planned.

    `files` are the tensors of each file; `linked` says for those that are written what they are made of, `in_base` the
    name that a tensor of the folder has in the base, and `spelled` the name there of one that links know. `left_out`
    are parameters of ours that no folder of this kind has.
    """

    files: Mapping[str, list[Tensor]]
    linked: Mapping[str, Linked]
    config: Mapping[str, Any]
    base: Path | None = None
    in_base: Mapping[str, str] = field(default_factory=dict)
    spelled: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    copied: Mapping[str, Path] = field(default_factory=dict)
    is_indexed: bool = False
    left_out: tuple[str, ...] = ()


@final
@dataclass(frozen=True)
class Outline:
    """What the folder is to be like: the model that its config.json describes, and the tensors that a base lends.

    `names` are those of the base's tensors that belong to the folder: their names in the folder, and in the base.
    `part` is the model where it is a part of the one that the base describes; `copied` are files, by name.
    """

    config: Mapping[str, Any]
    base: BaseFolder | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    part: CompositeModel | None = None
    copied: Mapping[str, Path] = field(default_factory=dict)

    @classmethod
    def of(cls, base: BaseFolder) -> "Outline":
        """The whole of a base folder."""
        return cls(base.config, base, {name: name for name in base.lying}, copied=base.copied)

    def model(self, config: Mapping[str, Any]) -> CompositeModel:
        """The modules that the folder with this config.json holds; raises CheckpointError."""
        if self.part is not None:
            return self.part
        whole = composite_of(config, self.where)
        return whole if self.base is None else self.base.as_written(whole)

    @property
    def where(self) -> str:
        """How messages call the described model."""
        return "the folder" if self.base is None else str(self.base.path / CONFIG_NAME)


def contents_of(outline: Outline, models: Mapping[str, Model], dtype: str | None, *, may_leave_out: bool) -> Contents:
    """What a folder like this holds of these modules; `dtype` (safetensors' word) is that of the outline's if None.

    Raises CheckpointError for a module, key or parameter for which the folder has no place; with `may_leave_out` such
    parameters are left out.
    """
    whole, config = _described(outline, models)
    matches = _matches(outline, whole, models)
    linked: dict[str, Linked] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    left_out: list[str] = []
    for module, stored in matches.items():
        ours = meta_tensors(models[module])
        left_out += _without_place(module, stored, ours, may_leave_out=may_leave_out)
        for name, tensor in their_tensors(stored.links, ours).items():
            shapes[name] = tuple(tensor.shape)
        linked |= {name: Linked(module, link, name) for link in stored.links for name in link.theirs}
        for copy, original in stored.copies:
            # A head that is stored alone is linked itself.
            if copy not in linked:
                linked[copy], shapes[copy] = linked[original], shapes[original]
    _check_shapes(outline, whole, shapes)
    names = _target_names(outline, whole, linked, {copy for s in matches.values() for copy, _original in s.copies})
    usual = _usual_dtype(outline)
    tensors: dict[str, Tensor] = {}
    for target, known in names.items():
        lying = (
            None if outline.base is None or target not in outline.names else outline.base.lying[outline.names[target]]
        )
        found = usual if lying is None else lying.dtype
        kind = dtype if dtype is not None and found in FLOATS else found
        shape = shapes[known] if known in linked else lying.shape if lying is not None else ()
        tensors[target] = Tensor(target, kind, shape, "written" if known in linked else "carried")
    return Contents(
        files=_files(outline, tensors),
        linked={target: linked[known] for target, known in names.items() if known in linked},
        config=with_both_spellings(config, dtype or _usual_dtype(outline), changes_dtype=dtype is not None),
        base=None if outline.base is None else outline.base.path,
        in_base=dict(outline.names),
        spelled={known: outline.names[target] for target, known in names.items() if target in outline.names},
        metadata={} if outline.base is None else outline.base.metadata,
        copied=outline.copied,
        is_indexed=outline.base is not None and (outline.base.path / "model.safetensors.index.json").is_file(),
        left_out=tuple(left_out),
    )


def index_of(contents: Contents, outline: Outline, models: Mapping[str, Model]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what the folder must hold, found without what `contents` chose: for the proof.

    They are the base's own names, and of the model that the new config.json describes those that the base lacks.
    """
    whole = composite_of(contents.config, outline.where)
    if outline.base is not None and outline.part is None:
        whole = outline.base.as_written(whole)
    elif outline.part is not None:
        # The part's config says itself whether its head is tied.
        whole = as_lying(whole, {whole.spell(target) for target in outline.names}, lambda _head, _words: True)
    base = {} if outline.base is None else {t: outline.base.lying[n].shape for t, n in outline.names.items()}
    spelled = {whole.spell(target) for target in base}
    found = dict(base)
    for module in models:
        stored = _stored_like(whole, models[module])
        if stored is None:
            continue
        described = {name: tuple(t.shape) for name, t in their_tensors(stored.links, kept_tensors(stored)).items()}
        for target in base:
            if whole.spell(target) in described:
                found[target] = described[whole.spell(target)]
        for name in described.keys() - spelled:
            found[_spelled_alike(name, list(base), whole.spell)] = described[name]
    return found


def meta_tensors(model: Model) -> dict[str, torch.Tensor]:
    """All parameters and buffers of a model, without values."""
    with torch.device("meta"):
        return dict(build_chain(parts_of(model)).state_dict())


def _described(outline: Outline, models: Mapping[str, Model]) -> tuple[CompositeModel, Mapping[str, Any]]:
    """The model of the outline, whose vocabulary is ours."""
    whole, config = outline.model(outline.config), outline.config
    for model in models.values():
        stored = _stored_like(whole, model)
        if stored is not None and stored.model.ends.vocab != model.ends.vocab:
            config = with_vocabulary(config, model.ends.vocab)
            whole = outline.model(config)
    return whole, config


def _stored_like(whole: CompositeModel, model: Model) -> Stored | None:
    return next((one for one in whole.modules.values() if one.model.section.kind == model.section.kind), None)


def _matches(outline: Outline, whole: CompositeModel, models: Mapping[str, Model]) -> dict[str, Stored]:
    """The part of the folder's model that each module is; raises CheckpointError."""
    found: dict[str, Stored] = {}
    for module, model in models.items():
        stored = _stored_like(whole, model)
        called = FAMILIES[model.section.kind].called
        if stored is None or stored in found.values():
            what = "holds none" if stored is None else "holds only one"
            raise CheckpointError(
                f"modules.{module}: {outline.where} {what} of its kind, {called}, expected a place for each module; "
                "name a folder that has one with --base, or export modules one by one with --module"
            )
        names = [name for name in meta_tensors(model) if not is_added(name, stored)]
        for key, got, expected in differences(model, stored.model, free_keys(names, linked_names(stored))):
            raise CheckpointError(
                f"modules.{module}.model.{key}: got {show(got)}, expected {show(expected)}, as {outline.where} says; "
                "name a folder of the same model with --base"
            )
        found[module] = stored
    return found


def _without_place(
    module: str, stored: Stored, ours: Mapping[str, torch.Tensor], *, may_leave_out: bool
) -> tuple[str, ...]:
    """Names of our parameters that no link has; raises CheckpointError unless they may be left out."""
    # What is filled in where a folder lacks it is read from nothing, and so would be written nowhere.
    rest = sorted(ours.keys() - {name for link in stored.links if link.theirs for name in link.ours})
    if not may_leave_out:
        remedy = f"name a folder that has them with --base, or export without them with --module {module}"
        refuse(f"modules.{module}: the folder", "has no place for", set(rest), remedy)
    refuse(f"modules.{module}: the model of the folder", "needs", set(linked_names(stored) - ours.keys()))
    return tuple(f"{module}.{name}" for name in rest)


def _check_shapes(outline: Outline, whole: CompositeModel, shapes: Shapes) -> None:
    for stored in whole.modules.values():
        for name, tensor in their_tensors(stored.links, kept_tensors(stored)).items():
            if name in shapes and shapes[name] != tuple(tensor.shape):
                raise CheckpointError(
                    f"{name}: has the shape {shapes[name]}, expected {tuple(tensor.shape)}, as {outline.where} says; "
                    "name a folder of the same model with --base"
                )


def _target_names(
    outline: Outline, whole: CompositeModel, linked: Collection[str], copies: Collection[str]
) -> dict[str, str]:
    """The names in the folder and in links: those that the base has as it spells them, then those that it lacks."""
    names = {target: whole.spell(target) for target in outline.names}
    lacking = [name for name in linked if name not in set(names.values()) and name not in copies]
    return names | {_spelled_alike(name, list(outline.names), whole.spell): name for name in lacking}


def _spelled_alike(name: str, known: Iterable[str], spell: Callable[[str], str]) -> str:
    """How a folder spells a tensor that it lacks: as it spells the one whose name begins most alike."""
    best, spelled = 0, name
    for other in known:
        theirs = spell(other)
        same = _common(theirs, name)
        ending = _common(theirs[::-1], other[::-1])
        before = len(theirs) - ending
        if same > best and same >= before:
            candidate = other[: len(other) - ending] + name[before:]
            if spell(candidate) == name:
                best, spelled = same, candidate
    return spelled


def _common(one: str, other: str) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _usual_dtype(outline: Outline) -> str:
    """The type that most numbers of the base have; bfloat16 without one."""
    counts: Counter[str] = Counter()
    for name in outline.names.values():
        lying = outline.base.lying[name] if outline.base is not None else None
        if lying is not None and lying.dtype in FLOATS:
            counts[lying.dtype] += 1
    return counts.most_common(1)[0][0] if counts else "BF16"


def _files(outline: Outline, tensors: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
    """The files of the base, where all of it is in the folder, else files of 5 GB."""
    if outline.base is None or set(outline.names.values()) != outline.base.lying.keys():
        return sharded(tensors.values(), SHARD_BYTES)
    targets = {real: target for target, real in outline.names.items()}
    files = {file: [tensors[targets[name]] for name in names] for file, names in outline.base.files.items()}
    placed = {tensor.name for file in files.values() for tensor in file}
    files[list(files)[-1]] += [tensor for name, tensor in tensors.items() if name not in placed]
    return files
