"""Whether what a plug-in brings fits beside what is there."""

from collections.abc import Iterator
from typing import Literal, get_args, get_origin

from counterpoint.errors import ConfigError
from counterpoint.kinds.modality import SIZES, Modality
from counterpoint.modalities import MODALITIES
from counterpoint.plugins.plugin import Plugin
from counterpoint.plugins.typed import first_misfit
from counterpoint.section.problem import show
from counterpoint.section.section import Section
from counterpoint.sources.entry import Entry

_OF_ENTRIES = tuple(name for name in vars(Entry) if not name.startswith("_"))
"""What the section of a source has."""


def check_types(plugin: Plugin, where: str) -> None:
    """Raise ConfigError, which begins with `where`, for a value that is not of the type which its class declares, and
    for a source whose section is no `Entry`."""
    misfit = first_misfit(plugin, Plugin)
    if misfit is not None:
        raise ConfigError(
            f"{where}: {misfit.path.removeprefix('.')}: got {misfit.got}, expected {misfit.expected}; correct the "
            "package"
        )
    for name, section in plugin.sources.items():
        lacking = [member for member in _OF_ENTRIES if member not in {*dir(section), *section.model_fields}]
        if lacking:
            raise ConfigError(
                f"{where}: sources[{show(name)}]: got the class {section.__name__} without {', '.join(lacking)}, "
                f"expected the keys and methods of counterpoint.extend.Entry, {', '.join(_OF_ENTRIES)}; add them"
            )


def check_section(name: str, section: type[Section], where: str) -> None:
    """Raise ConfigError, which begins with `where`, unless a section is chosen by the name of its kind and can be read.

    Validators are built when a section is first read; that of a plug-in is built here.
    """
    annotation = section.model_fields["kind"].annotation
    if get_origin(annotation) is not Literal or name not in get_args(annotation):
        raise ConfigError(
            f"{where}: got the section {section.__name__} with kind: {_shown(annotation)}, expected kind: "
            f"Literal[{show(name)}]; correct the section or the name"
        )
    try:
        section.model_rebuild()
    except Exception as error:
        words = str(error).partition("\n")[0].rstrip(".")
        raise ConfigError(
            f"{where}: building the section {section.__name__} raised {type(error).__name__}: {words}; expected keys "
            "of types that pydantic can validate; correct the package"
        ) from None


def _shown(annotation: object) -> str:
    return repr(annotation).replace("typing.", "")


def check_modality(modality: Modality, where: str) -> None:
    """Raise ConfigError, which begins with `where`, for what another modality says, or sizes that no index has."""
    unknown = [column for column in modality.columns if column not in SIZES]
    if unknown:
        raise ConfigError(
            f"{where}: got the column {show(unknown[0])} for sizes, expected some of {', '.join(SIZES)}, which "
            "an index has; take those"
        )
    taken = {claim: other.name for other in MODALITIES.values() for claim in _claims(other)}
    for what, value in _claims(modality):
        if (what, value) in taken:
            raise ConfigError(
                f"{where}: got the {what} {show(value)}, which is that of {taken[what, value]}, expected one of its "
                "own; choose another"
            )


def _claims(modality: Modality) -> Iterator[tuple[str, str | int]]:
    """What a modality says that no other may say."""
    for form in modality.forms:
        yield from (("key of records", key) for key in (form.key, form.plural) if key is not None)
        yield "mark", form.mark
    yield from (("type of parts", part.type) for part in modality.parts)
    yield from (("count of a manifest", count) for count in modality.counts)
    drawing = modality.drawing
    yield from (("key of recipes", key) for key in (drawing.number, drawing.without, *drawing.sizes))
    yield from (("random stream", number) for number in (drawing.stream, drawing.module_stream) if number is not None)
