"""Small models with values, and batches for them, in float64."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import torch
from torch import Tensor

from counterpoint.families import FAMILIES, facts_of, initial_of
from counterpoint.families.decoder.spec import MtpConfig
from counterpoint.families.parts import parts_of
from counterpoint.kinds.family import Ends, Model
from counterpoint.layers.mamba.spec import MambaConfig
from counterpoint.layers.moe.spec import MoeConfig
from counterpoint.modalities.images.spec import ImageConfig
from counterpoint.modalities.lane import Laid
from counterpoint.models.batch import AudioBatch, Batch, FeatureBatch, GivenBatch, MtpInputs, PatchBatch, TextBatch
from counterpoint.models.chain import Chain, Part, build_chain
from counterpoint.models.segments import Segments
from counterpoint.parallelize.blocks import whole_block
from counterpoint.parallelize.initialize import initialize_
from counterpoint.plan.samples import NO_LABEL, NO_TOKEN
from tests.intakes import image_batch, image_intake, laid_image

_ENDS = {field.name for field in fields(Ends)}
_MOST_PATCHES = 2**20


def sample(kind: str, **keys: Any) -> Model:
    """A model by the keys of its section, among which may stand those of `Ends`."""
    section = FAMILIES[kind].section
    own = {key: value for key, value in keys.items() if key not in _ENDS or key in section.model_fields}
    ends = {key: value for key, value in keys.items() if key in _ENDS}
    return Model(section.model_validate({"kind": kind, **own}), Ends(**ends))


def changed(model: Model, **keys: Any) -> Model:
    """The same model but for some keys."""
    return sample(**{**dict(model.section), **asdict(model.ends), **keys})


def vit(**keys: Any) -> Model:
    """A vision transformer over images of any size."""
    return sample("vit", image=ImageConfig(max_patches=_MOST_PATCHES), **keys)


def mlp(hidden: int, **keys: Any) -> dict[str, Any]:
    """A projector of two layers, `hidden` apart."""
    return {"kind": "mlp", "hidden": hidden, **keys}


LINEAR = {"kind": "linear"}
LAYER_KINDS = frozenset("*-MEL")
"""All kinds of layers."""
DECODERS = {
    "grouped": sample(
        "decoder", pattern="*-*-", hidden=8, heads=4, kv_heads=2, head_dim=4, ffn=12, vocab=11, tied=False, qk_norm=True
    ),
    "tied": sample(
        "decoder", pattern="*-", hidden=8, heads=2, kv_heads=2, head_dim=4, ffn=12, vocab=11, tied=True,
        activation="relu2", rope_theta=None, bias=True,
    ),
}  # fmt: skip
HYBRID = sample(
    "decoder", pattern="ME*E", hidden=8, heads=4, kv_heads=2, head_dim=4, vocab=11, tied=False, activation="relu2",
    qkv_bias=True, rope_sections=(1, 1, 0),
    mamba=MambaConfig(heads=4, head_dim=3, groups=2, state=5, chunk=4),
    moe=MoeConfig(
        experts=4, top_k=2, ffn=6, shared_ffn=10, router="sigmoid", scale=2.5, bias_rate=1e-3, balance=0.1
    ),
)  # fmt: skip
GATED = changed(HYBRID, pattern="E*", activation="swiglu", rope_sections=None, moe=MoeConfig(experts=4, top_k=3, ffn=6))
TURNS = changed(
    DECODERS["grouped"], pattern="*-", head_dim=8, rope_theta=100.0, rope_sections=(2, 1, 1), rope_interleaved=True
)
NARROW = {"kind": "attention", "window": 3, "rope_theta": 50.0}
SANDWICH = changed(
    DECODERS["grouped"], pattern="L-*-", activation="geglu_tanh", post_norm=True, score_scale=0.4, embedding_scale=2.5,
    layers={"L": NARROW},
)  # fmt: skip
DECODERS |= {"hybrid": HYBRID, "gated experts": GATED, "turns": TURNS, "sandwich": SANDWICH}
DECODERS |= {"sandwich of experts": changed(HYBRID, post_norm=True)}
DECODERS |= {
    "further": changed(DECODERS["grouped"], mtp=MtpConfig(depths=2, pattern="*-", weight=0.6)),
    "further experts": changed(
        HYBRID, tied=True, embedding_scale=2.0, mtp=MtpConfig(depths=1, pattern="ME", weight=0.5)
    ),
}
VITS = {
    "merging": vit(
        layers=2, hidden=8, heads=2, ffn=12, patch=2, leaving=6, positions=4, merge=2,
        projector=mlp(10, norm="layer"), tap_norm="layer",
    ),
    "linear": vit(layers=1, hidden=8, heads=2, ffn=12, patch=2, leaving=6, positions=4, projector=LINEAR),
}  # fmt: skip
VITS |= {
    "radio": vit(
        layers=2, hidden=8, heads=2, ffn=12, patch=2, leaving=6, positions=5, fit="crop", prefix=3, merge=2,
        patch_bias=False,
        activation="gelu", layer_scale=True, final_norm=False,
        projector=mlp(10, norm="rms", activation="relu2", bias=False),
    ),
    "clip": vit(
        layers=1, hidden=8, heads=2, ffn=12, patch=2, leaving=6, positions=3, prefix=1, patch_bias=False,
        embed_norm=True, activation="quick_gelu", final_norm=False, projector=mlp(10, activation="gelu"),
    ),
    "siglip2": vit(
        layers=1, hidden=8, heads=2, ffn=12, patch=2, leaving=6, positions=5, fit="antialias", key_bias=False,
        projector=LINEAR | {"bias": False},
    ),
    "windows": vit(
        layers=3, hidden=8, heads=2, ffn=12, patch=2, frames=2, leaving=6, positions=0, rotary_theta=100.0, merge=2,
        window=2, full_layers=(1,), norm="rms", activation="swiglu", patch_bias=False, projector=mlp(32),
    ),
    "corners": vit(
        layers=2, hidden=8, heads=2, ffn=12, patch=2, leaving=6, positions=4, fit="corners", rotary_theta=100.0,
        merge=2, projector=mlp(32),
    ),
}  # fmt: skip
"""Vision transformers as others build them, each small."""
WHISPERS = {
    "stacking": sample(
        "whisper", layers=2, hidden=8, heads=2, ffn=12, mels=3, positions=12, stack=2, leaving=6, projector=mlp(10)
    ),
    "one by one": sample(
        "whisper", layers=1, hidden=8, heads=2, ffn=12, mels=3, positions=12, leaving=6,
        projector=LINEAR | {"norm": "layer"},
    ),
}  # fmt: skip
MODELS: dict[str, Model] = {**DECODERS, **VITS, **WHISPERS}
TAPPED = changed(VITS["merging"], layers=3, taps=(0, 2))
TAPPED_CORNERS = changed(VITS["corners"], taps=(0,), tap_norm="layer")
ADAPTER = sample("adapter", layers=2, hidden=8, heads=2, ffn=12, entering=6, leaving=8, projector=LINEAR, taps=(0,))
DEEP = changed(DECODERS["grouped"], inserts=(0, 3))
CONFORMER = sample(
    "conformer", layers=2, hidden=8, heads=2, ffn=12, leaving=6, mels=16, stem_channels=3, conv=5, projector=mlp(10)
)
UNBIASED = changed(CONFORMER, bias=False, conv_bias=False, scale_input=False, projector=LINEAR, taps=(0,))
CONFORMERS = {"conformer": CONFORMER, "unbiased conformer": UNBIASED}
CONVNEXTS = {
    "convnext": sample(
        "convnext", image=ImageConfig(max_patches=_MOST_PATCHES), patch=2, depths=(1, 2), widths=(8, 12), leaving=6,
        projector=mlp(10, norm="layer"),
    ),
    "merging convnext": sample(
        "convnext", image=ImageConfig(max_patches=_MOST_PATCHES), patch=2, depths=(1, 1, 1), widths=(4, 8, 8), merge=2,
        leaving=6, activation="quick_gelu", projector=LINEAR,
    ),
}  # fmt: skip
"""Towers whose rows become fewer; the second makes one row of 8 x 8 patches."""
GIVEN = {
    "given to two layers": sample("features", width=6, leaving=4, projector=mlp(8, norm="layer")),
    "given to one": sample("features", width=6, leaving=4, projector=LINEAR),
}
"""Features that were computed beforehand."""
GRAPHS: dict[str, Model] = {
    "tapped": TAPPED, "tapped corners": TAPPED_CORNERS, "adapter": ADAPTER, "deep": DEEP, **CONFORMERS,
}  # fmt: skip
"""Models with more ports than one, one that reads another's features, and those of clips."""


def build(model: Model, parts: Sequence[Part] | None = None) -> Chain:
    """A model, or some of its parts, on the CPU in float64, its matrices ten times the usual size so that every term
    counts."""
    with torch.device("meta"):
        chain = build_chain(parts_of(model) if parts is None else parts).to(torch.float64)
    chain.to_empty(device="cpu")
    for name, parameter in chain.named_parameters():
        known = "embed.weight" if name == "words.weight" else name
        block = whole_block(known, tuple(parameter.shape))
        initialize_(parameter.detach(), block, 0, "module", residual_sums=2, rules=initial_of(model.section))
        if parameter.ndim > 1:
            parameter.detach().mul_(10)
    for name, buffer in chain.named_buffers():
        buffer.copy_(torch.arange(buffer.numel()) % 2 * 0.1 + name.endswith("variance"))
    return chain


def text_batch(model: Model, lengths: Sequence[int], padding: int = 0) -> TextBatch:
    """Documents of these lengths with deterministic ids; the last row of each has no label."""
    facts, used, rows = facts_of(model), sum(lengths), sum(lengths) + padding
    ids = torch.arange(rows) * 7 % facts.vocab
    labels = torch.arange(rows) * 5 % facts.vocab
    for i, length in enumerate(lengths):
        labels[sum(lengths[:i]) + length - 1 : sum(lengths[: i + 1])] = NO_LABEL
    ids[used:], labels[used:] = NO_TOKEN, NO_LABEL
    positions = torch.cat([torch.arange(n) for n in (*lengths, padding)])
    if facts.position_axes > 1:
        positions = torch.stack([positions, positions // 2, positions % 2], dim=1)
    mtp = tuple(_further(ids, labels, lengths, depth) for depth in range(1, 1 + facts.extra_depths))
    return TextBatch(ids, positions, labels, Segments.build(lengths, rows), 3.0, document_denominator=4.0, mtp=mtp)


def _further(ids: Tensor, labels: Tensor, lengths: Sequence[int], depth: int) -> MtpInputs:
    ahead = torch.full_like(ids, NO_TOKEN), torch.full_like(labels, NO_LABEL)
    first = 0
    for length in lengths:
        for row in range(first, first + length - depth):
            ahead[0][row], ahead[1][row] = ids[row + depth], labels[row + depth]
        first += length
    return MtpInputs(*ahead, loss_denominator=2.0)


def laid(model: Model, grids: Sequence[tuple[int, int]]) -> list[Laid]:
    """Images of these grids behind each other, each behind the model's learned rows."""
    intake = image_intake(model)
    group = intake.row_multiple
    lead, row, images = -(-intake.prefix // group) * group, 0, []
    for grid in grids:
        images.append(laid_image(row + lead, grid, intake.merge))
        row = images[-1].row + images[-1].rows
    return images


def patch_batch(model: Model, grids: Sequence[tuple[int, int]], padding: int = 0) -> PatchBatch:
    """Images of these grids (height, width) with deterministic pixels."""
    images, columns = laid(model, grids), image_intake(model).columns
    rows = max((image.row + image.rows for image in images), default=0) + padding
    pixels = (torch.arange(rows * columns, dtype=torch.float64) * 0.7).sin()
    return image_batch(model, images, pixels.view(rows, columns))


def audio_batch(model: Model, lengths: Sequence[int], padding: int = 0) -> AudioBatch:
    """Clips of these lengths in rows, each with all of its frames, deterministic ones."""
    section, rows = model.section, sum(lengths) + padding
    frames = torch.zeros(rows, section.window, section.mels, dtype=torch.float64)
    filled = torch.zeros(rows, section.window, dtype=torch.bool)
    positions = torch.zeros(rows, dtype=torch.int64)
    first = 0
    for number, length in enumerate(lengths):
        clip = (torch.arange(length * section.stride * section.mels, dtype=torch.float64) * 0.7 + number).sin()
        for place in range(length):
            for tap in range(section.window):
                frame = place * section.stride + tap - section.window // 2
                if 0 <= frame < length * section.stride:
                    filled[first + place, tap] = True
                    frames[first + place, tap] = clip.view(-1, section.mels)[frame]
            positions[first + place] = place
        first += length
    return AudioBatch(frames, filled, positions, segments=Segments.build(lengths, rows))


def feature_batch(model: Model, lengths: Sequence[int], padding: int = 0) -> FeatureBatch:
    """Items of these lengths with deterministic features, of which two add up in the first row, if there is one."""
    used, width = sum(lengths), model.ends.entering
    features = (torch.arange(used * width, dtype=torch.float64) * 0.3).cos().view(used, width)
    batch = FeatureBatch(used + padding, Segments.build(lengths, used + padding))
    return batch.with_inserts(((features, torch.arange(used)), (features[:1], torch.arange(min(used, 1)))))


def given_batch(model: Model, lengths: Sequence[int], padding: int = 0) -> GivenBatch:
    """Items of these lengths with values of noise."""
    rows, generator = sum(lengths) + padding, torch.Generator().manual_seed(1)
    values = torch.randn(rows, model.section.width, dtype=torch.float64, generator=generator)
    return GivenBatch(values, segments=Segments.build(lengths, rows))


def ragged_batch(model: Model, frames: Sequence[int], padding: int = 0) -> AudioBatch:
    """Clips of so many mel frames with deterministic values."""
    section, pieces, filled, lengths = model.section, [], [], []
    for number, count in enumerate(frames):
        values = torch.arange(count * section.mels, dtype=torch.float64) * 0.7 + number
        windows, inside = windows_of(model, values.sin().view(count, section.mels))
        pieces.append(windows)
        filled.append(inside)
        lengths.append(len(windows))
    blank = torch.zeros(padding, section.window, section.mels, dtype=torch.float64)
    return AudioBatch(
        torch.cat([*pieces, blank]),
        torch.cat([*filled, torch.zeros(padding, section.window, dtype=torch.bool)]),
        torch.cat([torch.arange(n) for n in (*lengths, padding)]),
        segments=Segments.build(lengths, sum(lengths) + padding),
    )


def windows_of(model: Model, frames: Tensor) -> tuple[Tensor, Tensor]:
    """The windows (rows, window, mels) of a clip's frames (frames, mels), and which of their frames there are."""
    stride, window = model.section.stride, model.section.window
    places = torch.arange(0, len(frames), stride)[:, None] + torch.arange(window) - window // 2
    inside = (places >= 0) & (places < len(frames))
    return frames[places.clamp(0, len(frames) - 1)] * inside[:, :, None], inside


_BATCHES: dict[str, Callable[[Model, Any, int], Batch]] = {
    "decoder": text_batch,
    "vit": patch_batch,
    "custom": patch_batch,
    "convnext": patch_batch,
    "whisper": audio_batch,
    "conformer": ragged_batch,
    "features": given_batch,
    "adapter": feature_batch,
}

Entries = Mapping[str, Sequence[Any]]
"""By family: lengths of documents, of clips or of items in rows, grids of images, frames of a conformer's clips."""

SEVERAL: Entries = {"decoder": (5, 3), "vit": ((4, 6), (2, 2)), "whisper": (6, 2)}


def batch_with(model: Model, entries: Entries, padding: int = 0) -> Batch:
    """A batch of those entries that a model reads."""
    return _BATCHES[model.section.kind](model, entries[model.section.kind], padding)


def batch_of(model: Model, lengths: Sequence[int], padding: int = 0) -> Batch:
    """A batch for a model of any kind: documents or items of these lengths, images one row of merged patches high."""
    section = model.section
    entries: dict[str, Sequence[Any]] = dict.fromkeys(FAMILIES, lengths)
    if "image" in type(section).model_fields:
        merge = image_intake(model).merge
        entries[section.kind] = [(merge, length // merge) for length in lengths]
    if section.kind == "conformer":
        entries[section.kind] = [length * section.stride - length % 3 for length in lengths]
    return batch_with(model, entries, padding)


def empty_batch(model: Model, padding: int) -> Batch:
    """A batch without documents, of `padding` rows."""
    return batch_of(model, [], padding)
