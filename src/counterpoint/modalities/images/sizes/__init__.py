"""Size rules of pictures, each in a file of its own; `longer`, that of the keys `size` and `max_patches`, is the rule
where a section names none of these."""

from typing import Annotated

from counterpoint.modalities.images.sizes.between import BetweenConfig
from counterpoint.modalities.images.sizes.budget import BudgetConfig
from counterpoint.modalities.images.sizes.crop import CropConfig
from counterpoint.modalities.images.sizes.naflex import NaflexConfig
from counterpoint.modalities.images.sizes.pad import PadConfig
from counterpoint.modalities.images.sizes.rule import SizeRule
from counterpoint.modalities.images.sizes.shortest import ShortestConfig
from counterpoint.modalities.images.sizes.stretch import StretchConfig
from counterpoint.modalities.images.sizes.total import TotalConfig
from counterpoint.registry import Registry
from counterpoint.section.of_kind import OfKind

RESIZES: Registry[type[SizeRule]] = Registry(
    "resize",
    {
        "crop": CropConfig,
        "stretch": StretchConfig,
        "shortest": ShortestConfig,
        "pad": PadConfig,
        "budget": BudgetConfig,
        "naflex": NaflexConfig,
        "between": BetweenConfig,
        "total": TotalConfig,
    },
)
"""By the key `kind` of a section `image.resize`."""

ResizeConfig = Annotated[SizeRule, OfKind(lambda: dict(RESIZES.items()))]
"""Any size rule's section."""
