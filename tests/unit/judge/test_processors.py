"""Published processors in full, sizes included: our pixels and rows beside those of transformers' PIL backend.

`python -m tests.unit.judge.test_processors` prints the table of docs/processors.md.
"""

import ast
import inspect
import io
import json
import math
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch.nn.functional import interpolate

from counterpoint.convert.picture_sizes import picture_sizes
from counterpoint.convert.processor import CLIP_MEAN, CLIP_STD, picture_fields, said_of_images
from counterpoint.errors import DataError
from counterpoint.kinds.arrays import Floats
from counterpoint.modalities.images.patches import cut_patches, grid_coordinates
from counterpoint.modalities.images.pictures import image_size
from counterpoint.modalities.images.rows import ImageRows
from counterpoint.modalities.images.sizes import RESIZES
from counterpoint.modalities.images.sizes.between import BetweenConfig
from counterpoint.modalities.images.sizes.budget import BudgetConfig
from counterpoint.modalities.images.sizes.total import TotalConfig
from counterpoint.modalities.images.spec import ImageConfig, ImageIntake
from tests.unit.judge.judge import REASON

pytest.importorskip("transformers", reason=REASON)

_HALF = [0.5, 0.5, 0.5]


class Case(NamedTuple):
    """A family's processor with the keys of a published folder, and what its tower takes."""

    processor: str
    keys: Mapping[str, Any]
    patch: int
    merge: int = 1
    frames: int = 1


def _square(side: int) -> dict[str, Any]:
    return {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}


def _pixels(least: int, most: int, patch: int) -> dict[str, Any]:
    edges = {"size": {"shortest_edge": least, "longest_edge": most}}
    return {**edges, "patch_size": patch, "merge_size": 2, "temporal_patch_size": 2}


_WHOLE = {"do_center_crop": False, "do_normalize": False}
CASES: Mapping[str, Case] = {
    "CLIP ViT-L/14 336": Case("clip:CLIP", _square(336), 14),
    "C-RADIO": Case("clip:CLIP", {**_square(224), **_WHOLE}, 16),
    "SigLIP so400m/14 384": Case("siglip:Siglip", {"size": {"height": 384, "width": 384}}, 14),
    "SigLIP 2 NaFlex": Case("siglip2:Siglip2", {"max_num_patches": 256, "patch_size": 16}, 16),
    "ConvNeXt V2 224": Case("convnext:ConvNext", {"size": {"shortest_edge": 224}}, 4, 8),
    "ConvNeXt V2 384": Case("convnext:ConvNext", {"size": {"shortest_edge": 384}}, 4, 8),
    "LLaVA 1.5": Case("llava:Llava", _square(336), 14),
    "LLaVA 1.5, pad": Case("llava:Llava", {**_square(336), "do_pad": True}, 14),
    "Qwen2.5-VL": Case("qwen2_vl:Qwen2VL", _pixels(56 * 56, 28 * 28 * 256, 14), 14, 2, 2),
    "Qwen3-VL": Case(
        "qwen2_vl:Qwen2VL", {**_pixels(65536, 1024 * 256, 16), "image_mean": _HALF, "image_std": _HALF}, 16, 2, 2
    ),
}


class Judged(NamedTuple):
    """transformers' processor, and our reader of the folder that it wrote."""

    processor: Any
    reader: ImageIntake


def judged(name: str, folder: Path) -> Judged:
    """A processor that was saved to a folder and read from it by `import`."""
    case = CASES[name]
    module, kind = case.processor.split(":")
    processing = __import__(f"transformers.models.{module}.image_processing_pil_{module}", fromlist=[kind])
    processor = vars(processing)[f"{kind}ImageProcessorPil"](**case.keys)
    processor.save_pretrained(folder)
    sizes = picture_sizes(picture_fields(folder), case.patch, case.merge, None)
    assert sizes is not None
    assert not sizes.otherwise
    bare = ImageIntake("vision", ImageConfig(resize=sizes.rule), patch=case.patch, merge=case.merge, frames=case.frames)
    # A ConvNeXt's group is no key of its processor.
    said = said_of_images(folder, bare)
    image = ImageConfig(resize=sizes.rule, **said.values)
    return Judged(processor, ImageIntake("vision", image, patch=case.patch, merge=case.merge, frames=case.frames))


@pytest.fixture(params=list(CASES))
def found(request: pytest.FixtureRequest, tmp_path: Path) -> Judged:
    return judged(request.param, tmp_path / "folder")


def _noise(height: int, width: int, channels: int, seed: int, dtype: type = np.uint8) -> NDArray[Any]:
    """Random values under smooth ones, as photographs have both."""
    generator = np.random.default_rng(seed)
    largest = np.iinfo(dtype).max
    waves = np.sin(np.arange(height)[:, None, None] / 7) * np.cos(np.arange(width)[None, :, None] / 11)
    noise = generator.random((height, width, channels)) * 0.5
    return np.asarray((0.25 + 0.25 * waves + noise).clip(0, 1) * largest, dtype=dtype)


def _encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def files() -> Mapping[str, bytes]:
    """Twelve pictures, encoded, by what is odd about each."""
    turned = Image.Exif()
    turned[0x0112] = 6
    rgba = _noise(90, 61, 4, 8)
    rgba[..., 3] = 255
    return {
        "odd sizes": _encoded(Image.fromarray(_noise(333, 517, 3, 0))),
        "portrait": _encoded(Image.fromarray(_noise(640, 427, 3, 1)), "JPEG"),
        "1 x 1": _encoded(Image.fromarray(_noise(1, 1, 3, 2))),
        "3 x 200": _encoded(Image.fromarray(_noise(3, 200, 3, 3))),
        "palette": _encoded(Image.fromarray(_noise(100, 140, 3, 4)).quantize(64)),
        "grey": _encoded(Image.fromarray(_noise(75, 201, 1, 5)[..., 0])),
        "1 bit": _encoded(Image.fromarray(_noise(75, 64, 1, 6)[..., 0]).convert("1")),
        "rotated by EXIF": _encoded(Image.fromarray(_noise(120, 260, 3, 7)), "JPEG", exif=turned),
        "RGBA, opaque": _encoded(Image.fromarray(rgba)),
        "16 bit": _encoded(Image.fromarray(_noise(130, 70, 1, 9, np.uint16)[..., 0])),
        "CMYK": _encoded(Image.fromarray(_noise(99, 177, 4, 10), "CMYK"), "JPEG"),
        "large": _encoded(Image.fromarray(_noise(1500, 2001, 3, 11)), "JPEG"),
    }


def _as_published(data: bytes) -> Image.Image:
    """An upright picture in RGB, as transformers' load_image makes it; 16 bits, which it cuts off at 255, scaled."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.mode.startswith("I"):
        levels = np.round(np.asarray(image) * (255 / 65535))
        image = Image.fromarray(levels.astype(np.uint8))
    return image.convert("RGB")


def _theirs(one: Judged, image: Image.Image) -> tuple[Floats, tuple[int, int]]:
    """The rows of the processor in the order of ours, and their grid."""
    made, patch, merge = one.processor(image, return_tensors="np"), one.reader.patch, one.reader.merge
    pixels = np.asarray(made["pixel_values"])
    if "image_grid_thw" in made:
        _one, rows, columns = np.asarray(made["image_grid_thw"])[0].tolist()
        return pixels, (rows, columns)
    if "spatial_shapes" in made:
        rows, columns = np.asarray(made["spatial_shapes"])[0].tolist()
        cut = pixels[0, : rows * columns].reshape(-1, patch, patch, 3).transpose(0, 3, 1, 2)
    else:
        # A convolution of stride `patch`, as towers begin with, does not see what is beyond the last whole group.
        rows, columns = (side // (patch * merge) * merge for side in pixels.shape[-2:])
        whole = pixels[0][:, : rows * patch, : columns * patch]
        cut = whole.reshape(3, rows, patch, columns, patch).transpose(1, 3, 0, 2, 4).reshape(-1, 3, patch, patch)
    order = grid_coordinates(rows, columns, merge)
    return cut[order[:, 0] * columns + order[:, 1]].reshape(rows * columns, -1), (rows, columns)


def _largest_difference(one: Judged, data: bytes) -> float:
    """Of the values of all rows, in steps of 255 before mean and deviation; infinite if the rows are others."""
    ours = ImageRows(one.reader).read([data], image_size(data))
    theirs, grid = _theirs(one, _as_published(data))
    if ours.grid != grid or ours.patches.shape != theirs.shape:
        return math.inf
    assert isinstance(one.reader.image, ImageConfig)
    std = np.array(one.reader.image.scaling.std)[None, :, None]
    apart = np.abs(ours.patches.astype(np.float64) - theirs).reshape(len(theirs), 3, -1)
    return float((apart * std * 255).max())


LEVELS = 1e-4
"""Steps of 255 by which values may differ: the roundings of float32."""


def test_pixels_are_the_published_ones(found: Judged) -> None:
    for name, data in files().items():
        assert _largest_difference(found, data) <= LEVELS, name


def test_rows_are_as_many_as_published(found: Judged) -> None:
    generator = np.random.default_rng(1)
    for height, width in generator.integers(8, 600, (50, 2)).tolist():
        grid = _theirs(found, Image.new("RGB", (width, height)))[1]
        assert found.reader.fits((height, width))
        assert found.reader.grid(height, width) == grid, (height, width)


def _of_source(module: str, name: str) -> Any:
    """A function of a module that cannot be imported here, which needs nothing but math."""
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text())
    (function,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    space: dict[str, Any] = {"math": math}
    exec(compile(ast.Module([function], []), spec.origin, "exec"), space)
    return space[name]


def _sizes(longest: int) -> Iterator[tuple[int, int]]:
    generator = np.random.default_rng(2)
    for height, width in np.exp(generator.uniform(0, math.log(longest), (300, 2))).astype(int).tolist():
        if max(height, width) <= 200 * min(height, width):
            yield height, width


@pytest.mark.parametrize("most", [1600, 13312])
def test_rows_of_nemotron_are_as_many_as_published(most: int) -> None:
    # Its processor needs torchvision; the function that chooses sizes does not.
    module = "transformers.models.nemotron_h_omni.image_processing_nemotron_h_omni"
    published = _of_source(module, "get_patch_grid_size")
    rule = BetweenConfig(kind="between", min_patches=1024, max_patches=most)
    for height, width in _sizes(12_000):
        if rule.refusal(height, width, 16, 2, 2**40) is None:
            expected = published(height, width, 16, 2, 1024, most)
            assert rule.grid(height, width, 16, 2) == tuple(expected), (height, width)


def test_pixels_of_nemotron_are_the_published_ones() -> None:
    """Beside the operations of its processor, which needs torchvision for them: float32, not rounded."""
    rule = BetweenConfig(kind="between", min_patches=1024, max_patches=13312)
    image = ImageConfig(resize=rule, mean=CLIP_MEAN, std=CLIP_STD, rounded=False)
    reader = ImageIntake("vision", image, patch=16, merge=2)
    mean, std = (np.array(one)[:, None, None] for one in (CLIP_MEAN, CLIP_STD))
    for name, data in files().items():
        ours = ImageRows(reader).read([data], image_size(data))
        rows, columns = ours.grid
        pixels = torch.from_numpy(np.array(_as_published(data))).permute(2, 0, 1)[None].float()
        scaled = interpolate(pixels, (rows * 16, columns * 16), mode="bicubic", antialias=True)[0].numpy()
        theirs = cut_patches(((scaled / 255 - mean) / std).transpose(1, 2, 0)[None], 16, 2)
        apart = np.abs(ours.patches.astype(np.float64) - theirs).reshape(len(theirs), 3, -1)
        # Pillow sums in float64 and torch in float32.
        assert (apart * np.array(CLIP_STD)[None, :, None] * 255).max() <= 0.05, name
        if name == "1 bit":
            assert theirs.min() < (-mean / std).min(), "a filter goes beyond black at an edge"


@pytest.mark.parametrize("kind", ["Nemotron", "other"])
def test_only_nemotron_keeps_fractions(kind: str, tmp_path: Path) -> None:
    stated = {"Nemotron": "NemotronH_Omni_Reasoning_V3ImageProcessor", "other": "CLIPImageProcessor"}[kind]
    keys = {"image_processor_type": stated, "image_mean": list(CLIP_MEAN), "image_std": list(CLIP_STD)}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(keys))
    said = said_of_images(tmp_path, ImageIntake("vision", ImageConfig(max_patches=256), patch=16))
    assert said.values["rounded"] is (kind == "other")


@pytest.mark.parametrize("name", ["Qwen2.5-VL", "Qwen3-VL", "SigLIP 2 NaFlex"])
def test_rows_of_large_pictures_are_as_many_as_published(name: str, tmp_path: Path) -> None:
    one, case = judged(name, tmp_path), CASES[name]
    module = inspect.getmodule(type(one.processor))
    for height, width in _sizes(20_000):
        if case.merge == 1:
            expected = vars(module)["get_image_size_for_max_num_patches"](height, width, 16, 256)
        else:
            size = case.keys["size"]
            edges = size["shortest_edge"], size["longest_edge"]
            expected = vars(module)["smart_resize"](height, width, case.patch * case.merge, *edges)
        assert one.reader.grid(height, width) == tuple(side // case.patch for side in expected), (height, width)


@pytest.mark.parametrize("name", ["Qwen2.5-VL", "Qwen3-VL"])
def test_a_picture_that_is_too_long_is_taken_by_neither(name: str, tmp_path: Path) -> None:
    one = judged(name, tmp_path)
    data = _encoded(Image.new("RGB", (201, 1)))
    with pytest.raises(ValueError, match="aspect ratio"):
        _theirs(one, _as_published(data))
    assert not one.reader.fits((1, 201))
    with pytest.raises(DataError, match="more than 200 times the shorter one"):
        ImageRows(one.reader).read([data], (1, 201))
    assert one.reader.fits((1, 200))


@pytest.mark.parametrize("pictures", [2, 3, 5, 16])
def test_rows_of_videos_are_as_many_as_published(pictures: int) -> None:
    smart_resize = _of_source("transformers.models.qwen3_vl.video_processing_qwen3_vl", "smart_resize")
    ends = {"min_pixels": 4096 * 4, "max_pixels": 25_165_824 // 16}
    rule = TotalConfig(kind="total", **ends).of(pictures, 2)
    for height, width in _sizes(9_000):
        try:
            expected = smart_resize(pictures, height, width, 2, 32, *ends.values())
        except ValueError:
            # Twice as long as the shortest that is refused, once its short side has a whole group.
            assert max(height, width) > 190 * min(height, width)
            continue
        assert rule.grid(height, width, 16, 2) == tuple(side // 16 for side in expected), (height, width)


@pytest.mark.parametrize("pictures", [2, 3, 16, 64])
def test_caps_of_videos_are_the_published_ones(pictures: int) -> None:
    of_all = _of_source("transformers.models.qwen3_vl.video_processing_qwen3_vl", "smart_resize")
    total = TotalConfig(kind="total", min_pixels=4096, max_pixels=25_165_824, picture_pixels=48 * 1024)
    most = max(min(48 * 1024, 25_165_824 // pictures), int(4096 * 1.05)) * pictures
    of_one = _of_source("transformers.models.qwen2_vl.video_processing_qwen2_vl", "smart_resize")
    budget = BudgetConfig(kind="budget", min_pixels=100_352, max_pixels=602_112, video_pixels=2_000_000)
    share = max(min(602_112, 2_000_000 * 2 // pictures), int(100_352 * 1.05))
    for height, width in _sizes(4_000):
        if max(height, width) > 150 * min(height, width):
            continue
        expected = of_all(pictures, height, width, 2, 32, 4096, most)
        assert total.of(pictures, 2).grid(height, width, 16, 2) == tuple(side // 16 for side in expected)
        expected = of_one(height, width, 28, 100_352, share)
        assert budget.of(pictures, 2).grid(height, width, 14, 2) == tuple(side // 14 for side in expected)


def test_every_rule_is_judged(tmp_path: Path) -> None:
    rules = {judged(name, tmp_path / str(i)).reader.rule.kind for i, name in enumerate(CASES)}
    assert rules | {"between", "total"} == set(RESIZES)


def table() -> str:
    """Largest differences by family and file."""
    lines = ["| family | rule | largest difference | files |", "|---|---|---|---|"]
    for name in CASES:
        with TemporaryDirectory() as folder:
            one = judged(name, Path(folder))
            apart = {file: _largest_difference(one, data) for file, data in files().items()}
            largest = max(apart.values())
            lines.append(f"| {name} | `{one.reader.rule.kind}` | {largest:.1e} | {len(apart)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
