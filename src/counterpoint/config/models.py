"""What a module computes: the sizes of its model, told apart by `kind`."""

from typing import Annotated, Literal

from pydantic import Field

from counterpoint.config.section import Count, Index, NonNegative, Positive, Section, matching

LayerPattern = Annotated[str, matching(r"[*\-ME]+", "a letter of *, -, M and E for each layer")]

RopeSections = Annotated[tuple[Index, Index, Index], Field(strict=False)]
"""Pairs of an attention head that turn with time, height and width."""


class MlpProjectorConfig(Section):
    """Two linear layers with a GELU between them, from the encoder's width to the target's."""

    kind: Literal["mlp"]
    hidden: Count


class LinearProjectorConfig(Section):
    """One linear layer from the encoder's width to the target's."""

    kind: Literal["linear"]


ProjectorConfig = Annotated[MlpProjectorConfig | LinearProjectorConfig, Field(discriminator="kind")]


class TowerConfig(Section):
    """A transformer whose rows see all rows of their item, and the projector to what reads them."""

    layers: Count
    hidden: Count
    heads: Count
    ffn: Count
    projector: ProjectorConfig

    @property
    def num_layers(self) -> int:
        """Layers that pipeline stages are cut from."""
        return self.layers

    @property
    def num_kv_heads(self) -> int:
        """Heads of keys and values: all of them."""
        return self.heads

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads


class VitConfig(TowerConfig):
    """A vision transformer and its projector.

    `patch` is in pixels; `positions` is the side of the learned position grid, interpolated to each image;
    `merge` x `merge` patches become one row of the target.
    """

    kind: Literal["vit"]
    patch: Count
    positions: Count = 16
    merge: Count = 1


class AdapterConfig(TowerConfig):
    """A transformer over the features of each item that other encoders made, and its projector.

    `inputs` is the width of these features; left out it is the language model's.
    """

    kind: Literal["adapter"]
    inputs: Count | None = None


EncoderConfig = VitConfig | AdapterConfig
"""A model whose rows enter other modules."""


class MambaConfig(Section):
    """The Mamba-2 layers of a decoder.

    `groups` of heads share what they read and write, `state` numbers for each channel; `conv` rows are convolved, and
    `chunk` rows computed at once.
    """

    heads: Count
    head_dim: Count
    groups: Count = 1
    state: Count
    conv: Count = 4
    chunk: Count = 64


class MoeConfig(Section):
    """The mixtures of experts of a decoder.

    Each row goes to the `top_k` best of `experts`, and to the shared one where `shared_ffn` gives it a width.
    `normalize` makes the chosen scores sum to one, `scale` multiplies them. `bias_rate` moves the expert bias towards
    even loads once a step (null: there is none); `balance` weighs the balance loss of each document.
    """

    experts: Count
    top_k: Count
    ffn: Count
    shared_ffn: Index = 0
    router: Literal["softmax", "sigmoid"] = "softmax"
    normalize: bool = True
    scale: Positive = 1.0
    bias_rate: NonNegative | None = None
    balance: NonNegative = 0.0


class DecoderConfig(Section):
    """A causal decoder.

    `pattern` has one letter per residual layer: `*` attention, `-` MLP, `M` Mamba-2, `E` experts; `ffn`, `mamba` and
    `moe` belong to the last three. `kv_heads` left out is `heads`, `head_dim` left out `hidden / heads`.
    `rope_theta: null` is no rotation; `rope_sections` turns so many pairs with a row's time, height and width.
    """

    kind: Literal["decoder"]
    pattern: LayerPattern
    hidden: Count
    heads: Count
    kv_heads: Count | None = None
    head_dim: Count | None = None
    ffn: Count | None = None
    vocab: Count | Literal["tokenizer"]
    tied: bool = True
    activation: Literal["swiglu", "relu2"] = "swiglu"
    rope_theta: Positive | None = 10000.0
    rope_sections: RopeSections | None = None
    qk_norm: bool = False
    qkv_bias: bool = False
    norm_eps: Positive = 1e-5
    mamba: MambaConfig | None = None
    moe: MoeConfig | None = None

    @property
    def num_layers(self) -> int:
        """Layers that pipeline stages are cut from: one per letter of the pattern."""
        return len(self.pattern)

    @property
    def num_kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.heads if self.kv_heads is None else self.kv_heads

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads if self.head_dim is None else self.head_dim


ModelConfig = Annotated[EncoderConfig | DecoderConfig, Field(discriminator="kind")]
