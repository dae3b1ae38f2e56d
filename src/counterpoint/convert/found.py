"""A checkpoint's modules by the tensors that are found in it, which config.json does not know.

A head may be stored although words are tied: transformers ties it if it equals the embedding, and if not leaves it as
it is with a warning. Tensors may have other shapes, as in transformers' memory, or be missing where a value is known.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path

import torch

from counterpoint.convert.composite import CompositeModel, Stored, composite_of
from counterpoint.convert.folder import CONFIG_NAME, ModelFolder
from counterpoint.convert.links import Link, Same
from counterpoint.errors import CheckpointError

_ROWS_AT_ONCE = 4096


def model_in(folder: ModelFolder) -> tuple[CompositeModel, dict[str, str]]:
    """The modules that a folder holds, and the names there by those in links; raises CheckpointError."""
    whole = composite_of(folder.config, str(folder.path / CONFIG_NAME))
    name_of = names_found(whole, folder.shapes, folder.path)
    return as_found(whole, name_of, lambda one, other: _are_equal(folder, name_of[one], name_of[other])), name_of


def names_found(whole: CompositeModel, found: Collection[str], where: Path | str) -> dict[str, str]:
    """The names found in a checkpoint by those in links; raises CheckpointError if two are names of one tensor."""
    name_of: dict[str, str] = {}
    for name in found:
        other = name_of.setdefault(whole.spell(name), name)
        if other != name:
            raise CheckpointError(
                f"{where} has {other} and {name}, which are two names of one tensor: remove one of them."
            )
    return name_of


def as_found(whole: CompositeModel, found: Collection[str], are_equal: Callable[[str, str], bool]) -> CompositeModel:
    """The modules with links to the tensors `found`, by their names in links, and heads tied if they are equal."""
    modules = {name: _fitted(_untied(one, found, are_equal), found) for name, one in whole.modules.items()}
    return replace(whole, modules=modules)


def _untied(stored: Stored, found: Collection[str], are_equal: Callable[[str, str], bool]) -> Stored:
    for head, words in stored.copies:
        if head in found and words in found and not are_equal(head, words):
            section = stored.model.section.model_copy(update={"tied": False})
            links = (*stored.links, Same(("head.weight",), (head,)))
            model = stored.model._replace(section=section)
            return replace(stored, model=model, links=links, copies=(), unequal=(head, words))
    return stored


def _fitted(stored: Stored, found: Collection[str]) -> Stored:
    """The module whose links to tensors none of which is there are replaced by others, as far as these are."""
    return replace(stored, links=tuple(_links(stored, set(found))), otherwise=())


def _links(stored: Stored, found: set[str]) -> Iterator[Link]:
    lost = {name for link in stored.links if not found & set(link.theirs) for name in link.ours}
    others: list[Link] = []
    for link in stored.otherwise:
        if lost >= set(link.ours) and found >= set(link.theirs):
            others.append(link)
            lost -= set(link.ours)
    replaced = {name for link in others for name in link.ours}
    yield from (link for link in stored.links if not replaced & set(link.ours))
    yield from others


def _are_equal(folder: ModelFolder, one: str, other: str) -> bool:
    shape = folder.shapes[one]
    if folder.shapes[other] != shape:
        return False
    for start in range(0, shape[0], _ROWS_AT_ONCE):
        place = (slice(start, min(start + _ROWS_AT_ONCE, shape[0])), *(slice(0, size) for size in shape[1:]))
        if not torch.equal(folder.read(one, place), folder.read(other, place)):
            return False
    return True
