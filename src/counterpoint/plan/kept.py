"""What forward keeps for backward: tensors by their elements per row, their dtype, and how they are cut."""

from dataclasses import dataclass, replace
from typing import Literal

from counterpoint.plan.activations import KEEPS_ALL, ActivationPolicy

Path = Literal["plain", "kernels", "compiled"]
"""Which code computes layers: plain torch, kernels for narrow dtypes on GPUs, or these and torch.compile."""

Form = Literal["compute", "wide", "widened", "narrowed", "float64", "int64", "int32", "byte"]
"""A dtype: that of the computation, the same but at least float32, or a fixed one. Where both are the same dtype nobody
makes a copy that is `widened` or `narrowed`."""

Cut = Literal["columns", "rows", "gathered", "choices", "inner"]
"""How the ranks of a lane share a tensor: by columns under tp and by rows under cp (`columns`), by rows under both, as
long as tp cuts the rows of residuals (`rows`), by rows under cp only (`gathered`: tp gathers them), or as the rows that
chose local experts (`choices`) and their values inside these, which etp cuts (`inner`)."""

ATTENTION = "attention"
"""`of` for what attention's kernel makes: its output and log-sum-exp."""

_FIXED = {"float64": 8, "int64": 8, "int32": 4, "byte": 1}
_NARROWEST_WIDE = 4


@dataclass(frozen=True, slots=True)
class Kept:
    """A tensor that waits for backward, `elements` for every row that enters the module.

    If it is an output `of` a cheap part (`norms`, `activations`, `convs`), a policy that discards these need not keep
    it; one that stands `instead` of such outputs is kept only then. If it `is_read`, products with weights keep it for
    the weights' gradients, and unless attention made it for these alone.
    """

    elements: float
    form: Form = "compute"
    cut: Cut = "columns"
    of: str = ""
    instead: str = ""
    is_read: bool = False

    def bytes_each(self, computed: int) -> int:
        """Bytes of an element where values are computed in `computed` bytes."""
        if self.form in _FIXED:
            return _FIXED[self.form]
        wide = max(computed, _NARROWEST_WIDE)
        copied = 0 if wide == computed else wide if self.form == "widened" else computed
        return {"compute": computed, "wide": wide}.get(self.form, copied)

    def is_kept(self, policy: ActivationPolicy = KEEPS_ALL) -> bool:
        """Whether a policy keeps it in a layer that is not recomputed as a whole."""
        return self.of not in policy.discards and (not self.instead or self.instead in policy.discards)

    def scaled(self, factor: float) -> "Kept":
        """The same with `factor` times the elements, for rows that are fewer or more than those that enter."""
        return replace(self, elements=self.elements * factor)


@dataclass(frozen=True, slots=True)
class Keeps:
    """The tensors that forward keeps on each path."""

    plain: tuple[Kept, ...] = ()
    kernels: tuple[Kept, ...] = ()
    compiled: tuple[Kept, ...] = ()

    @staticmethod
    def alike(*kept: Kept) -> "Keeps":
        """The same tensors on every path."""
        return Keeps(kept, kept, kept)

    def on(self, path: Path) -> tuple[Kept, ...]:
        """The tensors that a path keeps."""
        return {"plain": self.plain, "kernels": self.kernels, "compiled": self.compiled}[path]

    @property
    def eager(self) -> "Keeps":
        """The same where no compiler sees it."""
        return Keeps(self.plain, self.kernels, self.kernels)

    def __add__(self, other: "Keeps") -> "Keeps":
        return Keeps(self.plain + other.plain, self.kernels + other.kernels, self.compiled + other.compiled)

    def scaled(self, factor: float) -> "Keeps":
        """Each tensor with `factor` times the elements."""
        plain, kernels, compiled = (
            tuple(one.scaled(factor) for one in kept) for kept in (self.plain, self.kernels, self.compiled)
        )
        return Keeps(plain, kernels, compiled)


KEEPS_NOTHING = Keeps()
