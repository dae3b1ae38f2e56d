"""A module of a checkpoint, or a layer of it, as its config.json describes it, in the keys of our own sections."""

from typing import Any, TypeVar

from counterpoint.section.section import Section

S = TypeVar("S", bound=Section)


def described(section: type[S], **keys: Any) -> S:
    """A section with these keys and the defaults of others, as far as a config.json describes it.

    What makes the module's input of files, the keys `image` and `audio`, stands elsewhere and is absent.
    """
    kind = section.model_fields["kind"].annotation.__args__[0]  # type: ignore[union-attr]
    return section.model_construct(kind=kind, **keys)
