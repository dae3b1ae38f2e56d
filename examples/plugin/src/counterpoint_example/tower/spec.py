"""A tower that reads series, before torch: windows of samples, layers of means, a norm and a projector."""

from collections.abc import Iterator
from typing import Literal

from counterpoint.extend import (
    ENCODER_LAYER,
    Count,
    Cuts,
    EncoderSection,
    Ends,
    Family,
    Keeps,
    Kept,
    LayoutConfig,
    ModelFacts,
    PartFacts,
    Problem,
    ProjectorConfig,
    Several,
    TensorRule,
    light,
    linear,
    norm,
    products,
    projector_cuts,
    projector_facts,
    projector_problems,
    projector_rules,
)
from counterpoint_example.running_mean.spec import MEAN_INITIAL, MEAN_RULES, mean_tensors
from counterpoint_example.series.spec import SERIES, SeriesIntake


class SeriesTowerSection(EncoderSection):
    """A tower whose rows are windows of a series, and the projector to what reads them."""

    kind: Literal["series_tower"]
    """The family."""
    window: Count
    """Samples of which a row is made. Unit: samples."""
    layers: Several
    """Number of layers. Unit: layers."""
    hidden: Count
    """Width of the rows. Unit: columns."""
    heads: Count
    """Heads of a layer; they divide `hidden`. Unit: heads."""
    projector: ProjectorConfig
    """From the tower's rows to those of the module that reads them."""

    @property
    def projected(self) -> int:
        return self.hidden

    @property
    def num_layers(self) -> int:
        return self.layers


def _facts(section: SeriesTowerSection, ends: Ends) -> ModelFacts:
    hidden = section.hidden
    windows = linear("window", section.window, hidden, bias=True)
    embed = PartFacts(
        name="embed",
        tensors=windows,
        flops_per_row=products(windows),
        kept=Keeps.alike(Kept(section.window, cut="rows")),
        hidden_out=hidden,
    )
    layers = (_layer(f"layers.{number}", section) for number in range(section.layers))
    last = light("norm", norm("", hidden, "rms"), hidden)
    return ModelFacts(
        parts=(embed, *layers, last, projector_facts(section, ends, group=1)),
        hidden=hidden,
        hidden_in=section.window,
        hidden_out=ends.leaving,
        row_multiple=1,
        queries=section.queries,
        residual_sums=section.layers,
    )


def _layer(name: str, section: SeriesTowerSection) -> PartFacts:
    tensors = (*norm("norm", section.hidden, "rms"), *mean_tensors(section.hidden, section.heads))
    return PartFacts(
        name=name,
        kinds=(ENCODER_LAYER,),
        tensors=tensors,
        flops_per_row=products(tensors),
        kept=Keeps.alike(Kept(6 * section.hidden)),
        hidden_out=section.hidden,
    )


def _cuts(section: SeriesTowerSection) -> Cuts:
    heads = {"heads": section.heads}
    return Cuts.of_all((Cuts(tp=heads, cp=heads), projector_cuts(section)))


def _problems(where: str, section: SeriesTowerSection, _layout: LayoutConfig) -> Iterator[Problem]:
    yield from projector_problems(f"{where}.model", section)
    if section.hidden % section.heads:
        expected = f"a divisor of {where}.model.hidden, {section.hidden}"
        yield Problem(f"{where}.model.heads", f"{section.heads}", expected, "change one of them")


SERIES_TOWER = Family(
    section=SeriesTowerSection,
    called="a tower of series",
    takes=lambda _section: SERIES.name,
    intake=lambda module, section, mark: SeriesIntake(module, section.window, mark=mark, queries=section.queries),
    facts=_facts,
    cuts=_cuts,
    problems=_problems,
    rules=lambda section: (TensorRule("embed.window.*", "share"), *MEAN_RULES, *projector_rules(section)),
    initial=lambda _section: MEAN_INITIAL,
    parts="counterpoint_example.tower.model:parts",
)
