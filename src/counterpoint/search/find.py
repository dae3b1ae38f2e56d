"""A search, top to bottom: config -> data -> space -> bounds -> walk -> what was found."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, final

from counterpoint import costs
from counterpoint.argument import argument
from counterpoint.check.proof import check_plan
from counterpoint.config.checks import check_files
from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.costs.hardware import Hardware
from counterpoint.errors import InputError
from counterpoint.garbage import rare
from counterpoint.search.bounds import Bounds
from counterpoint.search.footprint import Footprints
from counterpoint.search.guess import Guess
from counterpoint.search.models import Models
from counterpoint.search.rewrite import Winner
from counterpoint.search.scoring import Score, Scorer
from counterpoint.search.second import beside
from counterpoint.search.shortlist import Shortlist
from counterpoint.search.space import Space
from counterpoint.search.varied import held_keys, schedule_kinds
from counterpoint.search.walk import Found, Walk
from counterpoint.search.workload import Workload, workload
from counterpoint.section.problem import show
from counterpoint.setup.data import open_corpus, open_tokenizer
from counterpoint.setup.plan import describe, execution_of, lay_out, models_of

DEFAULT_HARDWARE = "h200"
TOP = 5
"""Fastest layouts that no bound prunes unless asked for others."""

STEPS = 2
"""Steps of the data that are drawn unless asked for others."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is searched for: a machine, how many ranks of it, and what is held.

    `memory_gib` is what a rank has, None for what the hardware says. `fixed` are patterns of keys that stay as the
    config has them, `schedules` the kinds that may be chosen (all if empty). `steps` of the data are drawn; at most
    `simulations` candidates are played, None for as many as suit the number of ranks.
    """

    world_size: int | None = None
    hardware: str = DEFAULT_HARDWARE
    memory_gib: float | None = None
    top: int = TOP
    fixed: tuple[str, ...] = ()
    schedules: tuple[str, ...] = ()
    steps: int = STEPS
    simulations: int | None = None


@final
@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found, and what it rests on."""

    config: Config
    world_size: int
    hardware: Hardware
    memory_bytes: float
    work: Workload
    space: Space
    found: Found
    scorer: Scorer

    @property
    def best(self) -> Winner:
        """The fastest candidate, whose plan is proved."""
        return Winner(self.world_size, self.found.outcomes[0].candidate)


@final
@dataclass(frozen=True, slots=True)
class Comparison:
    """Two configs on the same hardware: their names, the keys in which they differ with both values as text, and what
    the clock says of their steps."""

    names: tuple[str, str]
    hardware: Hardware
    keys: tuple[tuple[str, str, str], ...]
    scores: tuple[Score, Score]


def settled(file: Path, overrides: Sequence[str]) -> Config:
    """The config of a file, in which how items become rows follows from what its modules start from; raises
    ConfigError or CheckpointError."""
    loaded = load_config(file, overrides)
    if any(module.init_from is not None for module in loaded.modules.values()):
        from counterpoint.setup.settle import settle_items

        return settle_items(loaded)
    return loaded


@rare()
def find(config: Config, overrides: Sequence[str], wish: Wish) -> SearchResult:
    """Find the fastest layouts of a config's models; `overrides`, laid over it already, hold their keys.

    Raises ConfigError, DataError, or InputError if nothing fits.
    """
    if wish.memory_gib is not None and not 0 < wish.memory_gib < inf:
        raise InputError(
            f"{argument('memory_gib', '--memory')}: got {wish.memory_gib:g}, expected a number of GiB above 0; correct "
            "it or leave it out for what the hardware has"
        )
    hardware = costs.load(wish.hardware)
    world_size = config.world.size if wish.world_size is None else wish.world_size
    is_idle_asked = any(each.partition("=")[0] in ("world", "world.idle") for each in overrides)
    if world_size != config.world.size and config.world.idle and is_idle_asked:
        raise InputError(
            f"world.idle: got idle ranks of {config.world.size} with {argument('world_size')} {world_size}, expected "
            f"those of a world of that size; set world.size={world_size} instead"
        )
    held, kinds = held_keys(config, wish.fixed, overrides), schedule_kinds(wish.schedules)
    models, work = measured(config, wish.steps)
    memory_bytes = hardware.memory_bytes if wish.memory_gib is None else wish.memory_gib * 2**30
    space = Space(config, models.described, world_size, hardware.ranks_per_node, work.samples, held, kinds)
    bounds = Bounds(models, work, hardware)
    scorer = Scorer(models, world_size, hardware, work.steps)
    simulations = _simulations(world_size) if wish.simulations is None else wish.simulations
    guess = Guess(models, work, hardware, Footprints(models, work, hardware))
    shortlist = Shortlist(space, bounds, guess, memory_bytes)
    with beside(scorer) as second:
        found = Walk(space, bounds, shortlist, scorer, memory_bytes, simulations, max(wish.top, 1), second).run()
    check_plan(scorer.plan(found.outcomes[0].candidate))
    return SearchResult(config, world_size, hardware, memory_bytes, work, space, found, scorer)


@rare()
def compare(
    names: tuple[str, str], configs: tuple[Config, Config], hardware_name: str = DEFAULT_HARDWARE, steps: int = STEPS
) -> Comparison:
    """Where two configs differ in time; raises ConfigError, PlacementError, DataError or ProofError."""
    hardware = costs.load(hardware_name)
    one, other = (_scored(config, hardware, steps) for config in configs)
    return Comparison(names, hardware, tuple(_differing(*configs)), (one, other))


def _scored(config: Config, hardware: Hardware, steps: int) -> Score:
    models, work = measured(config, steps)
    plan = lay_out(config, models.described)
    check_plan(plan)
    return Scorer(models, config.world.size, hardware, work.steps).score(plan)


def _differing(first: Config, second: Config) -> Iterator[tuple[str, str, str]]:
    one, other = (dict(_leaves("", config.resolved())) for config in (first, second))
    for key in dict.fromkeys([*one, *other]):
        if one.get(key) != other.get(key):
            yield key, show(one.get(key)), show(other.get(key))


def _leaves(path: str, data: Any) -> Iterator[tuple[str, Any]]:
    """The dotted paths of plain data and their values; lists are values."""
    if not isinstance(data, Mapping):
        yield path, data
        return
    for key, value in data.items():
        yield from _leaves(f"{path}.{key}" if path else str(key), value)


def measured(config: Config, steps: int) -> tuple[Models, Workload]:
    """A config's models, and the work of so many steps of its data; raises ConfigError or DataError."""
    check_files(config)
    tokenizer = open_tokenizer(config)
    words = None if tokenizer is None else tokenizer.vocabulary
    described = describe(config, models_of(config, words))
    sink = described.facts[described.graph.sinks[0]]
    corpus = open_corpus(config, tokenizer, sink.vocab, sink.extra_depths)
    drawn = tuple(packs for step in range(steps) if (packs := corpus.packs(step)))
    if not drawn:
        raise InputError("data.train: got no document in the first steps, expected some; correct data.train")
    models = Models(config, described, execution_of(config))
    return models, workload(described.graph, described.facts, drawn, config.data.balance)


def _simulations(world_size: int) -> int:
    """As many as keep a search short: larger plans take longer to play."""
    return next((count for ranks, count in _BUDGETS if world_size <= ranks), _LEAST)


_BUDGETS = ((8, 32), (256, 40))
"""Simulations for worlds of at most so many ranks."""

_LEAST = 36
"""Simulations for larger ones."""
