"""Our conformer equals transformers' Parakeet encoder with its weights: rows and all gradients, in float64."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from counterpoint.families.conformer.spec import ConformerConfig
from counterpoint.kinds.family import Ends, Model
from counterpoint.models.batch import AudioBatch
from counterpoint.models.chain import MAIN
from counterpoint.models.segments import Segments
from counterpoint.projectors.linear.spec import LinearProjectorConfig
from tests.gradients import gradient_of
from tests.unit.judge.judge import REASON, quiet
from tests.unit.judge.lifted import lift_casts
from tests.unit.judge.models import empty_tensors, headless, random_like

pytest.importorskip("transformers", reason=REASON)

EQUAL, NOTICED = 1e-9, 1e-4
SECTION = ConformerConfig(
    kind="conformer", layers=2, hidden=16, heads=4, ffn=20, mels=24, stem_channels=5, conv=7,
    projector=LinearProjectorConfig(kind="linear"),
)  # fmt: skip
CHANGES: dict[str, dict[str, Any]] = {
    "parakeet": {},
    "omni": {"bias": False, "scale_input": False},
    "without biases, fewer halvings": {"bias": False, "conv_bias": False, "halvings": 2, "conv": 3, "layers": 1},
}
FRAMES = (37, 8, 1, 64, 17, 9, 2, 33)
"""Clips that end in every way: in the middle of a window, at its end, and after one frame."""

NAMES = {
    r"^subsampling\.linear": "embed.linear",
    r"^subsampling\.layers\.0\.": "embed.first.",
    r"\.norm_feed_forward1\.": ".first_norm.",
    r"\.norm_feed_forward2\.": ".second_norm.",
    r"\.norm_self_att\.": ".attention_norm.",
    r"\.norm_conv\.": ".conv_norm.",
    r"\.norm_out\.": ".norm.",
    r"\.feed_forward1\.linear1\.": ".first_mlp.up.",
    r"\.feed_forward1\.linear2\.": ".first_mlp.down.",
    r"\.feed_forward2\.linear1\.": ".second_mlp.up.",
    r"\.feed_forward2\.linear2\.": ".second_mlp.down.",
    r"\.self_attn\.([qkvo])_proj\.": r".attention.\1.",
    r"\.self_attn\.relative_k_proj\.": ".attention.r.",
    r"\.self_attn\.bias_u": ".attention.content_bias",
    r"\.self_attn\.bias_v": ".attention.distance_bias",
    r"\.conv\.depthwise_conv\.": ".conv.depthwise.",
    r"\.conv\.pointwise_conv2\.": ".conv.o.",
    r"\.conv\.norm\.running_mean": ".conv.norm.mean",
    r"\.conv\.norm\.running_var": ".conv.norm.variance",
}
"""Their words and ours; steps of the stem, gated units and what counts batches are seen to apart."""


def in_our_words(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Their tensors by our names: filters lose dimensions of one, and the gated unit's two halves are two linears."""
    found = {}
    for name, tensor in tensors.items():
        if name.endswith("num_batches_tracked"):
            continue
        step = re.match(r"subsampling\.layers\.(\d+)\.(.*)", name)
        if step and int(step[1]) > 0:
            place, kind = divmod(int(step[1]) - 2, 3)
            found[f"embed.steps.{place}.{('depthwise', 'pointwise')[kind]}.{step[2]}"] = tensor
            continue
        if ".pointwise_conv1." in name:
            layer, leaf = name.split(".pointwise_conv1.")
            value, gate = tensor.flatten(1).chunk(2) if tensor.ndim > 1 else tensor.chunk(2)
            found |= {f"{layer}.value.{leaf}": value, f"{layer}.gate.{leaf}": gate}
            continue
        for theirs, ours in NAMES.items():
            name = re.sub(theirs, ours, name)
        is_filter = name.startswith("layers.") and tensor.ndim == 3
        found[name] = tensor.flatten(1) if is_filter else tensor
    return found


def judge(section: ConformerConfig, patch: pytest.MonkeyPatch) -> Any:
    """Their encoder of these sizes in evaluation mode, with random values and statistics, in float64."""
    quiet()
    from transformers import ParakeetEncoderConfig
    from transformers.models.parakeet import modeling_parakeet

    lift_casts(patch, modeling_parakeet)
    config = ParakeetEncoderConfig(
        hidden_size=section.hidden, num_hidden_layers=section.layers, num_attention_heads=section.heads,
        intermediate_size=section.ffn, attention_bias=section.bias, convolution_bias=section.conv_bias,
        conv_kernel_size=section.conv, subsampling_factor=section.stride, num_mel_bins=section.mels,
        subsampling_conv_channels=section.stem_channels, scale_input=section.scale_input,
    )  # fmt: skip
    config._attn_implementation = "eager"
    model = modeling_parakeet.ParakeetEncoder(config).double().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(random_like(tensor, generator))
    return model


def clips_of(section: ConformerConfig, frames: Sequence[int] = FRAMES) -> list[Tensor]:
    """Clips (frames, mels) of these lengths."""
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(count, section.mels, generator=generator, dtype=torch.float64) for count in frames]


def packed(section: ConformerConfig, clips: Sequence[Tensor], padding: int = 0) -> AudioBatch:
    """Clips in windows, behind each other; frames that are not there hold numbers that nobody may read."""
    half, frames, filled = section.window // 2, [], []
    for clip in clips:
        rows = -(-len(clip) // section.stride)
        behind = (rows - 1) * section.stride + half + 1 - len(clip)
        pad = (half, max(0, behind))
        around = torch.nn.functional.pad(clip, (0, 0, *pad), value=7.0)
        there = torch.nn.functional.pad(torch.ones(len(clip)), pad)
        frames.append(around.unfold(0, section.window, section.stride)[:rows].transpose(1, 2))
        filled.append(there.unfold(0, section.window, section.stride)[:rows].bool())
    lengths = [len(windows) for windows in frames]
    blank = torch.full((padding, section.window, section.mels), 7.0, dtype=torch.float64)
    return AudioBatch(
        torch.cat([*frames, blank]),
        torch.cat([*filled, torch.zeros(padding, section.window, dtype=torch.bool)]),
        torch.cat([torch.arange(length) for length in (*lengths, padding)]),
        segments=Segments.build(lengths, sum(lengths) + padding),
    )


def their_rows(model: Any, clips: Sequence[Tensor], *, together: bool) -> Tensor:
    """The judge's rows of all clips behind each other: of a padded batch with a mask, or clip by clip."""
    if not together:
        return torch.cat([model(clip[None]).last_hidden_state[0] for clip in clips])
    longest = max(map(len, clips))
    features = torch.stack([torch.nn.functional.pad(clip, (0, 0, 0, longest - len(clip))) for clip in clips])
    mask = torch.arange(longest) < torch.tensor([len(clip) for clip in clips])[:, None]
    output = model(features, attention_mask=mask)
    rows: Tensor = output.last_hidden_state[output.attention_mask.bool()]
    return rows


def relative(distance: Tensor, expected: Tensor) -> float:
    share: float = (distance.norm() / expected.norm()).item()
    return share


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_rows_and_every_gradient_are_equal(
    change: dict[str, Any], together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = SECTION.model_copy(update=change)
    model, clips, padding = judge(section, monkeypatch), clips_of(section), 3
    expected = their_rows(model, clips, together=together)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    (expected * weights).sum().backward()
    chain = headless(section, in_our_words(model.state_dict()))
    found = chain(None, packed(section, clips, padding))[MAIN][:-padding]
    (found * weights).sum().backward()
    assert found.shape == (sum(-(-len(clip) // section.stride) for clip in clips), section.hidden)
    assert relative(found - expected, expected) <= EQUAL
    theirs = in_our_words({name: parameter.grad for name, parameter in model.named_parameters()})
    ours = {name: gradient_of(parameter) for name, parameter in chain.named_parameters()}
    assert ours.keys() == theirs.keys()
    # A key's bias moves no score (softmax): its gradient is zero but for rounding, so it is compared with its query's.
    scale = {name: theirs[name.replace("attention.k.bias", "attention.q.bias")] for name in theirs}
    different = {name: relative(ours[name] - theirs[name], scale[name]) for name in theirs}
    assert {name: value for name, value in different.items() if value > EQUAL} == {}


@pytest.mark.parametrize(
    "change", [{"heads": 2}, {"norm_eps": 1e-2}, {"scale_input": False}], ids=["heads", "norm_eps", "scale_input"]
)
def test_a_wrong_size_is_noticed(change: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model, clips = judge(SECTION, monkeypatch), clips_of(SECTION)
    tensors = in_our_words(model.state_dict())
    wrong = SECTION.model_copy(update=change)
    shapes = {name: tensor.shape for name, tensor in empty_tensors(Model(wrong, Ends())).items()}
    chain = headless(wrong, {name: tensor.reshape(shapes[name]) for name, tensor in tensors.items()})
    expected = their_rows(model, clips, together=False).detach()
    assert relative(chain(None, packed(SECTION, clips))[MAIN].detach() - expected, expected) > NOTICED


@pytest.mark.parametrize(
    "lost",
    [
        "embed.first.bias", "embed.steps.1.pointwise.bias", "layers.0.attention.content_bias",
        "layers.1.attention.distance_bias", "layers.0.attention.r.weight", "layers.0.conv.gate.bias",
        "layers.0.conv.depthwise.bias", "layers.1.conv.norm.mean", "layers.0.conv.norm.variance",
    ],
)  # fmt: skip
def test_a_lost_weight_is_noticed(lost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, clips = judge(SECTION, monkeypatch), clips_of(SECTION)
    tensors = in_our_words(model.state_dict())
    chain = headless(SECTION, {**tensors, lost: torch.zeros_like(tensors[lost])})
    expected = their_rows(model, clips, together=False).detach()
    assert relative(chain(None, packed(SECTION, clips))[MAIN].detach() - expected, expected) > NOTICED


@pytest.mark.parametrize("edge", ["before", "behind"])
def test_a_frame_more_at_an_end_is_noticed(edge: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of zeros that are there differ from frames that are not: the convolutions' biases reach them."""
    model, (clip,) = judge(SECTION, monkeypatch), clips_of(SECTION, [20])
    expected = model(clip[None]).last_hidden_state[0].detach()
    chain = headless(SECTION, in_our_words(model.state_dict()))
    batch = packed(SECTION, [clip])
    row, frame = (0, SECTION.window // 2 - 2) if edge == "before" else (2, SECTION.window // 2 + 4)
    frames, filled = batch.frames.clone(), batch.filled.clone()
    assert not filled[row, frame], "the frame is beyond the clip's end"
    frames[row, frame], filled[row, frame] = 0.0, True
    found = chain(None, replace(batch, frames=frames, filled=filled))[MAIN].detach()
    assert relative(found - expected, expected) > NOTICED
