"""Which parameters of a module are trained: all, none, or those whose names fit a pattern."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

from counterpoint.errors import ConfigError
from counterpoint.plan.model_facts import ModelFacts
from counterpoint.plan.part_facts import EXPERTS, PartFacts
from counterpoint.plan.tensors import elements

Train = str | tuple[str, ...]
"""`all`, `none`, or shell-style patterns of parameter names inside the module."""


@dataclass(frozen=True, slots=True)
class TrainedPart:
    """What is trained of one part: the elements of its trained tensors, and whether there is such a tensor.

    `weights` is the share of its products whose weights are trained, `inside` the share whose input gradients lead to
    trained tensors of the part itself; `is_between` says whether gradients go between its rows.
    """

    elements: int
    is_trained: bool
    weights: float
    inside: float
    is_between: bool

    @staticmethod
    def whole(elements: int, *, is_trained: bool) -> "TrainedPart":
        """A part that is trained as a whole or not at all."""
        share = float(is_trained)
        return TrainedPart(elements, is_trained, share, share, is_trained)


@dataclass(frozen=True, slots=True)
class PartUpdate:
    """What a module's optimizer does with a part: the average number of `moments` that it keeps of a trained parameter,
    of which one of fewer bytes than the stored parameter counts as a share, and whether the ranks of the stage exchange
    anything for the update."""

    moments: float
    exchanges: bool


def is_trained(name: str, train: Train) -> bool:
    """Whether a parameter is trained; `name` is its name inside the module."""
    if isinstance(train, str):
        return train == "all"
    return any(fnmatchcase(name, pattern) for pattern in train)


def trained_parts(module: str, facts: ModelFacts, train: Train) -> tuple[TrainedPart, ...]:
    """What is trained of each part of a module; raises ConfigError for a pattern that fits no parameter."""
    for number, pattern in enumerate(() if isinstance(train, str) else train):
        check_pattern(f"modules.{module}.train.{number}", facts, pattern)
    return tuple(
        _trained(part, [name for name, _n in part.tensors if is_trained(f"{part.name}.{name}", train)])
        for part in facts.parts
    )


def check_pattern(where: str, facts: ModelFacts, pattern: str) -> None:
    """Raise ConfigError for a pattern at the key `where` that fits no parameter of a module."""
    names = list(parameter_names(facts))
    if not any(fnmatchcase(name, pattern) for name in names):
        raise ConfigError(_no_parameter(where, pattern, names))


def check_groups(where: str, facts: ModelFacts, train: Train, patterns: Sequence[str]) -> None:
    """Raise ConfigError for a group's pattern that gets no trained parameter; each joins the first group that fits.

    `where` is the key of the list of groups.
    """
    left = [name for name in parameter_names(facts) if is_trained(name, train)]
    trained = list(left)
    for number, pattern in enumerate(patterns):
        joining = [name for name in left if fnmatchcase(name, pattern)]
        left = [name for name in left if name not in joining]
        if joining:
            continue
        got, at = f"{where}.{number}.match: got {pattern!r}", where.rpartition(".optimizer.")[0]
        if not trained:
            expected = f"no group, because nothing of the module is trained; leave it out or change {at}.train"
            raise ConfigError(f"{got}, expected {expected}")
        if any(fnmatchcase(name, pattern) for name in trained):
            expected = "a parameter that is in no group before it; put it first or remove it"
            raise ConfigError(f"{got}, whose parameters are all in groups before it, expected {expected}")
        raise ConfigError(_no_parameter(f"{where}.{number}.match", pattern, trained, "trained "))


def _trained(part: PartFacts, names: Collection[str]) -> TrainedPart:
    count_trained = sum(count for name, count in elements(part.tensors) if name in names)
    products = tuple(products_of(part))
    whole = sum(count for _name, count, _place in products)
    place_of = {name.rpartition(".")[0]: place for name, _count, place in products} | dict.fromkeys(_TABLES, _NOWHERE)
    place_of |= dict(_norms_after(part, products))
    # Other norms come before their products, a bias is where its product is, a table is added to the products' output.
    first = min((place_of.get(name.rpartition(".")[0], -1) for name in names), default=_NOWHERE)
    weights = sum(count for name, count, _place in products if name in names)
    inside = sum(count for _name, count, place in products if place > first)
    total = whole or 1.0
    return TrainedPart(count_trained, bool(names), weights / total, inside / total, is_between=first <= 0)


def _norms_after(part: PartFacts, products: Collection[tuple[str, float, int]]) -> Iterator[tuple[str, int]]:
    """Norms of a sublayer's output, with the place after its last product."""
    for name, _shape in part.tensors:
        owner, norm, _rest = name.rpartition("post_norm")
        if norm:
            last = max(place for product, _count, place in products if product.startswith(owner))
            yield f"{owner}{norm}", 1 + last


_NOWHERE = 1_000
"""A place after every product of a part."""

_LAST = ("o", "down")
"""The last product of attention, of Mamba-2 and of an MLP, which reads what the others made."""

_TABLES = ("positions", "prefix", "times")


def is_last_product(name: str) -> bool:
    """Whether the weight of this name, inside a part, is that of the last product of its sublayer."""
    return _leaf(name) in _LAST


def _leaf(name: str) -> str:
    """The name of the layer, or of the stacked weight, that a tensor belongs to."""
    return (name if EXPERTS in name else name.rpartition(".")[0]).rpartition(".")[2]


def products_of(part: PartFacts) -> Iterator[tuple[str, float, int]]:
    """The weights of a part's products: (name, elements that one row uses, place); those at one place read the same
    rows."""
    place, was_last = 0, False
    met = part.active_expert_parameters / part.expert_parameters if part.expert_parameters else 1.0
    for name, count in elements(part.tensors):
        leaf = _leaf(name)
        is_weight = EXPERTS in name or name.rpartition(".")[2] == "weight"
        if not is_weight or leaf.endswith(("norm", "scale")) or leaf in _TABLES:
            continue
        is_last = is_last_product(name)
        # An embedding's products form a chain; in a layer the last product of a sublayer reads what the others made.
        place += is_last != was_last or (part.name == "embed" and bool(place or was_last))
        was_last = is_last
        yield name, count * (met if EXPERTS in name else 1.0), place


def parameter_names(facts: ModelFacts) -> Iterator[str]:
    """The names of a module's parameters, in the order of its parts."""
    yield from (name for name, _shape in named_tensors(facts))


def named_tensors(facts: ModelFacts) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The names of a module's parameters and their whole shapes."""
    for part in facts.parts:
        yield from ((f"{part.name}.{name}", shape) for name, shape in part.tensors)


def _no_parameter(where: str, pattern: str, names: list[str], what: str = "") -> str:
    alike = get_close_matches(pattern, names, n=1, cutoff=0.0)
    return (
        f"{where}: got {pattern!r}, which fits no {what}parameter of the module, expected a pattern of names like "
        f"{alike[0]!r}; correct it or remove it"
    )
