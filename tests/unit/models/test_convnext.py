"""A tower whose rows become fewer: packed images of any size equal images one by one, and what it may not be."""

from typing import Any

import pytest
import torch
from torch import nn

from counterpoint.config.load import load_config
from counterpoint.errors import ConfigError
from counterpoint.families.parts import parts_of
from counterpoint.kinds.family import Model
from counterpoint.models.chain import MAIN, Chain
from counterpoint.parallelize.recompute import apply_recompute
from tests.intakes import image_batch, image_intake
from tests.parity.layouts import TINY, override
from tests.unit.models.model_samples import CONVNEXTS, build, laid, patch_batch
from tests.unit.models.test_packing import TOLERANCE, assert_same, gradients, spread

GRIDS = {"convnext": ((4, 6), (2, 2), (4, 6), (2, 8), (12, 2)), "merging convnext": ((8, 16), (8, 8), (16, 8), (8, 16))}


def lively(model: Model) -> Chain:
    """A model whose responses count: they begin with a weight of zero."""
    chain = build(model)
    for name, parameter in chain.named_parameters():
        if "response_norm" in name:
            with torch.no_grad():
                parameter.copy_(torch.arange(parameter.numel()).sin())
    return chain


@pytest.mark.parametrize("padding", [0, 64])
@pytest.mark.parametrize("name", CONVNEXTS)
def test_packed_images_equal_images_one_by_one(name: str, padding: int) -> None:
    model, grids = CONVNEXTS[name], GRIDS[name]
    batch, group = patch_batch(model, grids, padding), image_intake(model).row_multiple
    packed, alone = lively(model), lively(model)
    features = packed(None, batch)[MAIN]
    used = len(batch.patches) - padding
    assert features.shape == ((used + padding) // group, model.ends.leaving)
    assert torch.isfinite(features).all()
    spread(features[: used // group]).backward()
    for image in laid(model, grids):
        one = image_batch(model, [image._replace(row=0)], batch.patches[image.row : image.row + image.rows])
        rows, first = alone(None, one)[MAIN], image.row // group
        assert (rows - features[first : first + len(rows)]).abs().max().item() <= TOLERANCE
        spread(rows, first * model.ends.leaving).backward()
    assert_same(gradients(packed), gradients(alone))


@pytest.mark.parametrize("name", CONVNEXTS)
def test_every_patch_of_an_image_reaches_its_rows_and_no_others(name: str) -> None:
    model, grids = CONVNEXTS[name], GRIDS[name][:3]
    batch, chain, group = patch_batch(model, grids), lively(model), image_intake(model).row_multiple
    patches = batch.patches.clone().requires_grad_()
    object.__setattr__(batch, "patches", patches)
    _before, own, _behind = laid(model, grids)
    chain(None, batch)[MAIN][own.row // group : (own.row + own.rows) // group].square().sum().backward()
    reached = patches.grad
    assert reached is not None
    inside = (torch.arange(len(patches)) >= own.row) & (torch.arange(len(patches)) < own.row + own.rows)
    assert ((reached.abs().sum(1) > 0) == inside).all()


@pytest.mark.parametrize("padding", [0, 64])
@pytest.mark.parametrize("is_recomputed", [False, True])
@pytest.mark.parametrize("model", CONVNEXTS.values(), ids=CONVNEXTS)
def test_without_images_every_part_runs_and_gives_zero_gradients(
    model: Model, is_recomputed: bool, padding: int
) -> None:
    chain = lively(model)
    if is_recomputed:
        apply_recompute(chain, {"L"})
    out = chain(None, patch_batch(model, (), padding))[MAIN]
    assert out.shape == (padding // image_intake(model).row_multiple, model.ends.leaving)
    assert torch.isfinite(out).all()
    (out.sum() * 0).backward()
    assert all(not gradient.any() for gradient in gradients(chain).values())


def test_a_dark_channel_has_no_response_and_finite_gradients() -> None:
    """The norm of zeros has a gradient of zero, as torch's has."""
    model = CONVNEXTS["convnext"]
    chain = lively(model)
    up = chain.get_submodule("layers.0.mlp.up")
    assert isinstance(up.bias, nn.Parameter)
    with torch.no_grad():
        for parameter in up.parameters():
            parameter.zero_()
    chain(None, patch_batch(model, GRIDS["convnext"]))[MAIN].sum().backward()
    assert all(torch.isfinite(gradient).all() for gradient in gradients(chain).values())


def test_parts_are_those_of_the_stages() -> None:
    names = [part.name for part in parts_of(CONVNEXTS["merging convnext"])]
    assert names == ["embed", "layers.0", "halve.1", "layers.1", "halve.2", "layers.2", "projector"]


KEYS: dict[str, Any] = {
    "kind": "convnext", "patch": 2, "depths": [1, 1], "widths": [4, 8], "image": {"max_patches": 16},
    "projector": {"kind": "linear"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "layout", "sentence"),
    [
        ({"widths": [4]}, {}, r"model.widths: got 1 widths, expected 2, a width for each number of .*depths"),
        ({"depths": []}, {}, r"model.depths: got "),
        ({"merge": 4}, {}, r"image.max_patches: got 16, expected at least 64, which .* merges into one row"),
        (
            {"image": {"max_patches": 16, "size": 3}}, {},
            r"image.size: got 3 pixels, expected at least 4, the side of what .* makes one row of",
        ),
        (
            {"image": {"kind": "depth", "max_patches": 16}}, {},
            r"model.channels: got 3, expected 1, because .*image.kind is depth",
        ),
        ({}, {"tp": 3}, r"model.widths.0: got 4, expected a multiple of modules.vision.layout.tp, 3"),
        ({}, {"pp": 2}, r"layout.pp: got 2, expected 1, because a convnext sees whole images, in rows that become"),
        ({}, {"cp": 2}, r"layout.cp: got 2, expected 1, because a convnext sees whole images"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(keys: dict[str, Any], layout: dict[str, Any], sentence: str) -> None:
    size = layout.get("tp", 1) * layout.get("pp", 1) * layout.get("cp", 1)
    changes = {
        "modules.vision.model": KEYS | keys,
        "modules.vision.layout": {"ranks": list(range(size)), **layout},
        "modules.language.layout": {"ranks": [size]},
        "world.size": size + 1,
    }
    with pytest.raises(ConfigError, match=sentence):
        override(load_config(TINY), changes)
