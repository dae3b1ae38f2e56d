"""What is particular to encoders of clips: the stem, row by row, and its table of positions."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from counterpoint.families import initial_of
from counterpoint.families.parts import parts_of
from counterpoint.models.batch import AudioBatch
from counterpoint.models.chain import MAIN, Chain
from counterpoint.models.segments import Segments
from counterpoint.parallelize.blocks import Block, whole_block
from counterpoint.parallelize.initialize import initialize_
from tests.unit.models.model_samples import WHISPERS, audio_batch, build

MODEL = WHISPERS["one by one"]


def stem() -> Chain:
    """The first part with values, its biases not zero, so that padding with what it makes of zeros shows."""
    chain = build(MODEL, parts_of(MODEL)[:1])
    for name, parameter in chain.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    return chain


def windows(clip: Tensor) -> AudioBatch:
    """The rows of one clip of frames (frames, mels), any number of them."""
    frames, half = len(clip), MODEL.section.window // 2
    places = torch.arange(0, frames, MODEL.section.stride)[:, None] + torch.arange(-half, half + 1)
    filled = (places >= 0) & (places < frames)
    values = clip[places.clamp(0, frames - 1)] * filled[:, :, None]
    rows = len(places)
    return AudioBatch(values, filled, torch.arange(rows), segments=Segments.build([rows], rows))


def filters(chain: Chain, name: str) -> tuple[Tensor, Tensor]:
    """A filter (outputs, inputs, taps) and its bias, as torch's convolution takes them."""
    linear = chain.get_submodule(f"embed.{name}")
    weight, bias = linear.get_parameter("weight"), linear.get_parameter("bias")
    return weight.view(len(weight), 3, -1).transpose(1, 2), bias


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 7, 24])
def test_rows_equal_two_convolutions_of_the_whole_clip(frames: int) -> None:
    generator = torch.Generator().manual_seed(frames)
    clip = torch.randn(frames, MODEL.section.mels, generator=generator, dtype=torch.float64)
    chain = stem()
    inner = F.gelu(F.conv1d(clip.T, *filters(chain, "conv1"), padding=1))
    outer = F.gelu(F.conv1d(inner, *filters(chain, "conv2"), padding=1, stride=2)).T
    expected = outer + chain.get_parameter("embed.times.weight")[: len(outer)]
    found = chain(None, windows(clip))[MAIN]
    assert found.shape == expected.shape
    assert (found - expected).abs().max().item() <= 1e-13


def test_the_batch_of_the_tests_has_the_windows_of_its_clips() -> None:
    batch = audio_batch(MODEL, [3, 2])
    clip = torch.cat([batch.frames[:3, 2], batch.frames[:3, 3]], dim=1).view(6, MODEL.section.mels)
    alone = windows(clip)
    assert torch.equal(alone.frames, batch.frames[:3])
    assert torch.equal(alone.filled, batch.filled[:3])


def test_positions_begin_as_sinusoids_in_every_block() -> None:
    rules, name, shape = initial_of(MODEL.section), "embed.times.weight", (7, 8)
    whole = torch.empty(shape, dtype=torch.float64)
    initialize_(whole, whole_block(name, shape), 3, "audio", residual_sums=4, rules=rules)
    frequencies = [10000 ** (-column / 3) for column in range(4)]
    for row in range(7):
        expected = [math.sin(row * f) for f in frequencies] + [math.cos(row * f) for f in frequencies]
        assert whole[row].tolist() == pytest.approx(expected, abs=1e-14)
    piece = torch.empty((3, 5), dtype=torch.float64)
    initialize_(piece, Block(name, shape, (4, 2), (3, 5), "shard"), 9, "audio", residual_sums=4, rules=rules)
    assert torch.equal(piece, whole[4:, 2:7])
