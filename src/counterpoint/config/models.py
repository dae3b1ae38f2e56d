"""What a module computes: the sizes of its model, told apart by `kind`."""

from typing import Annotated, Any, Literal

from pydantic import Field

from counterpoint.modalities.clips.spec import AudioConfig
from counterpoint.modalities.images.spec import ImageConfig
from counterpoint.section.section import Count, Index, NonNegative, Positive, Section, Several, Text, matching

LayerPattern = Annotated[
    str, matching(r"[*\-ME]{1,10000}", "a letter of *, -, M and E for each of 10,000 layers or fewer")
]

NormKind = Literal["none", "layer", "rms"]

RopeSections = Annotated[tuple[Index, Index, Index], Field(strict=False)]
"""Pairs of an attention head that turn with time, height and width."""


class MlpProjectorConfig(Section):
    """A norm and two linear layers with an activation between them, from the encoder's width to the target's."""

    kind: Literal["mlp"]
    hidden: Count
    activation: Literal["gelu", "gelu_tanh", "quick_gelu", "relu2"] = "gelu_tanh"
    norm: NormKind = "none"
    norm_eps: Positive = 1e-6
    bias: bool = True


class LinearProjectorConfig(Section):
    """A norm and one linear layer, affine where it has a bias, from the encoder's width to the target's."""

    kind: Literal["linear"]
    norm: NormKind = "none"
    norm_eps: Positive = 1e-6
    bias: bool = True


ProjectorConfig = Annotated[MlpProjectorConfig | LinearProjectorConfig, Field(discriminator="kind")]


class ProjectedConfig(Section):
    """Layers whose rows see the rows of their item, and the projector to what reads them.

    Projectors of features of other depths have the norm `tap_norm` in the place of the projector's.
    """

    layers: Several
    hidden: Count
    heads: Count
    ffn: Count
    norm_eps: Positive = 1e-6
    projector: ProjectorConfig
    tap_norm: NormKind = "none"

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


class TowerConfig(ProjectedConfig):
    """A transformer and its projector.

    `activation: swiglu` has a gate beside it; `layer_scale` multiplies what attention and MLP add by learned gains.
    """

    norm: Literal["layer", "rms"] = "layer"
    activation: Literal["gelu", "gelu_tanh", "quick_gelu", "relu2", "swiglu"] = "gelu_tanh"
    qkv_bias: bool = True
    layer_scale: bool = False
    final_norm: bool = True


class VitConfig(TowerConfig):
    """A vision transformer and its projector.

    `image` says how pictures become patches. `patch` is in pixels, of `frames` pictures: consecutive ones of a
    video, or one image in each; `positions` is the side of the learned position grid (0: none), which `fit`
    interpolates to each image; `rotary_theta` turns heads by a patch's row and column. `prefix` learned rows (class
    and register tokens) go before each image and end with the last layer. `merge` x `merge` patches become one row
    of the target. Layers look into windows of `window` x `window` patches but for `full_layers`.
    """

    kind: Literal["vit"]
    image: ImageConfig
    patch: Count
    frames: Count = 1
    patch_bias: bool = True
    positions: Index = 16
    fit: Literal["stretch", "crop", "corners", "antialias"] = "stretch"
    rotary_theta: Positive | None = None
    prefix: Index = 0
    embed_norm: bool = False
    merge: Count = 1
    window: Count | None = None
    full_layers: Annotated[tuple[Index, ...], Field(strict=False)] = ()


class WhisperConfig(TowerConfig):
    """Whisper's encoder of clips and its projector.

    Clips are frames of `mels` bands, 100 a second; two become a row, of which a clip has at most `positions`, 1500 in
    30 seconds. `stack` consecutive rows become one row of the target. The table of positions begins as sinusoids; to
    keep it so, train `embed.conv*` and the other parts by name.
    """

    kind: Literal["whisper"]
    audio: AudioConfig = AudioConfig()
    norm_eps: Positive = 1e-5
    activation: Literal["gelu", "gelu_tanh", "quick_gelu", "relu2", "swiglu"] = "gelu"
    mels: Count = 80
    positions: Count = 1500
    stack: Count = 1

    @property
    def stride(self) -> int:
        """Frames from one row to the next."""
        return 2

    @property
    def window(self) -> int:
        """Frames that a row is made of: those under its filter of three, each made of three."""
        return 5


class ConformerConfig(ProjectedConfig):
    """Parakeet's FastConformer encoder of clips and its projector.

    Clips are frames of `mels` bands, 100 a second, each band normalised over the clip; three convolutions of
    `stem_channels` make a row of every eight, of which a clip has at most `positions`. A layer convolves `conv` rows.
    `bias` is of attention and MLPs, `conv_bias` of the convolution; `scale_input` multiplies the first rows by
    the root of their width.
    """

    kind: Literal["conformer"]
    audio: AudioConfig = AudioConfig()
    norm_eps: Positive = 1e-5
    mels: Count = 80
    positions: Count = 5000
    stem_channels: Count = 256
    conv: Count = 9
    bias: bool = True
    conv_bias: bool = True
    scale_input: bool = True

    @property
    def stack(self) -> int:
        """Rows that become one row of the target."""
        return 1

    @property
    def stride(self) -> int:
        """Frames from one row to the next."""
        return 8

    @property
    def window(self) -> int:
        """Frames that a row is made of: each halving makes a place of three, which overlap in one."""
        return 2 * self.stride - 1


class CustomConfig(Section):
    """An encoder of images that `counterpoint.register_module` made known as `name`, and our projector.

    It makes a row of `hidden` numbers of each `patch` x `patch` pixels; `merge` x `merge` of them become one row of the
    target. `options` are handed to what builds it. With `layers` of attention its work is estimated.
    """

    kind: Literal["custom"]
    name: Text
    hidden: Count
    layers: Index = 0
    image: ImageConfig
    patch: Count
    merge: Count = 1
    options: dict[str, Any] = Field(default_factory=dict)
    projector: ProjectorConfig

    @property
    def frames(self) -> int:
        """Pictures behind each other in a patch: one."""
        return 1

    @property
    def num_layers(self) -> int:
        """Layers that pipeline stages are cut from: it stays whole."""
        return 1


class FeaturesConfig(Section):
    """Features of items that were computed beforehand, rows `width` wide, and the projector to what reads them."""

    kind: Literal["features"]
    width: Count
    projector: ProjectorConfig

    @property
    def hidden(self) -> int:
        """Width of the rows that the projector reads."""
        return self.width

    @property
    def num_layers(self) -> int:
        """Layers that pipeline stages are cut from: there is none, and one stage."""
        return 1


class AdapterConfig(TowerConfig):
    """A transformer over the features of each item that other encoders made, and its projector.

    `inputs` is the width of these features; left out it is the language model's.
    """

    kind: Literal["adapter"]
    inputs: Count | None = None


ClipEncoderConfig = WhisperConfig | ConformerConfig
"""A model that clips enter."""

ImageEncoderConfig = VitConfig | CustomConfig
"""A model that images enter."""

ItemEncoderConfig = ImageEncoderConfig | ClipEncoderConfig | FeaturesConfig
"""A model that items enter, not rows of other modules."""

LayeredConfig = VitConfig | ClipEncoderConfig | AdapterConfig
"""An encoder of layers that are ours."""

EncoderConfig = ItemEncoderConfig | AdapterConfig
"""A model whose rows enter other modules."""


class MambaConfig(Section):
    """The Mamba-2 layers of a decoder.

    `groups` of heads share what they read and write, `state` numbers for each channel; `conv` rows are convolved, and
    `chunk` rows computed at once. Steps of the recurrence are at least `dt_min` (null: any).
    """

    heads: Count
    head_dim: Count
    groups: Count = 1
    state: Count
    conv: Count = 4
    chunk: Count = 64
    dt_min: Positive | None = None


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


class MtpConfig(Section):
    """Multi-token prediction: `depths` tokens behind the next one are predicted in training, too.

    Each depth has layers of its own by the letters of `pattern`, with the sizes of the decoder's; embedding and head
    are the decoder's own. The mean loss of the depths takes part with the factor `weight`.
    """

    depths: Several = 1
    pattern: LayerPattern
    weight: Positive = 0.1


class RopeScalingConfig(Section):
    """Rotary positions of a decoder for longer documents, as Llama 3.1 scales them.

    Pairs that turn fewer than `low_freq_factor` times in `original_positions` tokens turn `factor` times slower, those
    that turn more than `high_freq_factor` times as before, and those between them by a mean of both.
    """

    factor: Positive
    low_freq_factor: Positive = 1.0
    high_freq_factor: Positive = 4.0
    original_positions: Count = 8192


def can_interleave(sections: tuple[int, int, int]) -> bool:
    """Whether every third pair from the second is enough for height, and from the third for width."""
    _time, height, width = sections
    pairs = sum(sections)
    return 3 * height <= pairs + 1 and 3 * width <= pairs


class DecoderConfig(Section):
    """A causal decoder.

    `pattern` has one letter per residual layer: `*` attention, `-` MLP, `M` Mamba-2, `E` experts; `ffn`, `mamba` and
    `moe` belong to the last three. `kv_heads` left out is `heads`, `head_dim` left out `hidden / heads`.
    `rope_theta: null` is no rotation; `rope_sections` turns so many pairs with a row's time, height and width, which
    take turns with `rope_interleaved`; `rope_scaling` is for longer documents.
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
    rope_interleaved: bool = False
    rope_scaling: RopeScalingConfig | None = None
    qk_norm: bool = False
    qkv_bias: bool = False
    norm_eps: Positive = 1e-5
    mamba: MambaConfig | None = None
    moe: MoeConfig | None = None
    mtp: MtpConfig | None = None

    @property
    def num_layers(self) -> int:
        """Layers that pipeline stages are cut from: one per letter of the pattern."""
        return len(self.pattern)

    @property
    def kinds(self) -> frozenset[str]:
        """The letters of all layers, those of multi-token prediction too."""
        return frozenset(self.pattern) | frozenset("" if self.mtp is None else self.mtp.pattern)

    @property
    def mtp_depths(self) -> int:
        """Tokens that are predicted beside the next one."""
        return 0 if self.mtp is None else self.mtp.depths

    @property
    def num_kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.heads if self.kv_heads is None else self.kv_heads

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads if self.head_dim is None else self.head_dim


ModelConfig = Annotated[EncoderConfig | DecoderConfig, Field(discriminator="kind")]
