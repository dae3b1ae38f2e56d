"""The families of models that a module can have."""

from typing import Annotated, Any

from counterpoint.families.adapter.spec import ADAPTER
from counterpoint.families.conformer.spec import CONFORMER
from counterpoint.families.convnext.spec import CONVNEXT
from counterpoint.families.custom.spec import CUSTOM
from counterpoint.families.decoder.spec import DECODER
from counterpoint.families.features.spec import FEATURES
from counterpoint.families.vit.spec import VIT
from counterpoint.families.whisper.spec import WHISPER
from counterpoint.kinds.family import Family, Model, ModelSection
from counterpoint.kinds.modality import Intake, Modality
from counterpoint.kinds.rules import ON_ROWS, PLAIN, Initial, TensorRule
from counterpoint.kinds.sections import sections_in
from counterpoint.modalities import MODALITIES
from counterpoint.plan.model_facts import ModelFacts
from counterpoint.registry import Registry
from counterpoint.section.of_kind import OfKind

FAMILIES: Registry[Family[Any]] = Registry(
    "family",
    {
        "vit": VIT,
        "custom": CUSTOM,
        "convnext": CONVNEXT,
        "whisper": WHISPER,
        "conformer": CONFORMER,
        "features": FEATURES,
        "adapter": ADAPTER,
        "decoder": DECODER,
    },
)

ModelConfig = Annotated[ModelSection, OfKind(sections_in(FAMILIES))]
"""The section of a model of any registered family."""


def family_of(section: ModelSection) -> Family[Any]:
    """The family that a section names."""
    return FAMILIES[section.kind]


def rules_of(section: ModelSection) -> tuple[TensorRule, ...]:
    """How tensor parallelism shards a model's parameters, by name pattern; the first match counts."""
    return (*family_of(section).rules(section), *ON_ROWS)


def initial_of(section: ModelSection) -> tuple[Initial, ...]:
    """The initial distributions of a model's parameters, by name pattern; the first match counts."""
    return (*family_of(section).initial(section), *PLAIN)


def meaning_of(section: ModelSection) -> dict[str, Any]:
    """The values of a section's keys that determine the tensors of its model; keys of its item section are left out."""
    keys = section.model_dump(exclude={"image", "audio"}) | dict(family_of(section).resolved(section))
    for path in family_of(section).steers:
        _leave_out(keys, path)
    return keys


def _leave_out(keys: dict[str, Any], path: str) -> None:
    *folders, leaf = path.split(".")
    for folder in folders:
        below = keys.get(folder)
        if below is None:
            return
        keys = below
    keys.pop(leaf, None)


def modality_of(section: ModelSection) -> Modality | None:
    """The modality that a model reads; None for decoders and adapters."""
    takes = family_of(section).takes
    return None if takes is None else MODALITIES[takes(section)]


def intake_of(module: str, section: ModelSection, mark: str) -> Intake | None:
    """The intake of a module; None for decoders and adapters."""
    intake = family_of(section).intake
    return None if intake is None else intake(module, section, mark)


def facts_of(model: Model) -> ModelFacts:
    """The facts of a model, computed without building it."""
    return family_of(model.section).facts(model.section, model.ends)
