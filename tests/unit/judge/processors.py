"""Pictures in files, and what transformers' own image processors and models make of them."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from counterpoint.convert.composite import VISION, CompositeModel, composite_of
from counterpoint.families.vit.spec import VitConfig
from counterpoint.kinds.family import Model
from counterpoint.modalities.images.patches import PatchPayload, grid_coordinates
from counterpoint.modalities.images.pictures import image_size
from counterpoint.modalities.images.rows import ImageRows
from counterpoint.modalities.images.spec import ImageIntake
from counterpoint.models.chain import MAIN
from counterpoint.setup.data import intakes_of
from counterpoint.setup.settle import settle_items
from tests.intakes import with_image
from tests.parity.layouts import override
from tests.unit.judge.converted import modules_to_ours
from tests.unit.judge.judge import REASON, quiet, randomize
from tests.unit.judge.models import Config
from tests.unit.judge.towers import Named, build_lifted, make_judge, qwen_outputs, stored
from tests.unit.judge.whole_configs import config_of

CLIP = {"size": {"shortest_edge": 8}, "crop_size": {"height": 8, "width": 8}}
FILM = {
    "patch_size": 2,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "size": {"shortest_edge": 16, "longest_edge": 2**20},
}
AS_IT_IS = {"do_resize": False, "do_center_crop": False}
HALF = [0.5, 0.5, 0.5]


class Case(NamedTuple):
    """A family's processor with its published defaults and sizes of a tiny model, or None where its folder has none;
    pictures, (height, width), of which both size rules make the same, and what our config says of sizes."""

    processor: str | None
    options: Mapping[str, Any]
    sizes: tuple[tuple[int, int], ...]
    image: Mapping[str, Any]


_PLAIN_CLIP = Case("clip.image_processing_pil_clip:CLIPImageProcessorPil", CLIP, ((8, 8), (20, 20)), {"size": 8})
_RADIO = Case(None, {}, ((8, 8), (4, 6)), {})
_QWEN = "qwen2_vl.image_processing_pil_qwen2_vl:Qwen2VLImageProcessorPil"
CASES: Mapping[str, Case] = {
    "clip": _PLAIN_CLIP,
    "siglip": Case(
        "siglip.image_processing_pil_siglip:SiglipImageProcessorPil", {"size": {"height": 8, "width": 8}},
        ((8, 8), (20, 20)), {"size": 8},
    ),
    "siglip2": Case(
        "siglip2.image_processing_pil_siglip2:Siglip2ImageProcessorPil", {"patch_size": 2, "max_num_patches": 36},
        ((8, 18), (16, 36)), {"size": 18},
    ),
    "radio": _RADIO,
    "convnextv2": Case(
        "convnext.image_processing_pil_convnext:ConvNextImageProcessorPil", {"do_resize": False},
        ((8, 8), (16, 8)), {},
    ),
    "qwen2_5_vl": Case(_QWEN, FILM, ((8, 12), (9, 23)), {}),
    "qwen3_vl": Case(_QWEN, {**FILM, "image_mean": HALF, "image_std": HALF}, ((8, 12), (9, 23)), {}),
    "llava": Case("llava.image_processing_pil_llava:LlavaImageProcessorPil", CLIP, ((8, 8), (20, 20)), {"size": 8}),
    # Its own processor needs torchvision; it does to pixels of the right size what this one does by its constants.
    "nemotron_h_omni": Case("clip.image_processing_pil_clip:CLIPImageProcessorPil", AS_IT_IS, ((8, 12), (4, 8)), {}),
}  # fmt: skip


class Judged(NamedTuple):
    """A judge's model that lies in a folder with its processor, our names of its weights, and how we read pictures."""

    model: Any
    process: Callable[[Image.Image], Mapping[str, Tensor]]
    whole: CompositeModel
    weights: dict[str, Named]
    reader: ImageIntake


def judged(name: str, config: Config, folder: Path, patch: pytest.MonkeyPatch) -> Judged:
    """Write a model of random values with its processor to a folder, and start from it as a run does."""
    quiet()
    model = build_lifted(lambda: make_judge(config), patch)
    randomize(model)
    if name == "radio":
        _condition(model)
    described, tensors = stored(model, folder)
    case = CASES[name]
    process = _unit_pixels if case.processor is None else _processor(case, folder)
    whole = composite_of(described)
    run = override(config_of(whole, folder, {}), {f"modules.vision.model.image.{k}": v for k, v in case.image.items()})
    reader = intakes_of(settle_items(run))[VISION]
    assert isinstance(reader, ImageIntake)
    reader = with_image(reader, max_patches=2**12)
    return Judged(model, process, whole, modules_to_ours(whole, tensors), reader)


def _condition(model: Any) -> None:
    """Published values in place of random ones; arithmetic in float32, as without the lifted casts."""
    for name in ("norm_mean", "norm_std"):
        values = torch.tensor(getattr(model.config, name), dtype=torch.float32)
        getattr(model.input_conditioner, name).copy_(values.view(3, 1, 1))
    condition_in_float32(model)


def condition_in_float32(model: Any) -> None:
    """Let a RADIO's conditioner compute in float32, though casts are lifted."""
    conditioner = model.input_conditioner

    def condition(pixels: Tensor) -> Tensor:
        # In numpy, because casts of tensors are lifted.
        values, mean, std = (
            tensor.numpy().astype(np.float32) for tensor in (pixels, conditioner.norm_mean, conditioner.norm_std)
        )
        return torch.from_numpy((values - mean) / std).to(pixels.dtype)

    conditioner.forward = condition


def _unit_pixels(image: Image.Image) -> Mapping[str, Tensor]:
    """From 0 to 1, which a RADIO's own conditioner takes."""
    pixels = torch.from_numpy(np.asarray(image, dtype=np.float32).transpose(2, 0, 1).copy()) / 255
    return {"pixel_values": pixels[None]}


def _processor(case: Case, folder: Path) -> Callable[[Image.Image], Mapping[str, Tensor]]:
    assert case.processor is not None
    module, name = case.processor.split(":")
    processing = pytest.importorskip(f"transformers.models.{module}", reason=REASON)
    processor = vars(processing)[name](**case.options)
    processor.save_pretrained(folder)

    def process(image: Image.Image) -> Mapping[str, Tensor]:
        found: Mapping[str, Tensor] = processor(image, return_tensors="pt")
        return found

    return process


def picture_files(name: str, folder: Path) -> list[Path]:
    """Random pictures of a case's sizes, on disk."""
    generator, files = np.random.default_rng(4), []
    folder.mkdir()
    for number, (height, width) in enumerate(CASES[name].sizes):
        pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        files.append(folder / f"{number}.png")
        Image.fromarray(pixels).save(files[-1])
    return files


def our_payload(reader: ImageIntake, file: Path) -> PatchPayload:
    """A file as a run reads it."""
    data = file.read_bytes()
    return ImageRows(reader).read([data], image_size(data))


def their_inputs(process: Callable[[Image.Image], Mapping[str, Tensor]], file: Path) -> dict[str, Tensor]:
    """A file as the judge's processor makes it; pixels are float32."""
    with Image.open(io.BytesIO(file.read_bytes())) as image:
        return dict(process(image))


def their_rows(name: str, inputs: Mapping[str, Tensor], reader: ImageIntake, payload: PatchPayload) -> Tensor:
    """The pixels of the judge's processor in the order of our rows."""
    pixels, (rows, columns), patch = inputs["pixel_values"], payload.grid, reader.patch
    if name.startswith("qwen"):
        return pixels
    if name == "siglip2":
        cut = pixels[0, : rows * columns].reshape(-1, patch, patch, 3).permute(0, 3, 1, 2)
    else:
        cut = pixels[0].reshape(3, rows, patch, columns, patch).permute(1, 3, 0, 2, 4).reshape(-1, 3, patch, patch)
    order = torch.from_numpy(grid_coordinates(rows, columns, reader.merge))
    return cut[order[:, 0] * columns + order[:, 1]].flatten(1)


def their_features(name: str, model: Any, inputs: Mapping[str, Tensor], tower: Model) -> Named:
    """What leaves the judge's tower, in float64, of what its processor made of one picture."""
    wide = {key: value.double() if value.is_floating_point() else value for key, value in inputs.items()}
    if name.startswith("qwen"):
        said = model.model.visual(wide["pixel_values"], grid_thw=wide["image_grid_thw"])
        return qwen_outputs(said, tower.ends.taps)
    if name == "radio":
        return {MAIN: model(pixel_values=wide["pixel_values"]).features[0]}
    rows = model(**wide).last_hidden_state[0]
    if name == "siglip2":
        return {MAIN: rows[wide["pixel_attention_mask"][0].bool()]}
    if name == "convnextv2":
        return {MAIN: rows.flatten(1).T}
    return {MAIN: rows[1:] if name == "clip" else rows}


def as_picture(payload: PatchPayload, section: VitConfig) -> Tensor:
    """Our rows as the picture (3, height, width) that they were cut from, in float64."""
    (rows, columns), side = payload.grid, section.patch
    picture = torch.zeros((3, rows * side, columns * side), dtype=torch.float64)
    for patch, (row, column) in zip(
        payload.patches, grid_coordinates(rows, columns, section.merge).tolist(), strict=True
    ):
        pixels = torch.from_numpy(patch).reshape(3, section.frames, side, side)[:, 0]
        top, left = row * side, column * side
        picture[:, top : top + side, left : left + side] = pixels
    return picture
