"""The kinds of residual layers of decoders."""

from typing import Annotated, Any

from counterpoint.kinds.layer import LayerKind, LayerSection
from counterpoint.kinds.sections import sections_in
from counterpoint.layers.attention.spec import ATTENTION
from counterpoint.layers.mamba.spec import MAMBA
from counterpoint.layers.mlp.spec import MLP
from counterpoint.layers.moe.spec import MOE
from counterpoint.registry import Registry
from counterpoint.section.of_kind import OfKind

LAYERS: Registry[LayerKind[Any]] = Registry("layer", {"attention": ATTENTION, "mlp": MLP, "mamba": MAMBA, "moe": MOE})

LayerConfig = Annotated[LayerSection, OfKind(sections_in(LAYERS))]
"""The section of any registered layer."""
