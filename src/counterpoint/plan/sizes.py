"""The sizes of the models, as plain data: what the plan computes costs from and the models are built from."""

from dataclasses import dataclass
from typing import Literal

Activation = Literal["swiglu", "relu2"]
ProjectorKind = Literal["mlp", "linear"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderSizes:
    """A causal decoder; `pattern` has one character per residual layer: `*` attention, `-` MLP."""

    pattern: str
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    tied: bool = False
    activation: Activation = "swiglu"
    rope_theta: float | None = 10000.0
    qk_norm: bool = False
    norm_eps: float = 1e-5
    bias: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VitSizes:
    """A vision transformer and its projector; `positions` is the side of the table of learned positions."""

    layers: int
    hidden: int
    heads: int
    ffn: int
    patch: int
    out: int
    positions: int
    channels: int = 3
    merge: int = 1
    norm_eps: float = 1e-6
    projector: ProjectorKind = "mlp"
    projector_hidden: int = 0
    projector_norm: bool = False

    @property
    def patch_dim(self) -> int:
        """Values of one flattened patch, in (channel, row, column) order."""
        return self.channels * self.patch * self.patch

    @property
    def merged(self) -> int:
        """Width of one group of merge x merge patches laid side by side."""
        return self.hidden * self.merge * self.merge


ModelSizes = DecoderSizes | VitSizes
