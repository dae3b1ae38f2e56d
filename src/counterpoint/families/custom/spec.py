"""Section and facts of registered image encoders, without torch."""

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any, Literal

from pydantic import Field

from counterpoint.errors import ConfigError
from counterpoint.families.custom.registered import CUSTOM_MODULES, Measured, fitting
from counterpoint.families.encoder import (
    EncoderSection,
    projector_cuts,
    projector_facts,
    projector_problems,
    projector_rules,
)
from counterpoint.families.images import image_problems
from counterpoint.kinds.family import Ends, Family, Given
from counterpoint.kinds.rules import Initial, TensorRule
from counterpoint.modalities.images.spec import IMAGES, ImageConfig, ImageIntake
from counterpoint.plan.cost import ALL
from counterpoint.plan.kept import Keeps, Kept
from counterpoint.plan.model_facts import ModelFacts
from counterpoint.plan.part_facts import ENCODER_LAYER, PartFacts
from counterpoint.projectors import ProjectorConfig
from counterpoint.section.layout import LayoutConfig
from counterpoint.section.problem import Problem, nearest, show
from counterpoint.section.section import Count, Index, Text

CHANNELS = 3
_TOWER = "embed.tower"


class CustomConfig(EncoderSection):
    """An image encoder that `counterpoint.register_module` registered, and a projector after it."""

    kind: Literal["custom"]
    name: Text
    """Name under which the encoder was registered."""
    hidden: Count
    """Width of the encoder's output rows. Unit: columns."""
    layers: Index = 0
    """Attention layers of the encoder, for the estimate of its FLOPs; 0: none. Unit: layers."""
    image: ImageConfig
    """How pictures become the images that the encoder reads."""
    patch: Count
    """Side of the square of pixels that each row covers. Unit: pixels."""
    merge: Count = 1
    """`merge` x `merge` neighbouring rows become one row of the target. Unit: rows."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Arguments for the function that builds the encoder; any keys and values."""
    projector: ProjectorConfig

    @property
    def projected(self) -> int:
        return self.hidden

    @property
    def patch_dim(self) -> int:
        """Values of one flattened patch, in (channel, row, column) order."""
        return CHANNELS * self.patch**2


def _measured(section: CustomConfig) -> Measured:
    return CUSTOM_MODULES[section.name].measure(section.options)


def _facts(section: CustomConfig, ends: Ends) -> ModelFacts:
    """Its input rows are flattened patches."""
    group = section.merge**2
    return ModelFacts(
        parts=(_tower(section), projector_facts(section, ends, group)),
        hidden=section.hidden,
        hidden_in=section.patch_dim,
        hidden_out=ends.leaving,
        row_multiple=group,
        queries=section.queries,
        residual_sums=1,
    )


def _tower(section: CustomConfig) -> PartFacts:
    """Estimated facts of the whole module: every matrix multiplies each row once, attention covers whole images."""
    shapes = _measured(section).parameters
    matrices = [shape for shape in shapes.values() if len(shape) > 1]
    kept = sum(shape[0] for shape in matrices) + 5 * section.hidden * section.layers
    return PartFacts(
        name="embed",
        kinds=(ENCODER_LAYER,),
        tensors=tuple((f"tower.{name}", shape) for name, shape in shapes.items()),
        flops_per_row=2 * sum(prod(shape) for shape in matrices),
        flops_per_pair=((ALL, 4 * section.hidden * section.layers),),
        kept=Keeps.alike(Kept(section.patch_dim + kept, cut="rows")),
        hidden_out=section.hidden,
    )


def _problems(where: str, section: CustomConfig, layout: LayoutConfig) -> Iterator[Problem]:
    yield from projector_problems(f"{where}.model", section)
    yield from image_problems(f"{where}.model", section.image, section.patch, section.merge)
    known = section.name in CUSTOM_MODULES
    if not known:
        expected = f"a registered name: {', '.join(CUSTOM_MODULES) or 'there is none'}"
        alike = nearest(section.name, CUSTOM_MODULES)
        remedy = "call counterpoint.register_module where the script that trains is imported, and start that script"
        remedy = remedy if alike is None else f"did you mean {alike}?"
        yield Problem(f"{where}.model.name", show(section.name), expected, remedy)
    if known and layout.tp > 1 and not CUSTOM_MODULES[section.name].tensor_rules:
        expected = f"1, because {section.name} was registered without tensor_rules"
        remedy = "leave it out or register the roles of its linears"
        yield Problem(f"{where}.layout.tp", f"{layout.tp}", expected, remedy)


def _check(where: str, section: CustomConfig, layout: LayoutConfig) -> None:
    """Raise ConfigError for a tensor rule without a matching linear layer, and for linears that tp does not divide."""
    spec = CUSTOM_MODULES[section.name]
    cut = list(fitting(spec, section.options))
    for pattern in spec.tensor_rules.keys() - {pattern for pattern, *_layer in cut}:
        raise ConfigError(
            f"register_module: {section.name}: tensor_rules: got {pattern!r}, which fits no linear layer, expected a "
            f"pattern of names like {next(iter(_measured(section).linears), 'none, it has no linear layer')!r}; "
            "correct it"
        )
    for _pattern, name, role, size in cut:
        if size % layout.tp:
            raise ConfigError(
                f"{where}.layout.tp: got {layout.tp} for the {size} {role} of {name}, expected a divisor; change "
                "tp or the model"
            )


def can_cut(section: CustomConfig, tp: int) -> bool:
    """Whether a registered encoder can be sharded over `tp` ranks."""
    cut = [size for _pattern, _name, _role, size in fitting(CUSTOM_MODULES[section.name], section.options)]
    return tp == 1 or (bool(cut) and all(size % tp == 0 for size in cut))


def _rules(section: CustomConfig) -> tuple[TensorRule, ...]:
    """The registered roles; all other parameters are replicated."""
    rules: list[TensorRule] = []
    for pattern, role in CUSTOM_MODULES[section.name].tensor_rules.items():
        name = f"{_TOWER}.{pattern}"
        rules.append(TensorRule(f"{name}.weight", role))
        rules.append(TensorRule(f"{name}.bias", "outputs" if role == "outputs" else "whole"))
    return (*rules, TensorRule(f"{_TOWER}.*", "whole"), *projector_rules(section))


def _initial(section: CustomConfig) -> tuple[Initial, ...]:
    """The registered distributions; other vectors except biases are ones, since their names follow no convention."""
    given = [Initial(f"{_TOWER}.{pattern}", *of) for pattern, of in CUSTOM_MODULES[section.name].initial.items()]
    shapes = _measured(section).parameters
    is_gain = [name for name, shape in shapes.items() if len(shape) == 1 and name.rpartition(".")[2] == "weight"]
    gains = [Initial(f"{_TOWER}.{name}", mean=1.0) for name in is_gain]
    return (*given, *gains, Initial(f"{_TOWER}.*bias"), Initial(f"{_TOWER}.*", std=0.02))


def _given(section: CustomConfig) -> Given | None:
    """The registered initial weights; raises ConfigError unless their names are exactly the parameters."""
    weights = CUSTOM_MODULES[section.name].weights
    if weights is None:
        return None
    tensors: Mapping[str, Any] = dict(weights(section.options))
    known = _measured(section).parameters.keys()
    unknown, missing = sorted(tensors.keys() - known), sorted(known - tensors.keys())
    if unknown or missing:
        raise ConfigError(
            f"the weights of the registered module {section.name}: got {unknown or 'none'} beyond its parameters and "
            f"none for {missing or 'none'}, expected one for each; rename, add or drop them in `weights`"
        )
    return Given(f"the registered module {section.name}", f"{_TOWER}.", tensors)


def _intake(module: str, section: CustomConfig, mark: str) -> ImageIntake:
    return ImageIntake(
        module,
        section.image,
        patch=section.patch,
        merge=section.merge,
        channels=CHANNELS,
        mark=mark,
        queries=section.queries,
    )


CUSTOM = Family(
    section=CustomConfig,
    called="an encoder that is not ours",
    takes=lambda _section: IMAGES.name,
    intake=_intake,
    facts=_facts,
    cuts=projector_cuts,
    problems=_problems,
    check=_check,
    can_cut=can_cut,
    rules=_rules,
    initial=_initial,
    given=_given,
    whole="a registered module is one piece and sees whole images",
    fixed=("pp", "chunks", "cp"),
    is_pure=False,
    parts="counterpoint.families.custom.model:parts",
)
