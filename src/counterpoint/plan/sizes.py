"""The sizes of the models, as plain data: what the plan computes costs from and the models are built from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

NO_TOKEN = -1
"""Id of a row without a token: a placeholder, which features fill, or padding."""

NO_LABEL = -100
"""Label of a row without a loss."""

Activation = Literal["gelu", "gelu_tanh", "quick_gelu", "relu2", "swiglu"]
"""What stands between the two matrices of an MLP; `swiglu` has a third, the gate."""

NormKind = Literal["none", "layer", "rms"]
PositionFit = Literal["stretch", "crop", "corners", "antialias"]
"""How an image's grid reads a square table of positions, always by bilinear interpolation: over the whole table,
entries taken as areas; over the square that the image is cut from (RADIO); corner to corner (Qwen3-VL); or over the
whole table with a wider filter where the grid is coarser than the table (SigLIP 2)."""

DecoderActivation = Literal["swiglu", "relu2"]
ProjectorKind = Literal["mlp", "linear"]
RouterKind = Literal["softmax", "sigmoid"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MambaSizes:
    """A Mamba-2 layer: `heads` of `head_dim` channels, whose B and C are shared by the heads of a group.

    `conv` is the width of the causal convolution, `chunk` the rows that are computed as one matrix product. Steps of
    the recurrence are at least `dt_min`.
    """

    heads: int
    head_dim: int
    groups: int
    state: int
    conv: int = 4
    chunk: int = 64
    dt_min: float | None = None

    @property
    def inner(self) -> int:
        """Channels of all heads."""
        return self.heads * self.head_dim


@dataclass(frozen=True, slots=True, kw_only=True)
class MoeSizes:
    """A mixture of `experts` MLPs of width `ffn`: `top_k` of them see a row, and one of width `shared_ffn` sees all.

    Scores are a `softmax` or `sigmoid` of the router; with `normalize` a row's chosen scores sum to one; `scale`
    multiplies them. `bias_rate` None is no expert bias. `balance` weighs the per-document balance loss.
    """

    experts: int
    top_k: int
    ffn: int
    shared_ffn: int = 0
    router: RouterKind = "softmax"
    normalize: bool = True
    scale: float = 1.0
    bias_rate: float | None = None
    balance: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MtpSizes:
    """Multi-token prediction: `depths` more tokens, each by layers of its own, one per character of `pattern`.

    The loss of each depth weighs `weight / depths` beside that of the main head.
    """

    depths: int
    pattern: str
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeScaling:
    """Rotary positions for longer documents (Llama 3.1; Grattafiori et al., 2024, arXiv:2407.21783).

    Pairs that turn fewer than `low_freq_factor` times in `original_positions` rows turn `factor` times slower, those
    that turn more than `high_freq_factor` times as before, and those between them by a mean of both.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_positions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderSizes:
    """A causal decoder.

    `pattern` has one character per residual layer: `*` attention, `-` MLP, `M` Mamba-2, `E` experts; `ffn` is the
    MLPs' width, `mamba` and `moe` the sizes of the layers of those kinds. `rope_sections` are the pairs of a head that
    turn with the time, height and width of a row's position; None turns all of them with its one position. They follow
    each other, or with `rope_interleaved` take turns: every third pair turns with height, and the next with width.
    `bias` is of all linears of attention and MLP, `qkv_bias` of queries, keys and values. Features of other depths join
    the rows behind the layers `inserts`, which ascend. With `mtp` it predicts further tokens in training.
    """

    pattern: str
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    tied: bool = False
    activation: DecoderActivation = "swiglu"
    rope_theta: float | None = 10000.0
    rope_sections: tuple[int, int, int] | None = None
    rope_interleaved: bool = False
    rope_scaling: RopeScaling | None = None
    qk_norm: bool = False
    norm_eps: float = 1e-5
    bias: bool = False
    qkv_bias: bool = False
    mamba: MambaSizes | None = None
    moe: MoeSizes | None = None
    inserts: tuple[int, ...] = ()
    mtp: MtpSizes | None = None

    @property
    def mtp_depths(self) -> int:
        """Tokens that are predicted beside the next one."""
        return 0 if self.mtp is None else self.mtp.depths

    @property
    def position_axes(self) -> int:
        """Coordinates of a row's position: one, or time, height and width."""
        return 1 if self.rope_sections is None else len(self.rope_sections)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectorSizes:
    """From an encoder's rows to the width of what reads them: a norm, and one linear layer or two, `hidden` apart."""

    kind: ProjectorKind = "mlp"
    hidden: int = 0
    norm: NormKind = "none"
    norm_eps: float = 1e-6
    activation: Activation = "gelu_tanh"
    bias: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerSizes:
    """A transformer and its projector to rows `out` wide.

    What leaves its layers `taps`, which ascend, is handed on as well, each by a projector of its own, whose norm may be
    another. `layer_scale` multiplies what attention and MLP add by learned gains.
    """

    layers: int
    hidden: int
    heads: int
    ffn: int
    out: int
    norm: NormKind = "layer"
    norm_eps: float = 1e-6
    activation: Activation = "gelu_tanh"
    qkv_bias: bool = True
    key_bias: bool = True
    layer_scale: bool = False
    final_norm: bool = True
    projector: ProjectorSizes = ProjectorSizes()
    taps: tuple[int, ...] = ()
    tap_norm: NormKind = "none"

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads


@dataclass(frozen=True, slots=True, kw_only=True)
class VitSizes(TowerSizes):
    """A vision transformer and its projector.

    A patch has `frames` pictures behind each other. `positions` is the side of the table of learned positions, 0 for
    none, and `fit` how an image's grid reads it; `rotary_theta` turns heads by row and column. `prefix` learned rows
    go before each image and end with the last layer. `window` is the side, in patches, of the windows that
    layers not among `full_layers` look into, 0 for the whole image.
    """

    patch: int
    channels: int = 3
    frames: int = 1
    merge: int = 1
    patch_bias: bool = True
    positions: int = 0
    fit: PositionFit = "stretch"
    rotary_theta: float | None = None
    prefix: int = 0
    embed_norm: bool = False
    window: int = 0
    full_layers: tuple[int, ...] = ()

    @property
    def patch_dim(self) -> int:
        """Values of one flattened patch, in (channel, frame, row, column) order."""
        return self.channels * self.frames * self.patch * self.patch

    def is_windowed(self, layer: int) -> bool:
        """Whether a layer looks into windows only."""
        return self.window > 0 and layer not in self.full_layers


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSizes(TowerSizes):
    """A transformer over the features, `inputs` wide, that other encoders made of an item; nothing is merged."""

    inputs: int

    @property
    def merge(self) -> int:
        """Side of the groups of rows that are merged: one row."""
        return 1


@dataclass(frozen=True, slots=True, kw_only=True)
class WhisperSizes(TowerSizes):
    """A transformer over frames of `mels` log-mel bands and its projector (Radford et al., 2022, arXiv:2212.04356).

    Two convolutions make a row of every two frames; a clip has at most `positions` rows. `stack` consecutive rows leave
    as one.
    """

    mels: int
    positions: int
    stack: int = 1
    norm_eps: float = 1e-5
    activation: Activation = "gelu"
    key_bias: bool = False

    @property
    def window(self) -> int:
        """Frames that a row is made of: those under its filter of three, each made of three."""
        return 5

    @property
    def stride(self) -> int:
        """Frames from the middle of one row's window to that of the next."""
        return 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ConformerSizes(TowerSizes):
    """A FastConformer over frames of `mels` log-mel bands and its projector (Rekesh et al., 2023, arXiv:2305.05084).

    `halvings` strided convolutions of `stem_channels` make a row of every 2^halvings frames; `scale_input` multiplies
    rows by the root of their width. `conv` is the odd width of the convolution over time. `bias` is of the linears of
    attention and MLPs, `conv_bias` of all of the convolution sublayer. Mels are a multiple of 2^halvings; a clip has at
    most `positions` rows.
    """

    mels: int
    positions: int = 5000
    stem_channels: int
    halvings: int = 3
    conv: int = 9
    scale_input: bool = True
    bias: bool = True
    conv_bias: bool = True
    norm_eps: float = 1e-5

    @property
    def stride(self) -> int:
        """Frames from the middle of one row's window to that of the next."""
        return 1 << self.halvings

    @property
    def window(self) -> int:
        """Frames that a row is made of: each halving makes a place of three, which overlap in one."""
        return 2 * self.stride - 1

    @property
    def stem_mels(self) -> int:
        """Bands that are left of the mels."""
        return self.mels // self.stride

    @property
    def stack(self) -> int:
        """Consecutive rows that leave as one."""
        return 1


AudioSizes = WhisperSizes | ConformerSizes
"""Encoders of clips: a row is `window` frames of `mels` bands around every `stride`-th; `stack` rows leave as one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomSizes:
    """An encoder of images that its user registered as `name`, and our projector.

    Of a patch it makes a row of `hidden` numbers. `parameters` are their names and shapes as it was built;
    `tensor_rules` are (pattern of parameters, role), `initial` are (pattern, mean, std), which are relative to it.
    `build` makes the module, a `torch.nn.Module`, and `weights` reads values to start from by parameter name.
    """

    name: str
    hidden: int
    layers: int
    out: int
    patch: int
    merge: int = 1
    channels: int = 3
    projector: ProjectorSizes = ProjectorSizes()
    parameters: tuple[tuple[str, tuple[int, ...]], ...] = ()
    tensor_rules: tuple[tuple[str, str], ...] = ()
    initial: tuple[tuple[str, float, float], ...] = ()
    build: Callable[[], Any] = field(compare=False, repr=False)
    weights: Callable[[], Mapping[str, Any]] | None = field(default=None, compare=False, repr=False)

    @property
    def patch_dim(self) -> int:
        """Values of one flattened patch, in (channel, row, column) order."""
        return self.channels * self.patch * self.patch

    @property
    def prefix(self) -> int:
        """Rows of its own that a batch keeps before an image: none, whatever it adds inside."""
        return 0

    @property
    def window(self) -> int:
        """Side of the windows that a batch describes: none."""
        return 0


ImageSizes = VitSizes | CustomSizes
"""Encoders of images: a row is a patch, `merge` x `merge` rows leave as one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeaturesSizes:
    """Features `width` wide that were computed beforehand, and a projector to rows `out` wide."""

    width: int
    out: int
    projector: ProjectorSizes = ProjectorSizes()

    @property
    def hidden(self) -> int:
        """Width of what the projector reads."""
        return self.width


ItemSizes = ImageSizes | AudioSizes | FeaturesSizes
"""Encoders that items enter."""

EncoderSizes = ItemSizes | AdapterSizes
ModelSizes = DecoderSizes | EncoderSizes
