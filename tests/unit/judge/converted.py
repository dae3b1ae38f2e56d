"""All tensors of a checkpoint, of a decoder or of several modules, to ours and back, with every name accounted for."""

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from counterpoint.convert.accounts import demand_shape, refuse
from counterpoint.convert.composite import CompositeModel, Stored
from counterpoint.convert.decoders import decoder_named
from counterpoint.convert.found import as_found, names_found
from counterpoint.convert.links import Link, their_tensors
from counterpoint.convert.modules import Tensors, is_added, kept_tensors
from counterpoint.families.decoder.spec import DecoderConfig
from tests.unit.judge.models import alone, empty_tensors


def to_ours(
    family: str, tensors: Mapping[str, Tensor], section: DecoderConfig, *, are_gradients: bool = False
) -> dict[str, Tensor]:
    """A checkpoint's tensors, or gradients by them, as those of our decoder; raises CheckpointError.

    Tensors may share memory with those handed in.
    """
    links, ours = _links_and_shapes(family, section)
    _demand_same(f"The {family} checkpoint", tensors, their_tensors(links, ours))
    return {
        name: tensor
        for link in links
        for name, tensor in zip(
            link.ours, _through(link, [tensors[n] for n in link.theirs], are_gradients), strict=True
        )
    }


def _through(link: Link, tensors: list[Tensor], are_gradients: bool) -> list[Tensor]:
    return link.gradients_to_ours(tensors) if are_gradients else link.to_ours(tensors)


def from_ours(family: str, tensors: Mapping[str, Tensor], section: DecoderConfig) -> dict[str, Tensor]:
    """The way back: parameters and buffers of our decoder as a checkpoint's tensors; raises CheckpointError."""
    links, ours = _links_and_shapes(family, section)
    _demand_same("The model", tensors, ours)
    return their_tensors(links, tensors)


def _links_and_shapes(family: str, section: DecoderConfig) -> tuple[list[Link], dict[str, Tensor]]:
    """The links, and our tensors without values; together they leave out nothing."""
    links = list(decoder_named(family).links(section))
    ours = empty_tensors(alone(section))
    linked = {name for link in links for name in link.ours}
    refuse(f"A {family} checkpoint", "has no place for", ours.keys() - linked)
    refuse(f"A model for a {family} checkpoint", "needs", linked - ours.keys())
    return links, ours


def modules_to_ours(whole: CompositeModel, tensors: Tensors) -> dict[str, dict[str, Tensor]]:
    """A checkpoint's tensors as those of our modules, by module and name; raises CheckpointError.

    A tower without a projector in its checkpoint is given all of its tensors but that one's.
    """
    return _to_ours(whole, tensors, lambda link, found: link.to_ours(found))


def gradients_to_ours(whole: CompositeModel, gradients: Tensors) -> dict[str, dict[str, Tensor]]:
    """Gradients by a checkpoint's tensors as gradients by ours; raises CheckpointError."""
    return _to_ours(whole, gradients, lambda link, found: link.gradients_to_ours(found))


def modules_from_ours(whole: CompositeModel, modules: Mapping[str, Tensors]) -> dict[str, Tensor]:
    """The way back, without what is unused here; raises CheckpointError. A projector that has no place is left out."""
    found: dict[str, Tensor] = {}
    for name, stored in whole.modules.items():
        expected = _expected(name, stored)
        _demand_same(
            f"The module {name}", {n: t for n, t in modules[name].items() if not is_added(n, stored)}, expected
        )
        found |= their_tensors(stored.links, modules[name])
    return found


def with_tensors_found(whole: CompositeModel, tensors: Tensors) -> CompositeModel:
    """What a checkpoint of these tensors holds."""
    found = _in_links(whole, tensors)
    return as_found(whole, found, lambda one, other: torch.equal(found[one], found[other]))


def _in_links(whole: CompositeModel, tensors: Tensors) -> dict[str, Tensor]:
    return {name: tensors[there] for name, there in names_found(whole, tensors, "The checkpoint").items()}


def _to_ours(
    whole: CompositeModel, tensors: Tensors, convert: Callable[[Link, list[Tensor]], list[Tensor]]
) -> dict[str, dict[str, Tensor]]:
    spelled = _in_links(whole, tensors)
    whole = with_tensors_found(whole, tensors)
    copies = dict(pair for stored in whole.modules.values() for pair in stored.copies)
    used = {
        n: t
        for n, t in spelled.items()
        if (n not in copies or copies[n] not in spelled)
        and not any(fnmatchcase(n, pattern) for pattern in whole.unused)
    }
    expected: dict[str, Tensor] = {}
    for name, stored in whole.modules.items():
        expected |= their_tensors(stored.links, _expected(name, stored))
    _demand_same("The checkpoint", used, expected)
    return {
        module: {
            name: tensor
            for link in stored.links
            for name, tensor in zip(link.ours, convert(link, [used[n] for n in link.theirs]), strict=True)
        }
        for module, stored in whole.modules.items()
    }


def _expected(module: str, stored: Stored) -> dict[str, Tensor]:
    """Our tensors without values, all of which have links."""
    kept = kept_tensors(stored)
    linked = {name for link in stored.links for name in link.ours}
    refuse(f"A checkpoint with the module {module}", "has no place for", kept.keys() - linked)
    refuse(f"A module {module} of that checkpoint", "needs", linked - kept.keys())
    return kept


def _demand_same(owner: str, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError unless the tensors found are those expected, by name and shape."""
    refuse(owner, "lacks", expected.keys() - found.keys())
    refuse(owner, "has the unknown", found.keys() - expected.keys())
    for name, tensor in expected.items():
        demand_shape(owner, name, tuple(found[name].shape), tensor)
