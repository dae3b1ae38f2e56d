"""Section and facts of Muon, without torch."""

from fnmatch import fnmatchcase
from random import Random
from typing import Annotated, Any, Literal

from pydantic import Field

from counterpoint.optimizers.adamw.spec import MOMENTS as MOMENTS_OF_ADAMW
from counterpoint.optimizers.adamw.spec import AdamWSection, Beta, Betas
from counterpoint.optimizers.kind import GroupSection, OptimizerKind, OptimizerSection
from counterpoint.plan.part_facts import EXPERTS
from counterpoint.section.section import NonNegative, Patterns, Positive

_Iterations = Annotated[int, Field(ge=1, le=20)]

MOMENTUM = "momentum"
"""The moment of a hidden matrix."""

WORDS = ("embed.weight", "head.weight")
"""Vocabulary tables, which AdamW always updates: they are no maps between hidden rows."""


class MuonGroup(GroupSection):
    """A parameter group of Muon."""

    momentum: Beta | None = None
    """Decay rate of the momentum for the group (null: that of the module). No unit."""
    betas: Betas | None = None
    """Decay rates of AdamW's running means for the group (null: those of the module). No unit."""
    weight_decay: NonNegative | None = None
    """Weight decay of the group (null: that of the module); `no_decay` of the module holds here too. No unit."""


class MuonSection(OptimizerSection):
    """Muon for hidden matrices, AdamW with the same learning rate for all other parameters."""

    kind: Literal["muon"]
    momentum: Beta = 0.95
    """Decay rate of the running mean of a matrix's gradient. No unit."""
    nesterov: bool = True
    """Whether the update uses Nesterov momentum: the running mean with the current gradient added once more."""
    rms: Positive = 0.2
    """Root mean square of a matrix's update before it is multiplied by the learning rate; 0.2 is about AdamW's, so that
    the same learning rate and weight decay suit both. No unit."""
    iterations: _Iterations = 5
    """Newton-Schulz iterations that orthogonalise an update, in `training.precision.compute`. No unit."""
    adamw_for: Patterns = ("embed.*", "*router*", "*_conv.*", "*norm*")
    """Shell-style patterns of names of matrices that AdamW updates; it always updates vectors, tensors of three and
    more dimensions other than stacked experts, and the tables of words of embedding and head. A pattern that is no
    default fits at least one parameter."""
    betas: Betas = (0.9, 0.999)
    """AdamW: decay rates of the running means of the gradient and of its square. No unit."""
    eps: Positive = 1e-8
    """Added to divisors: to AdamW's root of the mean square, and to the norm by which a matrix is divided before its
    iterations. No unit."""
    weight_decay: NonNegative = 0.01
    """Decoupled weight decay: in each step parameters shrink by learning rate x this. No unit."""
    no_decay: Patterns = ("*bias", "*norm*", "embed.*")
    """Shell-style patterns of names of parameters without weight decay; parameters with fewer than two dimensions never
    have it."""
    groups: Annotated[tuple[MuonGroup, ...], Field(strict=False)] = ()
    """Parameter groups by name pattern, each with its own values of some keys; the first match counts."""

    @property
    def others(self) -> AdamWSection:
        """The AdamW section of all parameters that are no hidden matrices."""
        return AdamWSection(
            lr=self.lr,
            schedule=self.schedule,
            betas=self.betas,
            eps=self.eps,
            weight_decay=self.weight_decay,
            no_decay=self.no_decay,
        )


def is_hidden_matrix(section: MuonSection, name: str, shape: tuple[int, ...]) -> bool:
    """Whether Muon updates a parameter: a matrix (outputs, inputs), or a stack of experts' matrices."""
    is_matrix = len(shape) == 2 or (len(shape) == 3 and EXPERTS in name)
    return is_matrix and name not in WORDS and not any(fnmatchcase(name, pattern) for pattern in section.adamw_for)


def _moments(section: MuonSection, name: str, shape: tuple[int, ...]) -> tuple[str, ...]:
    return (MOMENTUM,) if is_hidden_matrix(section, name, shape) else MOMENTS_OF_ADAMW


def _drawn(generator: Random) -> dict[str, Any]:
    """Some with matrices in Muon that AdamW usually updates."""
    left: dict[str, Any] = generator.choice([{}, {}, {"adamw_for": []}, {"adamw_for": ["*.attention.*", "embed.*"]}])
    nesterov = generator.choice([True, True, False])
    return {"nesterov": nesterov, "momentum": generator.choice([0.95, 0.5]), **left}


MUON = OptimizerKind(
    section=MuonSection,
    moments=_moments,
    exchanges=is_hidden_matrix,
    update="counterpoint.optimizers.muon.update:MuonUpdate",
    plain="counterpoint.verify.muon:plain_muon",
    drawn=_drawn,
    patterns=("adamw_for",),
)
