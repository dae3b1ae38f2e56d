"""Whether the modules and edges of a configuration make a graph that can be trained."""

from collections import Counter
from collections.abc import Iterable, Iterator

from counterpoint.config.schema import Config, EdgeConfig
from counterpoint.families import FAMILIES, family_of, modality_of
from counterpoint.kinds.family import ModelSection
from counterpoint.kinds.modality import Modality
from counterpoint.section.problem import Problem, nearest, show


def entering_width(config: Config, module: str) -> int:
    """Columns of the rows that enter a module along its edges: an adapter's inputs, or the width of its rows."""
    width = config.modules[module].model.entering
    if width is None:
        width = _language(config).entering
    assert width is not None, "a decoder has a width of its own"
    return width


def marks_of(config: Config) -> dict[str, str]:
    """What stands for the items of every encoder that takes some in the text that is prepared."""
    taken = modalities_of(config)
    return {name: next(iter(_marks(config, name)), modality.mark) for name, modality in taken.items()}


def modalities_of(config: Config) -> dict[str, Modality]:
    """What enters each module that takes items."""
    found = {name: modality_of(module.model) for name, module in config.modules.items()}
    return {name: modality for name, modality in found.items() if modality is not None}


def graph_problems(config: Config) -> Iterator[Problem]:
    """Modules and edges that do not fit together, each with its key."""
    decoders = [name for name, module in config.modules.items() if family_of(module.model).reads_documents]
    if len(decoders) != 1:
        yield Problem(
            "modules",
            f"{len(decoders)} modules of kind decoder ({', '.join(decoders) or 'none'})",
            "exactly one, which carries the loss",
            "add a language model" if not decoders else "keep one of them",
        )
    ends = [
        *(problem for i, edge in enumerate(config.edges) for problem in _end_problems(config, i, edge)),
        *_degree_problems(config),
    ]
    yield from ends
    yield from _mark_problems(config)
    yield from _loss_problems(config)
    if len(decoders) == 1 and not ends:
        yield from _width_problems(config)
        yield from _tap_problems(config)
        yield from _query_problems(config)
        for i, edge in enumerate(config.edges):
            yield from _depth_problems(config, i, edge)


def spread(seen: Iterable[str], pairs: Iterable[tuple[str, str]]) -> frozenset[str]:
    """What can be reached from some modules along pairs (from, to), these modules included."""
    found, pairs = frozenset(seen), tuple(pairs)
    for _ in pairs:
        found |= {there for here, there in pairs if here in found}
    return found


def unreached(config: Config) -> tuple[str, ...]:
    """The modules that no gradient reaches: neither they nor what they read is trained."""
    trained = [name for name, module in config.modules.items() if module.train and module.train != "none"]
    reached = spread(trained, ((edge.source, edge.target) for edge in config.edges))
    return tuple(name for name in config.modules if name not in reached)


def _loss_problems(config: Config) -> Iterator[Problem]:
    """Losses of modules that no gradient reaches, which would move nothing."""
    for name in unreached(config):
        if config.modules[name].losses:
            expected = f"none, because nothing of {name}, or of what it reads, is trained"
            kinds = ", ".join(section.kind for section in config.modules[name].losses)
            yield Problem(f"modules.{name}.losses", kinds, expected, "leave them out or train it")


def _language(config: Config) -> ModelSection:
    return next(module.model for module in config.modules.values() if family_of(module.model).reads_documents)


def _end_problems(config: Config, number: int, edge: EdgeConfig) -> Iterator[Problem]:
    sources = [name for name, family in FAMILIES.items() if not family.reads_documents]
    targets = [name for name, family in reversed([*FAMILIES.items()]) if not family.reads_items]
    for end, name, kinds in (("source", edge.source, sources), ("target", edge.target, targets)):
        path = f"edges.{number}.{end}"
        if name not in config.modules:
            alike = nearest(name, config.modules)
            remedy = "add the module or correct the edge" if alike is None else f"did you mean {alike}?"
            yield Problem(path, show(name), f"one of the modules {', '.join(config.modules)}", remedy)
        elif config.modules[name].model.kind not in kinds:
            got = f"{name}, whose model is of kind {config.modules[name].model.kind}"
            yield Problem(path, got, f"a module of kind {' or '.join(kinds)}", "turn the edge or correct it")


def _degree_problems(config: Config) -> Iterator[Problem]:
    sources, targets = Counter(e.source for e in config.edges), Counter(e.target for e in config.edges)
    for name, module in config.modules.items():
        family = family_of(module.model)
        if not family.reads_documents and not sources[name]:
            remedy = f"add {{source: {name}, target: ...}} or remove the module"
            yield Problem("edges", f"0 edges from the module {name}", "at least one", remedy)
        if not family.reads_documents and not family.reads_items and not targets[name]:
            remedy = f"add {{source: ..., target: {name}}} or remove the module"
            yield Problem("edges", f"0 edges to the module {name}", "at least one, whose rows it adapts", remedy)
    for (source, target), count in Counter((edge.source, edge.target) for edge in config.edges).items():
        if count > 1:
            yield Problem("edges", f"{count} edges from {source} to {target}", "one", "keep one of them")


def _marks(config: Config, module: str) -> list[str]:
    """The marks that a module's edges name, each once."""
    return list(dict.fromkeys(e.mark for e in config.edges if e.source == module and e.mark is not None))


def _mark_problems(config: Config) -> Iterator[Problem]:
    encoders = modalities_of(config)
    for i, edge in enumerate(config.edges):
        if edge.mark is not None and edge.source in config.modules and edge.source not in encoders:
            expected = f"null, because rows that leave {edge.source} stand where those that enter it do"
            yield Problem(f"edges.{i}.mark", show(edge.mark), expected, "leave it out")
    for name in encoders:
        given = _marks(config, name)
        if len(given) > 1:
            yield Problem(
                "edges", f"the marks {', '.join(map(show, given))} from {name}", "one", "name the same on each"
            )
    for mark, count in Counter(marks_of(config).values()).items():
        if count > 1:
            yield Problem(
                "edges",
                f"the mark {show(mark)} of {count} modules",
                "a mark of its own for each",
                "name one on an edge",
            )


def _width_problems(config: Config) -> Iterator[Problem]:
    for name in config.modules:
        widths = {edge.target: entering_width(config, edge.target) for edge in config.edges if edge.source == name}
        if len(set(widths.values())) > 1:
            got = ", ".join(f"{width} into {target}" for target, width in widths.items())
            remedy = "make the targets' hidden, or inputs of adapters, equal"
            yield Problem("edges", f"rows of {name} with {got} columns", "one width, that of its projector", remedy)


def _tap_problems(config: Config) -> Iterator[Problem]:
    """Norms of projectors that no edge asks for."""
    tapped = {edge.source for edge in config.edges if edge.depths}
    for name, module in config.modules.items():
        norm = module.model.norm_of_taps
        if norm != "none" and name not in tapped:
            expected = f"none, because no edge from {name} has depths"
            yield Problem(f"modules.{name}.model.tap_norm", show(norm), expected, "leave it out")


def _query_problems(config: Config) -> Iterator[Problem]:
    """Learned rows that leave where an item's own are needed."""
    axes = _language(config).position_axes
    for name, module in config.modules.items():
        if not module.model.queries:
            continue
        where, got = f"modules.{name}.model.projector", f"{module.model.queries} queries"
        if not family_of(module.model).reads_items:
            expected = f"none, because rows that leave {name} stand where those that enter it do"
            yield Problem(where, got, expected, "choose a projector of another kind")
        elif axes > 1:
            expected = f"none, because positions with {axes} axes are of places in an item"
            yield Problem(where, got, expected, "choose a projector of another kind or positions of one axis")


def _depth_problems(config: Config, number: int, edge: EdgeConfig) -> Iterator[Problem]:
    where = f"edges.{number}.depths"
    if edge.depths and not family_of(config.modules[edge.target].model).reads_documents:
        expected = f"none, because {edge.target} is no decoder"
        yield Problem(where, f"{len(edge.depths)} depths", expected, "leave them out")
        return
    if edge.depths and family_of(config.modules[edge.source].model).whole:
        expected = f"none, because {edge.source} has no layers whose output rows can be taken"
        yield Problem(where, f"{len(edge.depths)} depths", expected, "leave them out")
        return
    ends: tuple[tuple[str, str, list[int]], ...] = (
        ("after", edge.source, [depth.after for depth in edge.depths]),
        ("into", edge.target, [depth.into for depth in edge.depths]),
    )
    for key, name, layers in ends:
        most = config.modules[name].model.num_layers
        for i, layer in enumerate(layers):
            if layer >= most:
                expected = f"a layer of {name}, 0 to {most - 1}"
                yield Problem(f"{where}.{i}.{key}", f"{layer}", expected, "choose one of them")
            elif layer in layers[:i]:
                yield Problem(f"{where}.{i}.{key}", f"{layer} again", "another layer for each depth", "remove one")
