"""One module of a base folder as a folder of its own: a tower or a decoder out of a composite model."""

from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from counterpoint.convert.composite import AUDIO, LANGUAGE, VISION, CompositeModel, Stored, as_of_today, composite_of
from counterpoint.convert.defaults import read_defaults
from counterpoint.convert.folder import CONFIG_NAME
from counterpoint.convert.kind import kind_of_config
from counterpoint.convert.radio_args import as_transformers_writes
from counterpoint.errors import CheckpointError
from counterpoint.hub.base import BaseFolder
from counterpoint.hub.contents import Outline
from counterpoint.hub.described import config_of
from counterpoint.kinds.family import Model

_SECTIONS = {VISION: "vision_config", AUDIO: "audio_config", LANGUAGE: "text_config"}
_PROJECTION = "projection_"
"""How keys of a section begin that are about the projector."""

_NEEDED = {"radio": "*input_conditioner.*"}
"""By kind, tensors that no module of ours holds and that change what the model computes."""

_OF_COMPOSITES = "_vl_text"
"""How kinds of text end that no folder holds alone: without items their three positions are one."""

_ABOUT_TEXT = ("max_position_embeddings", "bos_token_id", "eos_token_id", "pad_token_id", "initializer_range")


def part_of(base: BaseFolder, module: str, model: Model, positions: int) -> Outline:
    """The outline of a folder with this module alone, from a base that holds it; all of a base that holds no other.

    Raises CheckpointError if the base has no such module, or does not say what it is by itself.
    """
    whole = base.model
    role = next((role for role, one in whole.modules.items() if one.model.section.kind == model.section.kind), None)
    if role is None or len(whole.modules) == 1:
        return Outline.of(base)
    stored = whole.modules[role]
    config = _config_of(base, role, module, model, positions)
    alone = composite_of(config, f"{base.path}, {_SECTIONS[role]}")
    renamed = _renamed(stored, alone.modules[role])
    links = tuple(link.respelled(renamed.__getitem__) for link in stored.links if set(link.theirs) <= renamed.keys())
    copies = _copies(stored, alone.modules[role])
    part = Stored(stored.model, links, adds_projector=len(links) < len(stored.links), copies=tuple(copies.values()))
    names, prefix = {}, _prefix(renamed)
    for real in base.lying:
        known = whole.spell(real)
        if known in renamed:
            names[renamed[known]] = real
        elif known in copies:
            names[copies[known][0]] = real
        elif prefix and known.startswith(prefix) and _belongs(known.removeprefix(prefix), alone, role):
            names[known.removeprefix(prefix)] = real
    _demand_needed(base, config, names)
    return Outline(config, base, names, CompositeModel({role: part}, alone.unused, alone.spelling), base.copied)


def _config_of(base: BaseFolder, role: str, module: str, model: Model, positions: int) -> Mapping[str, Any]:
    """The config.json of the module alone: the base's section, with what it means to leave keys out there."""
    whole = as_of_today(base.config)
    given = whole.get(_SECTIONS[role])
    stated = read_defaults().sections.get(kind_of_config(whole) or "", {}).get(_SECTIONS[role], {})
    defaults = stated.get("empty" if isinstance(given, Mapping) else "absent", {})
    section = {**defaults, **(given if isinstance(given, Mapping) else {})}
    if role != LANGUAGE:
        if "args" in section:
            section = as_transformers_writes(section, f"{base.path / CONFIG_NAME}, {_SECTIONS[role]}")
        # Files of the hub may repeat the kind of the whole model here, or have a name that means nothing alone.
        named = {"model_type": stated["empty"]["model_type"]}
        return {key: value for key, value in section.items() if not key.startswith(_PROJECTION)} | named
    kind = section.get("model_type")
    if kind is None or kind.endswith(_OF_COMPOSITES):
        about = section if isinstance(given, Mapping) else whole
        described = config_of(module, _of_text_alone(model), positions)
        return {**described, **{key: about[key] for key in _ABOUT_TEXT if about.get(key) is not None}}
    return {**section, "tie_word_embeddings": model.section.tied}


def _demand_needed(base: BaseFolder, config: Mapping[str, Any], names: Mapping[str, str]) -> None:
    """Raise CheckpointError if the base lacks what a module's folder has beside ours, and what its output is of."""
    pattern = _NEEDED.get(config["model_type"])
    if pattern is not None and not any(fnmatchcase(name, pattern) for name in names):
        raise CheckpointError(
            f"{base.path}: has no {pattern}, expected what a {config['model_type']} by itself has; name a folder of "
            "one with --base"
        )


def _of_text_alone(model: Model) -> Model:
    """A decoder that sees text alone, whose positions have one coordinate, and no features of other modules."""
    section = model.section.model_copy(update={"rope_sections": None, "rope_interleaved": False})
    return model._replace(section=section, ends=replace(model.ends, inserts=(), entering=0))


def _renamed(stored: Stored, alone: Stored) -> dict[str, str]:
    """Names of the base, in links, and those of the same tensors in a folder of the module alone."""
    # What the base has in other tensors, such as stacked experts, the module alone may have as well.
    own = {(link.ours, len(link.theirs)): link for link in (*alone.otherwise, *alone.links)}
    return {
        theirs: other
        for link in stored.links
        if (link.ours, len(link.theirs)) in own
        for theirs, other in zip(link.theirs, own[link.ours, len(link.theirs)].theirs, strict=True)
    }


def _belongs(name: str, alone: CompositeModel, role: str) -> bool:
    """Whether a folder of the module alone may have a tensor that no link of the base reads."""
    described = {theirs for link in alone.modules[role].links for theirs in link.theirs}
    return name in described or any(fnmatchcase(name, pattern) for pattern in alone.unused)


def _copies(stored: Stored, alone: Stored) -> dict[str, tuple[str, str]]:
    """What the base stores again, by its name there, and both names in a folder of the module alone."""
    return {copy: other for (copy, _original), other in zip(stored.copies, alone.copies, strict=False)}


def _prefix(renamed: Mapping[str, str]) -> str:
    """What stands before all names in the base, where that is all that differs."""
    found = {theirs.removesuffix(other) if theirs.endswith(other) else "" for theirs, other in renamed.items()}
    return found.pop() if len(found) == 1 else ""
