"""A registered module as an encoder: packed patches -> images -> rows."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from counterpoint.families.custom.registered import CUSTOM_MODULES
from counterpoint.families.custom.spec import CHANNELS, CustomConfig
from counterpoint.families.encoder_parts import projector_part
from counterpoint.kinds.family import Ends
from counterpoint.models.batch import PatchBatch
from counterpoint.models.chain import Earlier, Part
from counterpoint.models.image_grids import Place, as_grids, as_stack, by_size, laid, stacked
from counterpoint.models.seams import Foreign, Layer, OwnShare, WholeLane


@final
class CustomTower(Layer, Foreign):
    """The first part of a registered encoder: batch -> rows (rows, hidden).

    `tower` maps images of one size (images, channels, height, width) to (images, tokens, hidden), one token per patch
    in row-major order; it is called once for each size, and not at all without images. It stays in evaluation mode.
    Its buffers are `constants`, which are not part of the state dict. Padding rows are zeros.
    """

    def __init__(self, tower: nn.Module, constants: dict[str, Tensor], section: CustomConfig) -> None:
        super().__init__()
        self.tower = tower.eval()
        self.section = section
        self.tensor_rules = tuple(CUSTOM_MODULES[section.name].tensor_rules.items())
        self.whole_lane: nn.Module = WholeLane()
        self.own_share: nn.Module = OwnShare()
        self._constants = constants

    def train(self, mode: bool = True) -> "CustomTower":
        """Keep the tower in evaluation mode: random numbers such as dropout would depend on the layout."""
        super().train(mode)
        self.tower.eval()
        return self

    def forward(self, _rows: Tensor | None, batch: PatchBatch) -> Tensor:
        patches = self.whole_lane(batch.patches)
        self._place_constants(patches)
        made = {row: rows for alike in by_size(batch.images) for row, rows in self._encode(patches, alike)}
        empty = patches.new_zeros((len(patches), self.section.hidden))
        trained = [parameter for parameter in self.tower.parameters() if parameter.requires_grad]
        if trained:
            empty = _WithAll.apply(empty, *trained)  # type: ignore[no-untyped-call]
        own: Tensor = self.own_share(laid(made, empty))
        return own

    def _encode(self, patches: Tensor, images: Sequence[Place]) -> list[tuple[int, Tensor]]:
        """For each image of one size, its first row and its rows (height * width, hidden)."""
        _row, height, width = images[0]
        patch, merge = self.section.patch, self.section.merge
        grids = as_grids(stacked(patches, images), height, width, merge)
        cells = grids.view(len(images), height, width, CHANNELS, patch, patch)
        pixels = cells.permute(0, 3, 1, 4, 2, 5).reshape(len(images), CHANNELS, height * patch, width * patch)
        tokens = self.tower(pixels)
        expected = (len(images), height * width, self.section.hidden)
        if tuple(tokens.shape) != expected:
            raise ValueError(
                f"the registered module {self.section.name} made {tuple(tokens.shape)} of images "
                f"{tuple(pixels.shape)}, expected (images, tokens, hidden) = {expected}, a token for each patch of "
                f"{patch} x {patch} pixels; correct model.patch, model.hidden or what it returns"
            )
        rows = as_stack(tokens.view(len(images), height, width, self.section.hidden), merge)
        return [(row, made) for (row, _height, _width), made in zip(images, rows, strict=True)]

    def _place_constants(self, like: Tensor) -> None:
        """Move constants to the device of rows, and to float64 in float64 runs."""
        while self._constants:
            name, constant = self._constants.popitem()
            is_wide = like.dtype == torch.float64 and constant.is_floating_point()
            folder, _, leaf = name.rpartition(".")
            placed = constant.to(like.device, torch.float64 if is_wide else constant.dtype)
            setattr(self.tower.get_submodule(folder), leaf, placed)


def parts(section: CustomConfig, ends: Ends) -> list[Part]:
    """The parts of a registered image encoder and its projector."""
    return [Part("embed", partial(_tower, section), makes_rows=True), projector_part(section, ends, section.merge**2)]


def empty_tower(build: Callable[[], Any]) -> tuple[nn.Module, dict[str, Tensor]]:
    """Build a module with its parameters on the meta device; returns it without buffers, and the buffers by name.

    Buffers are computed on the CPU. Parameters move to the meta device one by one as they are registered, and their
    initial values are not computed. The state of torch's random generator is restored.
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        hook = register_module_parameter_registration_hook(_to_meta)  # type: ignore[arg-type]
        try:
            tower: nn.Module = build()
        finally:
            hook.remove()
    constants = {}
    # Module by module, because `named_buffers` would list a buffer that several modules share only once.
    for folder, owner in tower.named_modules():
        for leaf, buffer in list(owner.named_buffers(recurse=False, remove_duplicate=False)):
            delattr(owner, leaf)
            # Detached, an nn.Buffer becomes a plain tensor, which is not registered as a buffer again.
            constants[f"{folder}.{leaf}" if folder else leaf] = buffer.detach()
            setattr(owner, leaf, buffer.detach())
    return tower, constants


def _to_meta(_owner: nn.Module, _name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
    if parameter is None or parameter.is_meta:
        return parameter
    return nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)


def _tower(section: CustomConfig, _earlier: Earlier) -> nn.Module:
    return CustomTower(*empty_tower(partial(CUSTOM_MODULES[section.name].build, section.options)), section)


@final
class _WithAll(torch.autograd.Function):
    """The identity on rows, with a zero gradient for every parameter.

    So parameters that forward did not use, for example on a lane without images, have gradients on every rank, as the
    reduction of FSDP2 requires.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, *parameters: Tensor) -> Tensor:
        ctx.save_for_backward(*parameters)
        return rows.view_as(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        (gradient,) = gradients
        return gradient, *(p.new_zeros(()).expand(p.shape) for p in ctx.saved_tensors)
