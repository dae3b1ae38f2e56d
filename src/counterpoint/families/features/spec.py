"""Section and facts of precomputed features, without torch."""

from collections.abc import Iterator
from typing import Literal

from counterpoint.families.encoder import (
    EncoderSection,
    projector_cuts,
    projector_facts,
    projector_problems,
    projector_rules,
)
from counterpoint.kinds.family import Ends, Family
from counterpoint.modalities.features.spec import FEATURES as GIVEN
from counterpoint.modalities.features.spec import FeatureIntake
from counterpoint.plan.model_facts import ModelFacts
from counterpoint.plan.part_facts import PartFacts
from counterpoint.projectors import ProjectorConfig
from counterpoint.section.layout import LayoutConfig
from counterpoint.section.problem import Problem
from counterpoint.section.section import Count


class FeaturesConfig(EncoderSection):
    """Precomputed features of items, and a projector to the width of the module that reads them."""

    kind: Literal["features"]
    width: Count
    """Width of the stored features. Unit: columns."""
    projector: ProjectorConfig

    @property
    def projected(self) -> int:
        return self.width

    @property
    def layer_kinds(self) -> frozenset[str]:
        return frozenset()


def _facts(section: FeaturesConfig, ends: Ends) -> ModelFacts:
    return ModelFacts(
        parts=(PartFacts(name="embed", hidden_out=section.width), projector_facts(section, ends, 1)),
        hidden=section.width,
        hidden_in=section.width,
        hidden_out=ends.leaving,
        row_multiple=1,
        queries=section.queries,
        residual_sums=1,
    )


def _problems(where: str, section: FeaturesConfig, _layout: LayoutConfig) -> Iterator[Problem]:
    yield from projector_problems(f"{where}.model", section)


FEATURES = Family(
    section=FeaturesConfig,
    called="features",
    takes=lambda _section: GIVEN.name,
    intake=lambda module, section, mark: FeatureIntake(module, section.width, mark=mark, queries=section.queries),
    facts=_facts,
    cuts=projector_cuts,
    problems=_problems,
    rules=projector_rules,
    whole="features have no layers",
    fixed=("pp", "chunks"),
    parts="counterpoint.families.features.model:parts",
)
