"""Random parts of a config's graph: which encoders, adapters and depths take part, and which parameters train."""

import random
from collections.abc import Iterable, Mapping
from typing import Any

from counterpoint.config.graph import spread
from counterpoint.config.schema import Config, EdgeConfig
from counterpoint.families import family_of
from counterpoint.kinds.family import ROWS
from counterpoint.plan.activations import PARTS

_KEPT_EDGES = 0.75
_ALONE = 0.1
"""The share of cases with only the language model, if the config has more modules."""

Train = str | list[str]


def draw_graph(base: Config, generator: random.Random, language: str) -> tuple[list[str], list[dict[str, Any]]]:
    """Modules and edges of a subgraph in which every encoder reaches the language model."""
    if not base.edges or generator.random() < _ALONE:
        return [language], []
    drawn = [edge for edge in base.edges if generator.random() < _KEPT_EDGES]
    edges = _connected(base, drawn, language) or list(base.edges)
    names = {language, *(edge.source for edge in edges)}
    return [name for name in base.modules if name in names], [_edge(edge, generator) for edge in edges]


def _connected(base: Config, edges: list[EdgeConfig], language: str) -> list[EdgeConfig]:
    """The edges on a way from an encoder of images to the language model."""
    reaching = spread({language}, ((edge.target, edge.source) for edge in edges))
    roots = {name for name, module in base.modules.items() if family_of(module.model).reads != ROWS}
    fed = spread(roots, ((edge.source, edge.target) for edge in edges))
    return [edge for edge in edges if edge.target in reaching and edge.source in fed]


def _edge(edge: EdgeConfig, generator: random.Random) -> dict[str, Any]:
    depths = edge.model_dump()["depths"] if generator.random() < 0.6 else []
    return edge.model_dump() | {"depths": list(depths)}


def draw_training(
    base: Config, generator: random.Random, names: list[str], edges: list[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """What is trained and what is recomputed, by module; something is always trained."""
    train = {name: _draw_train(base, generator, name) for name in names}
    if all(value == "none" for value in train.values()):
        train[generator.choice(names)] = "all"
    reached = reached_by_gradients(train, edges)
    return {
        name: {"train": train[name], **(_draw_kept(base, generator, name) if name in reached else _KEEPS_ALL)}
        for name in names
    }


def reached_by_gradients(train: Mapping[str, Train], edges: Iterable[dict[str, Any]]) -> frozenset[str]:
    """The modules that have a backward: they train, or read rows of one that has a backward."""
    trained = [name for name, value in train.items() if value != "none"]
    return spread(trained, ((edge["source"], edge["target"]) for edge in edges))


def _draw_train(base: Config, generator: random.Random, name: str) -> Train:
    if generator.random() < 0.5:
        return "all"
    model = base.modules[name].model
    options: list[Train] = ["none", "none", ["*norm*"], ["layers.[0-2].*"], ["*.attention.*", "norm.weight"]]
    if not family_of(model).reads_documents:
        options += [["projector.*"], ["projector.*"]]
    elif family_of(model).cuts(model).has_experts:
        options += [["*.experts.*", "embed.*"]]
    return generator.choice(options)


_KEEPS_ALL: Mapping[str, Any] = {"recompute": "none", "recompute_keeps": [], "offload": False}


def _draw_kept(base: Config, generator: random.Random, name: str) -> Mapping[str, Any]:
    """Which layers and parts of layers are recomputed, and whether what they keep waits in the host's memory."""
    model = base.modules[name].model
    kinds = sorted(model.layer_kinds)
    if not kinds:
        return _KEEPS_ALL
    options: list[str | list[str]] = ["none", "none", "full", generator.sample(kinds, generator.randint(1, len(kinds)))]
    recompute = generator.choice(options)
    # A generator of its own: other draws stay as they are without it.
    copy = random.Random()
    copy.setstate(generator.getstate())
    own = random.Random(copy.random())
    keeps = ["attention"] if recompute != "none" and own.random() < 0.5 else []
    if recompute != "full" and own.random() < 0.5:
        layers = [] if isinstance(recompute, str) else recompute
        recompute = [*layers, *own.sample(PARTS, own.randint(1, len(PARTS)))]
    return {"recompute": recompute, "recompute_keeps": keeps, "offload": own.random() < 0.25}
