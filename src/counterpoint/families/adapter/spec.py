"""Section and facts of adapters, without torch."""

from collections.abc import Iterator
from typing import Literal

from counterpoint.families.encoder import (
    TowerSection,
    head_problems,
    idle_keys,
    layered_cuts,
    layered_rules,
    projector_problems,
    tower_facts,
)
from counterpoint.kinds.family import ROWS, Ends, Family
from counterpoint.kinds.rules import TensorRule
from counterpoint.plan.kept import Keeps, Kept
from counterpoint.plan.model_facts import ModelFacts
from counterpoint.plan.part_facts import PartFacts
from counterpoint.plan.tensors import linear, products
from counterpoint.section.layout import LayoutConfig
from counterpoint.section.problem import Problem
from counterpoint.section.section import Count


class AdapterConfig(TowerSection):
    """A transformer over the features of other encoders, item by item, and its projector."""

    kind: Literal["adapter"]
    inputs: Count | None = None
    """Width of the input features, to which the projectors of its encoders map; null: the language model's width.
    Unit: columns."""

    @property
    def entering(self) -> int | None:
        return self.inputs


def _facts(section: AdapterConfig, ends: Ends) -> ModelFacts:
    """Its input rows are features of other encoders; it merges none of them."""
    return tower_facts(section, ends, 1, _embedding(section, ends), ends.entering)


def _embedding(section: AdapterConfig, ends: Ends) -> PartFacts:
    first = linear("linear", ends.entering, section.hidden, bias=True)
    return PartFacts(
        name="embed",
        tensors=first,
        flops_per_row=products(first),
        kept=Keeps.alike(Kept(ends.entering, cut="rows")),
        hidden_out=section.hidden,
    )


def _problems(where: str, section: AdapterConfig, _layout: LayoutConfig) -> Iterator[Problem]:
    yield from projector_problems(f"{where}.model", section)
    yield from head_problems(f"{where}.model", section)


ADAPTER = Family(
    section=AdapterConfig,
    called="an adapter",
    reads=ROWS,
    facts=_facts,
    cuts=layered_cuts,
    problems=_problems,
    rules=lambda section: (TensorRule("embed.linear.*", "share"), *layered_rules(section)),
    idle=idle_keys,
    parts="counterpoint.families.adapter.model:parts",
)
