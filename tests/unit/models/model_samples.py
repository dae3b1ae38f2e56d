"""Small models with values, and batches for them, in float64."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from tests.intakes import image_batch, laid_image
from torch import Tensor

from counterpoint.modalities.lane import Laid
from counterpoint.models.batch import AudioBatch, Batch, FeatureBatch, MtpInputs, PatchBatch, TextBatch
from counterpoint.models.catalog import model_parts
from counterpoint.models.chain import Chain, Part, build_chain
from counterpoint.models.segments import Segments
from counterpoint.parallelize.blocks import whole_block
from counterpoint.parallelize.initialize import initialize_
from counterpoint.plan.sizes import (
    NO_LABEL,
    NO_TOKEN,
    AdapterSizes,
    ConformerSizes,
    DecoderSizes,
    MambaSizes,
    ModelSizes,
    MoeSizes,
    MtpSizes,
    ProjectorSizes,
    VitSizes,
    WhisperSizes,
)

LINEAR = ProjectorSizes(kind="linear")
LAYER_KINDS = frozenset("*-MEL")
"""All kinds of layers."""
DECODERS = {
    "grouped": DecoderSizes(
        pattern="*-*-", hidden=8, heads=4, kv_heads=2, head_dim=4, ffn=12, vocab=11, qk_norm=True
    ),
    "tied": DecoderSizes(
        pattern="*-", hidden=8, heads=2, kv_heads=2, head_dim=4, ffn=12, vocab=11, tied=True,
        activation="relu2", rope_theta=None, bias=True,
    ),
}  # fmt: skip
HYBRID = DecoderSizes(
    pattern="ME*E", hidden=8, heads=4, kv_heads=2, head_dim=4, ffn=0, vocab=11, activation="relu2", qkv_bias=True,
    rope_sections=(1, 1, 0),
    mamba=MambaSizes(heads=4, head_dim=3, groups=2, state=5, chunk=4),
    moe=MoeSizes(
        experts=4, top_k=2, ffn=6, shared_ffn=10, router="sigmoid", scale=2.5, bias_rate=1e-3, balance=0.1
    ),
)  # fmt: skip
GATED = replace(HYBRID, pattern="E*", activation="swiglu", rope_sections=None, moe=MoeSizes(experts=4, top_k=3, ffn=6))
TURNS = replace(
    DECODERS["grouped"], pattern="*-", head_dim=8, rope_theta=100.0, rope_sections=(2, 1, 1), rope_interleaved=True
)
DECODERS |= {"hybrid": HYBRID, "gated experts": GATED, "turns": TURNS}
DECODERS |= {
    "further": replace(DECODERS["grouped"], mtp=MtpSizes(depths=2, pattern="*-", weight=0.6)),
    "further experts": replace(HYBRID, tied=True, mtp=MtpSizes(depths=1, pattern="ME", weight=0.5)),
}
VITS = {
    "merging": VitSizes(
        layers=2, hidden=8, heads=2, ffn=12, patch=2, out=6, positions=4, merge=2,
        projector=ProjectorSizes(hidden=10, norm="layer"), tap_norm="layer",
    ),
    "linear": VitSizes(layers=1, hidden=8, heads=2, ffn=12, patch=2, out=6, positions=4, projector=LINEAR),
}  # fmt: skip
VITS |= {
    "radio": VitSizes(
        layers=2, hidden=8, heads=2, ffn=12, patch=2, out=6, positions=5, fit="crop", prefix=3, merge=2,
        patch_bias=False,
        activation="gelu", layer_scale=True, final_norm=False,
        projector=ProjectorSizes(hidden=10, norm="rms", activation="relu2", bias=False),
    ),
    "clip": VitSizes(
        layers=1, hidden=8, heads=2, ffn=12, patch=2, out=6, positions=3, prefix=1, patch_bias=False, embed_norm=True,
        activation="quick_gelu", final_norm=False, projector=ProjectorSizes(hidden=10, activation="gelu"),
    ),
    "siglip2": VitSizes(
        layers=1, hidden=8, heads=2, ffn=12, patch=2, out=6, positions=5, fit="antialias", key_bias=False,
        projector=ProjectorSizes(kind="linear", bias=False),
    ),
    "windows": VitSizes(
        layers=3, hidden=8, heads=2, ffn=12, patch=2, frames=2, out=6, rotary_theta=100.0, merge=2, window=2,
        full_layers=(1,), norm="rms", activation="swiglu", patch_bias=False, projector=ProjectorSizes(hidden=32),
    ),
    "corners": VitSizes(
        layers=2, hidden=8, heads=2, ffn=12, patch=2, out=6, positions=4, fit="corners", rotary_theta=100.0, merge=2,
        projector=ProjectorSizes(hidden=32),
    ),
}  # fmt: skip
"""Vision transformers as others build them, each small."""
WHISPERS = {
    "stacking": WhisperSizes(
        layers=2, hidden=8, heads=2, ffn=12, mels=3, positions=12, stack=2, out=6, projector=ProjectorSizes(hidden=10)
    ),
    "one by one": WhisperSizes(
        layers=1, hidden=8, heads=2, ffn=12, mels=3, positions=12, out=6,
        projector=ProjectorSizes(kind="linear", norm="layer"),
    ),
}  # fmt: skip
MODELS: dict[str, ModelSizes] = {**DECODERS, **VITS, **WHISPERS}
TAPPED = replace(VITS["merging"], layers=3, taps=(0, 2))
TAPPED_CORNERS = replace(VITS["corners"], taps=(0,), tap_norm="layer")
ADAPTER = AdapterSizes(layers=2, hidden=8, heads=2, ffn=12, inputs=6, out=8, projector=LINEAR, taps=(0,))
DEEP = replace(DECODERS["grouped"], inserts=(0, 3))
CONFORMER = ConformerSizes(
    layers=2, hidden=8, heads=2, ffn=12, out=6, mels=16, stem_channels=3, conv=5, projector=ProjectorSizes(hidden=10)
)
UNBIASED = replace(CONFORMER, bias=False, conv_bias=False, scale_input=False, projector=LINEAR, taps=(0,))
CONFORMERS = {"conformer": CONFORMER, "unbiased conformer": UNBIASED}
GRAPHS: dict[str, ModelSizes] = {
    "tapped": TAPPED, "tapped corners": TAPPED_CORNERS, "adapter": ADAPTER, "deep": DEEP, **CONFORMERS,
}  # fmt: skip
"""Models with more ports than one, one that reads another's features, and those of clips."""


def build(parts: Sequence[Part], seed: int = 0) -> Chain:
    """A chain on the CPU in float64, its matrices ten times the usual size so that every term counts."""
    with torch.device("meta"):
        chain = build_chain(parts).to(torch.float64)
    chain.to_empty(device="cpu")
    for name, parameter in chain.named_parameters():
        known = "embed.weight" if name == "words.weight" else name
        block = whole_block(known, tuple(parameter.shape))
        initialize_(parameter.detach(), block, seed, "module", residual_sums=2)
        if parameter.ndim > 1:
            parameter.detach().mul_(10)
    for name, buffer in chain.named_buffers():
        buffer.copy_(torch.arange(buffer.numel()) % 2 * 0.1 + name.endswith("variance"))
    return chain


def model(sizes: ModelSizes) -> Chain:
    """The whole model."""
    return build(model_parts(sizes))


def text_batch(sizes: DecoderSizes, lengths: Sequence[int], padding: int = 0) -> TextBatch:
    """Documents of these lengths with deterministic ids; the last row of each has no label."""
    used, rows = sum(lengths), sum(lengths) + padding
    ids = torch.arange(rows) * 7 % sizes.vocab
    labels = torch.arange(rows) * 5 % sizes.vocab
    for i, length in enumerate(lengths):
        labels[sum(lengths[:i]) + length - 1 : sum(lengths[: i + 1])] = NO_LABEL
    ids[used:], labels[used:] = NO_TOKEN, NO_LABEL
    positions = torch.cat([torch.arange(n) for n in (*lengths, padding)])
    if sizes.position_axes > 1:
        positions = torch.stack([positions, positions // 2, positions % 2], dim=1)
    mtp = tuple(_further(ids, labels, lengths, depth) for depth in range(1, 1 + sizes.mtp_depths))
    return TextBatch(ids, positions, labels, Segments.build(lengths, rows), 3.0, document_denominator=4.0, mtp=mtp)


def _further(ids: Tensor, labels: Tensor, lengths: Sequence[int], depth: int) -> MtpInputs:
    ahead = torch.full_like(ids, NO_TOKEN), torch.full_like(labels, NO_LABEL)
    first = 0
    for length in lengths:
        for row in range(first, first + length - depth):
            ahead[0][row], ahead[1][row] = ids[row + depth], labels[row + depth]
        first += length
    return MtpInputs(*ahead, loss_denominator=2.0)


def laid(sizes: VitSizes, grids: Sequence[tuple[int, int]]) -> list[Laid]:
    """Images of these grids behind each other, each behind the model's learned rows."""
    lead, row, images = -(-sizes.prefix // sizes.merge**2) * sizes.merge**2, 0, []
    for grid in grids:
        images.append(laid_image(row + lead, grid, sizes.merge))
        row = images[-1].row + images[-1].rows
    return images


def patch_batch(sizes: VitSizes, grids: Sequence[tuple[int, int]], padding: int = 0) -> PatchBatch:
    """Images of these grids (height, width) with deterministic pixels."""
    images = laid(sizes, grids)
    rows = max((image.row + image.rows for image in images), default=0) + padding
    pixels = (torch.arange(rows * sizes.patch_dim, dtype=torch.float64) * 0.7).sin()
    return image_batch(sizes, images, pixels.view(rows, sizes.patch_dim))


def audio_batch(sizes: WhisperSizes, lengths: Sequence[int], padding: int = 0) -> AudioBatch:
    """Clips of these lengths in rows, each with all of its frames, deterministic ones."""
    rows = sum(lengths) + padding
    frames = torch.zeros(rows, sizes.window, sizes.mels, dtype=torch.float64)
    filled = torch.zeros(rows, sizes.window, dtype=torch.bool)
    positions = torch.zeros(rows, dtype=torch.int64)
    first = 0
    for number, length in enumerate(lengths):
        clip = (torch.arange(length * sizes.stride * sizes.mels, dtype=torch.float64) * 0.7 + number).sin()
        for place in range(length):
            for tap in range(sizes.window):
                frame = place * sizes.stride + tap - sizes.window // 2
                if 0 <= frame < length * sizes.stride:
                    filled[first + place, tap] = True
                    frames[first + place, tap] = clip.view(-1, sizes.mels)[frame]
            positions[first + place] = place
        first += length
    return AudioBatch(frames, filled, positions, Segments.build(lengths, rows))


def feature_batch(sizes: AdapterSizes, lengths: Sequence[int], padding: int = 0) -> FeatureBatch:
    """Items of these lengths with deterministic features, of which two add up in the first row, if there is one."""
    used = sum(lengths)
    features = (torch.arange(used * sizes.inputs, dtype=torch.float64) * 0.3).cos().view(used, sizes.inputs)
    batch = FeatureBatch(used + padding, Segments.build(lengths, used + padding))
    return batch.with_inserts(((features, torch.arange(used)), (features[:1], torch.arange(min(used, 1)))))


def ragged_batch(sizes: ConformerSizes, frames: Sequence[int], padding: int = 0) -> AudioBatch:
    """Clips of so many mel frames with deterministic values."""
    pieces, filled, lengths = [], [], []
    for number, count in enumerate(frames):
        values = (torch.arange(count * sizes.mels, dtype=torch.float64) * 0.7 + number).sin().view(count, sizes.mels)
        windows, inside = windows_of(sizes, values)
        pieces.append(windows)
        filled.append(inside)
        lengths.append(len(windows))
    blank = torch.zeros(padding, sizes.window, sizes.mels, dtype=torch.float64)
    return AudioBatch(
        torch.cat([*pieces, blank]),
        torch.cat([*filled, torch.zeros(padding, sizes.window, dtype=torch.bool)]),
        torch.cat([torch.arange(n) for n in (*lengths, padding)]),
        Segments.build(lengths, sum(lengths) + padding),
    )


def windows_of(sizes: ConformerSizes, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The windows (rows, window, mels) of a clip's frames (frames, mels), and which of their frames there are."""
    places = torch.arange(0, len(frames), sizes.stride)[:, None] + torch.arange(sizes.window) - sizes.window // 2
    inside = (places >= 0) & (places < len(frames))
    return frames[places.clamp(0, len(frames) - 1)] * inside[:, :, None], inside


def batch_of(sizes: ModelSizes, lengths: Sequence[int], padding: int = 0) -> Batch:
    """A batch for a model of any kind: documents or items of these lengths, images one row of merged patches high."""
    match sizes:
        case DecoderSizes():
            return text_batch(sizes, lengths, padding)
        case VitSizes():
            return patch_batch(sizes, [(sizes.merge, length // sizes.merge) for length in lengths], padding)
        case AdapterSizes():
            return feature_batch(sizes, lengths, padding)
        case WhisperSizes():
            return audio_batch(sizes, lengths, padding)
        case ConformerSizes():
            return ragged_batch(sizes, [length * sizes.stride - length % 3 for length in lengths], padding)


def empty_batch(sizes: ModelSizes, padding: int) -> Batch:
    """A batch without documents, of `padding` rows."""
    return batch_of(sizes, [], padding)
