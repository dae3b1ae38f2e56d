"""The parts of ConvNeXt V2 with its projector (Woo et al., 2023, arXiv:2301.00808).

Rows of an image are ordered in groups of neighbours that become one output row, so each stage can halve both sides of
every group independently.
"""

from collections.abc import Callable
from functools import partial
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from counterpoint.families.convnext.spec import EXPANSION, KERNEL, ConvnextConfig, Stage
from counterpoint.families.encoder_parts import projector_part
from counterpoint.kinds.family import Ends
from counterpoint.models.batch import PatchBatch
from counterpoint.models.chain import Earlier, Part
from counterpoint.models.image_grids import Place, as_grids, as_stack, by_size, laid, stacked
from counterpoint.models.linear import Linear, OutputLinear
from counterpoint.models.mlp import ACTIVATIONS
from counterpoint.models.norm import LayerNorm
from counterpoint.models.seams import ChannelSum, Enter, Layer

_RESPONSE_EPS = 1e-6


def parts(section: ConvnextConfig, ends: Ends) -> list[Part]:
    """The parts `embed`, `layers.N`, `halve.S` before the layers of each later stage, and `projector`."""
    found = [Part("embed", partial(_embedding, section), makes_rows=True)]
    for stage in section.stages:
        if stage.number:
            found.append(Part(f"halve.{stage.number}", partial(_halving, section, stage)))
        found += [Part(f"layers.{layer}", partial(_layer, section, stage)) for layer in stage.layers]
    return [*found, projector_part(section, ends, section.merge**2)]


@final
class Stem(nn.Module):
    """The first part: batch -> rows (rows, width), one for each patch."""

    def __init__(self, patch_dim: int, width: int, eps: float) -> None:
        super().__init__()
        self.patch = Linear(patch_dim, width, bias=True)
        self.norm = LayerNorm(width, eps)

    def forward(self, _rows: Tensor | None, batch: PatchBatch) -> Tensor:
        rows: Tensor = self.norm(self.patch(batch.patches.to(self.patch.weight.dtype)))
        return rows


@final
class Halve(nn.Module):
    """A norm, then 2 x 2 rows become one: rows (rows, inputs) in groups of `side` x `side` -> (rows / 4, outputs)."""

    def __init__(self, inputs: int, outputs: int, side: int, eps: float) -> None:
        super().__init__()
        self.side = side
        self.norm = LayerNorm(inputs, eps)
        self.merge = Linear(4 * inputs, outputs, bias=True)

    def forward(self, rows: Tensor, _batch: PatchBatch) -> Tensor:
        half, width = self.side // 2, rows.shape[1]
        cells = self.norm(rows).view(len(rows) // self.side**2, half, 2, half, 2, width)
        merged: Tensor = self.merge(cells.permute(0, 1, 3, 5, 2, 4).reshape(len(rows) // 4, 4 * width))
        return merged


@final
class ConvnextLayer(Layer):
    """rows + mlp(norm(depthwise(rows))), rows (rows, width) -> (rows, width).

    `enter` gathers all rows of a lane, so every rank of the lane computes convolution and norm redundantly.
    """

    def __init__(self, stage: Stage, activation: Callable[[Tensor], Tensor], eps: float) -> None:
        super().__init__()
        self.stage = stage
        self.enter = Enter()
        self.depthwise = Depthwise(stage.width, stage.side)
        self.norm = LayerNorm(stage.width, eps)
        self.mlp = ResponsiveMlp(stage.width, EXPANSION * stage.width, activation)

    def forward(self, rows: Tensor, batch: PatchBatch) -> Tensor:
        images = _places(batch, self.stage)
        seen = self.norm(self.depthwise(self.enter(rows), images))
        out: Tensor = rows + self.mlp(seen, images)
        return out


@final
class Depthwise(nn.Module):
    """A depthwise convolution: rows (rows, channels) in groups of `side` x `side` -> (rows, channels)."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.weight = nn.Parameter(torch.empty(channels, KERNEL, KERNEL))
        self.bias = nn.Parameter(torch.empty(channels))

    def forward(self, rows: Tensor, images: list[Place]) -> Tensor:
        """Images are padded with zeros. Without images the filter gets a zero gradient."""
        if not images:
            return rows * 0 + self.weight.sum() * 0 + self.bias
        made: dict[int, Tensor] = {}
        for alike in by_size(images):
            _row, height, width = alike[0]
            grids = as_grids(stacked(rows, alike), height, width, self.side).permute(0, 3, 1, 2)
            seen = F.conv2d(grids, self.weight[:, None], padding=KERNEL // 2, groups=len(self.weight))
            made |= _of_each(alike, as_stack(seen.permute(0, 2, 3, 1), self.side))
        return laid(made, rows.new_zeros(()).expand_as(rows)) + self.bias


@final
class ResponsiveMlp(nn.Module):
    """down(response_norm(activation(up(x)))): rows (rows, width) -> (rows, width)."""

    def __init__(self, width: int, inner: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.up = Linear(width, inner, bias=True)
        self.response_norm = ResponseNorm(inner)
        self.down = OutputLinear(inner, width, bias=True)
        self.activation = activation

    def forward(self, rows: Tensor, images: list[Place]) -> Tensor:
        out: Tensor = self.down(self.response_norm(self.activation(self.up(rows)), images))
        return out


@final
class ResponseNorm(nn.Module):
    """Global response normalisation (section 3.2): rows (rows, channels) -> (rows, channels).

    Each channel is multiplied by its norm over the image, divided by the mean of all `channels`; weight, bias and a
    residual follow. A shard of the weights computes its share of the channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self.all_channels: nn.Module = ChannelSum()

    def forward(self, rows: Tensor, images: list[Place]) -> Tensor:
        """Padding rows are left out of all norms."""
        wide = torch.promote_types(rows.dtype, torch.float32)
        sizes = by_size(images)
        stacks = [stacked(rows, alike) for alike in sizes]
        norms = [torch.linalg.vector_norm(stack, dim=1, keepdim=True, dtype=wide) for stack in stacks]
        sums = [norm.sum(dim=2, keepdim=True) for norm in norms]
        means = self.all_channels(torch.cat([rows.new_zeros((0, 1, 1), dtype=wide), *sums])) / self.channels
        made: dict[int, Tensor] = {}
        for alike, stack, norm, mean in zip(
            sizes, stacks, norms, means.split([len(one) for one in sizes]), strict=True
        ):
            made |= _of_each(alike, stack * (norm / (mean + _RESPONSE_EPS)).to(rows.dtype))
        return self.weight * laid(made, rows.new_zeros(()).expand_as(rows)) + self.bias + rows


def _places(batch: PatchBatch, stage: Stage) -> list[Place]:
    """The places of images among the rows of a stage."""
    return [(row // stage.area, height >> stage.number, width >> stage.number) for row, height, width in batch.images]


def _of_each(images: list[Place], stack: Tensor) -> dict[int, Tensor]:
    """Stacked results by the first rows of their images."""
    return {row: made for (row, _height, _width), made in zip(images, stack, strict=True)}


def _embedding(section: ConvnextConfig, _earlier: Earlier) -> nn.Module:
    return Stem(section.patch_dim, section.widths[0], section.norm_eps)


def _halving(section: ConvnextConfig, stage: Stage, _earlier: Earlier) -> nn.Module:
    return Halve(section.widths[stage.number - 1], stage.width, 2 * stage.side, section.norm_eps)


def _layer(section: ConvnextConfig, stage: Stage, _earlier: Earlier) -> nn.Module:
    return ConvnextLayer(stage, ACTIVATIONS[section.activation], section.norm_eps)
