"""What an installed distribution brings: kinds by their names, as one value."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, final

from counterpoint.families import FAMILIES
from counterpoint.families.custom.registered import CUSTOM_MODULES
from counterpoint.kinds.family import Family
from counterpoint.kinds.layer import LayerKind
from counterpoint.kinds.modality import Modality
from counterpoint.kinds.projector import ProjectorKind
from counterpoint.layers import LAYERS
from counterpoint.losses import LOSSES
from counterpoint.losses.kind import LossKind
from counterpoint.modalities import MODALITIES
from counterpoint.optimizers import OPTIMIZERS
from counterpoint.optimizers.kind import OptimizerKind
from counterpoint.optimizers.rates import LEARNING_RATES, RateKind
from counterpoint.plan.schedule import SCHEDULES, ScheduleKind
from counterpoint.projectors import PROJECTORS
from counterpoint.recorders import RECORDERS
from counterpoint.recorders.kind import RecorderKind
from counterpoint.recorders.metric import METRICS, Metric
from counterpoint.registry import Registry
from counterpoint.section.section import Section
from counterpoint.sources import SOURCES
from counterpoint.sources.registered.registered import REGISTERED_SOURCES

REGISTRIES: tuple[Registry[Any], ...] = (
    MODALITIES, FAMILIES, LAYERS, PROJECTORS, SOURCES, OPTIMIZERS, LOSSES, SCHEDULES, LEARNING_RATES, RECORDERS,
    METRICS, CUSTOM_MODULES, REGISTERED_SOURCES,
)  # fmt: skip
"""All that a distribution may add to, with a `Plugin` or when it is imported."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """Kinds that a distribution adds to ours, by the names that configs call them by.

    A distribution registers one with an entry point of the group `counterpoint.plugins`, which names the value:
    `example = "my_package:PLUGIN"`. A modality goes by its own name.
    """

    families: Mapping[str, Family[Any]] = field(default_factory=dict)
    layers: Mapping[str, LayerKind[Any]] = field(default_factory=dict)
    projectors: Mapping[str, ProjectorKind[Any]] = field(default_factory=dict)
    modalities: tuple[Modality, ...] = ()
    sources: Mapping[str, type[Section]] = field(default_factory=dict)
    optimizers: Mapping[str, OptimizerKind] = field(default_factory=dict)
    losses: Mapping[str, LossKind] = field(default_factory=dict)
    schedules: Mapping[str, ScheduleKind] = field(default_factory=dict)
    learning_rates: Mapping[str, RateKind] = field(default_factory=dict)
    recorders: Mapping[str, RecorderKind] = field(default_factory=dict)
    metrics: Mapping[str, Metric] = field(default_factory=dict)

    def additions(self) -> Iterator[tuple[Registry[Any], str, Any]]:
        """All kinds, each with its registry and its name."""
        named: tuple[tuple[Registry[Any], Mapping[str, Any]], ...] = (
            (MODALITIES, {modality.name: modality for modality in self.modalities}),
            (FAMILIES, self.families),
            (LAYERS, self.layers),
            (PROJECTORS, self.projectors),
            (SOURCES, self.sources),
            (OPTIMIZERS, self.optimizers),
            (LOSSES, self.losses),
            (SCHEDULES, self.schedules),
            (LEARNING_RATES, self.learning_rates),
            (RECORDERS, self.recorders),
            (METRICS, self.metrics),
        )
        yield from ((registry, name, kind) for registry, kinds in named for name, kind in kinds.items())

    def sections(self) -> Iterator[tuple[str, str, type[Section]]]:
        """The sort, the name and the section of all kinds that a config chooses by the key `kind`."""
        yield from (("family", name, kind.section) for name, kind in self.families.items())
        yield from (("layer", name, kind.section) for name, kind in self.layers.items())
        yield from (("projector", name, kind.section) for name, kind in self.projectors.items())
        yield from (("optimizer", name, kind.section) for name, kind in self.optimizers.items())
        yield from (("loss", name, kind.section) for name, kind in self.losses.items())
        yield from (("learning rate", name, kind.section) for name, kind in self.learning_rates.items())
        yield from (("recorder", name, kind.section) for name, kind in self.recorders.items())
