"""The warm start of a module from a checkpoint: links of its tensors, with every name and shape accounted for."""

from collections.abc import Callable, Collection, Mapping
from fnmatch import fnmatchcase

from counterpoint.convert.accounts import demand_shape, refuse
from counterpoint.convert.composite import CompositeModel, Stored
from counterpoint.convert.links import Link, their_tensors
from counterpoint.convert.modules import kept_tensors

Shapes = Mapping[str, tuple[int, ...]]

_NAME_IT = "choose another, or name what begins anew in init_from.fresh"
_NAME_IT_TOO = "name in init_from.fresh what is not to be loaded, or choose another"


def linked_names(stored: Stored) -> frozenset[str]:
    """Our names of all tensors of a module that a checkpoint has."""
    return frozenset(name for link in stored.links for name in link.ours)


def unread_names(whole: CompositeModel, found: Collection[str]) -> frozenset[str]:
    """The tensors among those `found` in a checkpoint that no link reads."""
    read = {name for stored in whole.modules.values() for link in stored.links for name in link.theirs}
    return frozenset(name for name in found if whole.spell(name) not in read)


def unlinked_names(whole: CompositeModel, found: Collection[str]) -> frozenset[str]:
    """The tensors among those `found` in a checkpoint that no link or pattern knows, and that are no copies."""
    copies = {copy for stored in whole.modules.values() for copy, _original in stored.copies}
    unread = unread_names(whole, found)
    return frozenset(n for n in unread if not (whole.spell(n) in copies or _is_unused(whole, n)))


def _is_unused(whole: CompositeModel, name: str) -> bool:
    return any(fnmatchcase(whole.spell(name), pattern) for pattern in whole.unused)


def links_to_start(
    owner: str, whole: CompositeModel, stored: Stored, found: Shapes, ours: Shapes, is_fresh: Callable[[str], bool]
) -> tuple[Link, ...]:
    """The links of a module with tensors `ours` to a checkpoint with tensors `found`.

    Raises CheckpointError for a tensor that only one side has, unless `is_fresh` accepts its name (ours if it has one).
    """
    linked, needed = linked_names(stored), {name for name in ours if not is_fresh(name)}
    refuse(owner, "has the unknown", {n for n in unlinked_names(whole, found) if not is_fresh(n)}, _NAME_IT_TOO)
    shapes = {whole.spell(name): shape for name, shape in found.items()}
    refuse(owner, "has no place for", needed - linked, _NAME_IT)
    refuse(owner, "has more by our names,", {n for n in linked - ours.keys() if not is_fresh(n)}, _NAME_IT_TOO)
    links = tuple(link for link in stored.links if needed & set(link.ours))
    refuse(owner, "lacks", {name for link in links for name in link.theirs} - shapes.keys(), _NAME_IT)
    kept = kept_tensors(stored)
    for name, tensor in their_tensors(links, kept).items():
        demand_shape(owner, name, shapes[name], tensor)
    for name in sorted(needed):
        demand_shape(f"{owner}: the model of the config", name, ours[name], kept[name])
    return links
