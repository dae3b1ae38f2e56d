"""A registered module as an encoder: what it is given, what becomes of what it makes, and what it may not do."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from counterpoint.families import facts_of, initial_of
from counterpoint.families.custom.model import empty_tower
from counterpoint.families.custom.register import register_module
from counterpoint.families.custom.registered import CUSTOM_MODULES
from counterpoint.families.parts import parts_of
from counterpoint.kinds.family import Model
from counterpoint.modalities.images.patches import PatchPayload, cut_patches
from counterpoint.models.batch import PatchBatch
from counterpoint.models.chain import MAIN, Chain, build_chain
from counterpoint.parallelize.blocks import whole_block
from counterpoint.parallelize.initialize import initialize_
from counterpoint.parallelize.recompute import apply_recompute
from tests.intakes import pack_images
from tests.parity.brought import MODELS, Vit, brought_model
from tests.unit.models.model_samples import LINEAR, sample


def build(model: Model) -> Chain:
    """A chain with initial values in float64."""
    with torch.device("meta"):
        chain = build_chain(parts_of(model)).to(torch.float64)
    chain.to_empty(device="cpu")
    rules = initial_of(model.section)
    for name, parameter in chain.named_parameters():
        initialize_(parameter.detach(), whole_block(name, tuple(parameter.shape)), 0, "vision", 1, rules)
    return chain


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Model]:
    """Makes a model of 2 x 2 pixels a patch of what `build` gives, known to one test."""
    monkeypatch.setattr(CUSTOM_MODULES, "_kinds", dict(CUSTOM_MODULES.items()))

    def made(name: str, build: Callable[[], nn.Module], merge: int = 1) -> Model:
        register_module(name, lambda _options: build())
        keys = {"hidden": 12, "patch": 2, "merge": merge, "image": {"max_patches": 64}, "projector": LINEAR}
        return sample("custom", name=name, leaving=5, **keys)

    return made


def image(model: Model, height: int, width: int, seed: int = 0) -> tuple[PatchPayload, Tensor]:
    """An image of so many patches, and its pixels (channels, height, width)."""
    generator, patch = np.random.default_rng(seed), model.section.patch
    pixels = generator.standard_normal((height * patch, width * patch, 3)).astype(np.float32)
    payload = PatchPayload(cut_patches(pixels[None], patch, model.section.merge), (height, width))
    return payload, torch.from_numpy(pixels).permute(2, 0, 1).double()


def batch(model: Model, *grids: tuple[int, int]) -> PatchBatch:
    """Images behind each other."""
    images = [image(model, *grid, seed)[0] for seed, grid in enumerate(grids)]
    packed, _kept = pack_images(images, model, torch.float64)
    assert isinstance(packed, PatchBatch)
    return packed


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("is_recomputed", [False, True])
def test_no_rows_have_a_backward_with_gradients_of_zero(name: str, is_recomputed: bool) -> None:
    model = brought_model(name)
    chain = build(model).train()
    if is_recomputed:
        apply_recompute(chain, {"L"})
    out = chain(None, batch(model))[MAIN]
    assert out.shape == (0, 24)
    torch.autograd.backward(out.sum())
    assert {key: float(p.grad.abs().sum()) for key, p in chain.named_parameters() if p.grad is not None} == {
        key: 0.0 for key, _p in chain.named_parameters()
    }


@pytest.mark.parametrize("merge", [1, 2])
def test_images_are_put_together_and_rows_lie_where_their_patches_did(
    register: Callable[..., Model], merge: int
) -> None:
    """Each token is its own patch, so the rows are the patches as they came, in an order of images by size."""

    class Patches(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            seen.append(pixels)
            return nn.functional.unfold(pixels, 2, stride=2).transpose(1, 2)

    seen: list[Tensor] = []
    model = register("patches", Patches, merge)
    grids = [(4, 2), (2, 2), (4, 2), (2, 6)]
    packed = batch(model, *grids)
    (_name, embed), *_ = build_chain(parts_of(model)).parts()
    # unfold has (channel, row, column) order, as patches do.
    assert torch.equal(embed(None, packed), packed.patches)
    pixels = {grid: torch.stack([image(model, *g, s)[1] for s, g in enumerate(grids) if g == grid]) for grid in grids}
    assert [tuple(one.shape) for one in seen] == [(1, 3, 4, 4), (1, 3, 4, 12), (2, 3, 8, 4)]
    assert all(torch.equal(one, pixels[one.shape[2] // 2, one.shape[3] // 2]) for one in seen)


def test_a_tower_never_drops_and_never_updates_statistics() -> None:
    model = brought_model("test_vit")
    chain = build(model).train()
    packed = batch(model, (2, 4), (4, 4))
    first, second = (chain(None, packed)[MAIN] for _ in range(2))
    assert torch.equal(first, second)
    assert dict(chain.named_buffers()) == {}


def test_what_was_a_buffer_has_its_values_and_is_no_state() -> None:
    model = brought_model("test_vit")
    chain = build(model)
    chain(None, batch(model, (2, 2)))
    tower = chain.get_submodule("embed.tower")
    assert isinstance(tower, Vit)
    assert isinstance(tower.waves, Tensor)
    assert torch.equal(tower.waves, torch.linspace(0.1, 2.0, 24).double())
    running: object = tower.stem.running_var
    assert isinstance(running, Tensor)
    assert torch.equal(running, torch.ones(3).double())
    assert not [key for key in chain.state_dict() if "waves" in key or "running" in key]


def test_a_buffer_that_modules_share_keeps_its_values_in_each() -> None:
    shared = torch.full((3,), 7.0)

    def make() -> nn.Module:
        tower = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3))
        for module in tower:
            module.register_buffer("shared", shared)
        return tower

    tower, constants = empty_tower(make)
    assert not list(tower.named_buffers())
    assert constants.keys() == {"0.shared", "1.shared"}
    assert all(torch.equal(value, shared) for value in constants.values())


def test_building_computes_no_initial_values_and_draws_nothing() -> None:
    before = torch.get_rng_state()
    tower, constants = empty_tower(lambda: Vit({"width": 24}))
    assert all(parameter.is_meta for parameter in tower.parameters())
    assert set(constants) == {"waves", "order", "stem.running_mean", "stem.running_var", "stem.num_batches_tracked"}
    assert torch.equal(torch.get_rng_state(), before)


def test_initial_values_follow_the_registered_patterns_and_gains_are_one() -> None:
    values = {name: parameter.detach() for name, parameter in build(brought_model("test_vit")).named_parameters()}
    assert values["embed.tower.cls_token"].std() > 0.5
    assert float(values["embed.tower.blocks.0.fc1.weight"].std()) == pytest.approx(0.2, rel=0.2)
    assert float(values["embed.tower.mask_token"].std()) == pytest.approx(0.02, rel=0.5)
    assert torch.equal(values["embed.tower.norm.weight"], torch.ones(24).double())
    assert torch.equal(values["embed.tower.norm.bias"], torch.zeros(24).double())


def test_rows_of_another_number_are_refused_by_name(register: Callable[..., Model]) -> None:
    model = register("flat", nn.Flatten)
    with pytest.raises(ValueError, match=r"flat made \(1, 48\) of images \(1, 3, 4, 4\), expected .*\(1, 4, 12\)"):
        build_chain(parts_of(model))(None, batch(model, (2, 2)))


def test_the_estimated_work_of_matrices_is_what_they_do() -> None:
    model = brought_model("test_vit")
    facts = facts_of(model)
    matrices = sum(parameter.numel() for parameter in Vit({"width": 24}).parameters() if parameter.ndim > 1)
    assert facts.parts[0].flops_per_row == 2 * matrices
