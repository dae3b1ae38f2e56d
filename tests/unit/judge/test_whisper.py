"""Our encoder of clips equals transformers' Whisper encoder with its weights: rows and all gradients, in float64."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from counterpoint.convert.composite import AUDIO, composite_of
from counterpoint.families.whisper.spec import WhisperConfig
from counterpoint.kinds.family import Ends, Model
from counterpoint.models.batch import AudioBatch
from counterpoint.models.chain import MAIN, Chain
from counterpoint.models.segments import Segments
from counterpoint.projectors.linear.spec import LinearProjectorConfig
from tests.gradients import gradient_of
from tests.unit.judge.converted import modules_to_ours
from tests.unit.judge.judge import REASON, quiet, randomize
from tests.unit.judge.lifted import lift_casts
from tests.unit.judge.models import headless

pytest.importorskip("transformers", reason=REASON)

EQUAL, NOTICED = 1e-9, 1e-3
SECTION = WhisperConfig(
    kind="whisper", layers=3, hidden=24, heads=4, ffn=40, mels=10, positions=11,
    projector=LinearProjectorConfig(kind="linear", bias=False),
)  # fmt: skip
CLIPS = 3
NAMES = {
    "embed_positions": "embed.times",
    "self_attn.q_proj": "attention.q",
    "self_attn.k_proj": "attention.k",
    "self_attn.v_proj": "attention.v",
    "self_attn.out_proj": "attention.o",
    "self_attn_layer_norm": "attention_norm",
    "final_layer_norm": "mlp_norm",
    "fc1": "mlp.up",
    "fc2": "mlp.down",
}
"""What a name has inside, in their words and ours; of the rest each conv is in `embed`, and the last norm is `norm`."""


def judge(patch: pytest.MonkeyPatch, section: WhisperConfig = SECTION) -> Any:
    """Their encoder of these sizes with random values, in float64, all of it trained."""
    quiet()
    from transformers import WhisperConfig as TheirConfig
    from transformers.models.whisper import modeling_whisper

    lift_casts(patch, modeling_whisper)
    config = TheirConfig(
        d_model=section.hidden, encoder_layers=section.layers, encoder_attention_heads=section.heads,
        encoder_ffn_dim=section.ffn, num_mel_bins=section.mels, max_source_positions=section.positions,
    )  # fmt: skip
    config._attn_implementation = "eager"
    model = modeling_whisper.WhisperEncoder(config).double().eval().requires_grad_(True)
    randomize(model)
    return model


def in_our_words(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Their tensors by our names; filters (outputs, inputs, taps) as matrices, tap by tap."""
    found = {}
    for name, tensor in tensors.items():
        for theirs, ours in NAMES.items():
            name = name.replace(theirs, ours)
        if name.startswith("conv"):
            name = f"embed.{name}"
            tensor = tensor.transpose(1, 2).flatten(1) if tensor.ndim > 1 else tensor
        found["norm" + name.removeprefix("layer_norm") if name.startswith("layer_norm") else name] = tensor
    return found


def our_encoder(model: nn.Module, section: WhisperConfig) -> Chain:
    """Our parts up to the last norm, with the judge's weights."""
    tensors = {name: parameter.detach() for name, parameter in model.named_parameters()}
    return headless(section, in_our_words(tensors))


def windows(clips: Tensor, section: WhisperConfig = SECTION) -> AudioBatch:
    """Clips (clips, mels, frames) as long as can be, packed."""
    half, rows, count = section.window // 2, section.positions, len(clips)
    frames = nn.functional.pad(clips, (half, half)).unfold(2, section.window, section.stride).permute(0, 2, 3, 1)
    there = nn.functional.pad(torch.ones(clips.shape[2]), (half, half)).unfold(0, section.window, section.stride)
    return AudioBatch(
        frames.flatten(0, 1)[: count * rows],
        there.bool().repeat(count, 1),
        torch.arange(rows).repeat(count),
        segments=Segments.build([rows] * count, count * rows),
    )


def relative(distance: Tensor, expected: Tensor) -> float:
    share: float = (distance.norm() / expected.norm()).item()
    return share


def test_rows_and_every_gradient_are_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    model = judge(monkeypatch)
    generator = torch.Generator().manual_seed(2)
    shape = (CLIPS, SECTION.mels, SECTION.positions * SECTION.stride)
    clips = torch.randn(shape, generator=generator, dtype=torch.float64)
    weights = torch.randn(CLIPS * SECTION.positions, SECTION.hidden, generator=generator, dtype=torch.float64)
    expected = model(clips).last_hidden_state.flatten(0, 1)
    (expected * weights).sum().backward()
    chain = our_encoder(model, SECTION)
    found = chain(None, windows(clips))[MAIN]
    (found * weights).sum().backward()
    assert relative(found - expected, expected) <= EQUAL
    theirs = in_our_words({name: parameter.grad for name, parameter in model.named_parameters()})
    ours = dict(chain.named_parameters())
    assert ours.keys() == theirs.keys()
    gradients = {name: gradient_of(parameter) for name, parameter in ours.items()}
    different = {name: relative(gradients[name] - theirs[name], theirs[name]) for name in theirs}
    assert {name: value for name, value in different.items() if value > EQUAL} == {}


@pytest.mark.parametrize("prefix", ["", "encoder.", "model.encoder."])
def test_a_checkpoint_is_read_as_the_weights_that_are_judged(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the encoder alone, of a model without a head, and of one with it."""
    model = judge(monkeypatch)
    theirs = {f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()}
    whole = composite_of(model.config.to_dict())
    found = modules_to_ours(whole, theirs | ({} if not prefix else {"proj_out.weight": torch.zeros(1)}))[AUDIO]
    expected = in_our_words(model.state_dict())
    assert found.keys() == expected.keys()
    assert [name for name, tensor in expected.items() if not torch.equal(found[name], tensor)] == []
    assert whole.modules[AUDIO].model == Model(SECTION, Ends(leaving=SECTION.hidden))


@pytest.mark.parametrize("change", [{"activation": "gelu_tanh"}, {"norm_eps": 1e-3}])
def test_a_wrong_size_is_noticed(change: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model = judge(monkeypatch)
    clips = torch.randn((CLIPS, SECTION.mels, SECTION.positions * 2), dtype=torch.float64)
    expected = model(clips).last_hidden_state.flatten(0, 1).detach()
    found = our_encoder(model, SECTION.model_copy(update=change))(None, windows(clips))[MAIN].detach()
    assert relative(found - expected, expected) > EQUAL * 1e3
