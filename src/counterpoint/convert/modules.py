"""All tensors of a checkpoint of one module or more: to ours and back, with every name and shape accounted for."""

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from counterpoint.convert.accounts import demand_same, refuse
from counterpoint.convert.links import Link, their_tensors
from counterpoint.convert.whole import Stored, Whole
from counterpoint.errors import CheckpointError
from counterpoint.models.catalog import model_parts
from counterpoint.models.chain import build_chain

Tensors = Mapping[str, Tensor]


def modules_to_ours(whole: Whole, tensors: Tensors) -> dict[str, dict[str, Tensor]]:
    """A checkpoint's tensors as those of our modules, by module and name; raises CheckpointError.

    A tower without a projector in its checkpoint is given all of its tensors but that one's.
    """
    for stored in whole.modules.values():
        demand_copies("The checkpoint", stored, {whole.spell(name): tensor for name, tensor in tensors.items()})
    return _to_ours(whole, tensors, lambda link, found: link.to_ours(found))


def gradients_to_ours(whole: Whole, gradients: Tensors) -> dict[str, dict[str, Tensor]]:
    """Gradients by a checkpoint's tensors as gradients by ours; raises CheckpointError."""
    return _to_ours(whole, gradients, lambda link, found: link.gradients_to_ours(found))


def modules_from_ours(whole: Whole, modules: Mapping[str, Tensors]) -> dict[str, Tensor]:
    """The way back, without what is unused here; raises CheckpointError. A projector that has no place is left out."""
    found: dict[str, Tensor] = {}
    for name, stored in whole.modules.items():
        expected = _expected(name, stored)
        demand_same(f"The module {name}", {n: t for n, t in modules[name].items() if not is_added(n, stored)}, expected)
        found |= their_tensors(stored.links, modules[name])
    return found


def _to_ours(
    whole: Whole, tensors: Tensors, convert: Callable[[Link, list[Tensor]], list[Tensor]]
) -> dict[str, dict[str, Tensor]]:
    spelled = {whole.spell(name): tensor for name, tensor in tensors.items()}
    copies = dict(pair for stored in whole.modules.values() for pair in stored.copies)
    used = {
        n: t
        for n, t in spelled.items()
        if n not in copies and not any(fnmatchcase(n, pattern) for pattern in whole.unused)
    }
    expected: dict[str, Tensor] = {}
    for name, stored in whole.modules.items():
        expected |= their_tensors(stored.links, _expected(name, stored))
    demand_same("The checkpoint", used, expected)
    return {
        module: {
            name: tensor
            for link in stored.links
            for name, tensor in zip(link.ours, convert(link, [used[n] for n in link.theirs]), strict=True)
        }
        for module, stored in whole.modules.items()
    }


def demand_copies(owner: str, stored: Stored, tensors: Tensors) -> None:
    """Raise CheckpointError if a tensor that is a copy of another has other values."""
    for copy, original in stored.copies:
        if copy in tensors and original in tensors and not torch.equal(tensors[copy], tensors[original]):
            raise CheckpointError(
                f"{owner} has a {copy} that is not {original}, although its config.json says that words are tied: set "
                "tie_word_embeddings there to false, or choose another model."
            )


def kept_tensors(stored: Stored) -> dict[str, Tensor]:
    """Our tensors of a module that a checkpoint has, without values."""
    with torch.device("meta"):
        ours = build_chain(model_parts(stored.sizes)).state_dict()
    return {name: tensor for name, tensor in ours.items() if not is_added(name, stored)}


def is_added(name: str, stored: Stored) -> bool:
    """Whether a tensor of ours is of a projector that the checkpoint does not have."""
    return stored.adds_projector and name.startswith("projector.")


def _expected(module: str, stored: Stored) -> dict[str, Tensor]:
    """Our tensors without values, all of which have links."""
    kept = kept_tensors(stored)
    linked = {name for link in stored.links for name in link.ours}
    refuse(f"A checkpoint with the module {module}", "has no place for", kept.keys() - linked)
    refuse(f"A module {module} of that checkpoint", "needs", linked - kept.keys())
    return kept
