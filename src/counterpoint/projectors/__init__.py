"""Kinds of projectors: the last part of an encoder, from its rows to those of the module that reads them."""

from typing import Annotated, Any

from counterpoint.kinds.projector import ProjectorKind, ProjectorSection
from counterpoint.kinds.sections import sections_in
from counterpoint.projectors.linear.spec import LINEAR
from counterpoint.projectors.mlp.spec import MLP
from counterpoint.projectors.resampler.spec import RESAMPLER
from counterpoint.registry import Registry
from counterpoint.section.of_kind import OfKind

PROJECTORS: Registry[ProjectorKind[Any]] = Registry("projector", {"mlp": MLP, "linear": LINEAR, "resampler": RESAMPLER})

ProjectorConfig = Annotated[ProjectorSection, OfKind(sections_in(PROJECTORS))]
"""Any registered projector's section."""
