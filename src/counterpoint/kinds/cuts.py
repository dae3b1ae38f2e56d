"""What the degrees of a layout must divide."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Sizes = Mapping[str, int]
"""Numbers by their keys in a section."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cuts:
    """What tensor parallelism cuts, heads that context parallelism shares out, and what the expert view deals and cuts
    (`ep`, `etp`); without any of the last two a model has no experts."""

    tp: Sizes = field(default_factory=dict)
    cp: Sizes = field(default_factory=dict)
    ep: Sizes = field(default_factory=dict)
    etp: Sizes = field(default_factory=dict)

    @property
    def has_experts(self) -> bool:
        """Whether the expert view has something to deal."""
        return bool(self.ep)

    def below(self, key: str) -> "Cuts":
        """The same of a section that lies at `key`."""
        return Cuts(
            **{axis: {f"{key}.{name}": size for name, size in sizes.items()} for axis, sizes in self._by_axis.items()}
        )

    @classmethod
    def of_all(cls, cuts: Iterable["Cuts"]) -> "Cuts":
        """What any of some cuts has; of equal keys there is one."""
        merged: dict[str, dict[str, int]] = {"tp": {}, "cp": {}, "ep": {}, "etp": {}}
        for one in cuts:
            for axis, sizes in one._by_axis.items():
                merged[axis] |= sizes
        return cls(**merged)

    @property
    def _by_axis(self) -> dict[str, Sizes]:
        return {"tp": self.tp, "cp": self.cp, "ep": self.ep, "etp": self.etp}
