"""transformers' vision towers as judges: tiny ones of random values, and what leaves them of some pictures."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from counterpoint.convert.composite import VISION, CompositeModel, composite_of
from counterpoint.families.vit.spec import VitConfig
from counterpoint.kinds.family import Model
from counterpoint.modalities.images.patches import cut_patches
from counterpoint.modalities.images.spec import ImageConfig, ImageIntake
from counterpoint.models.batch import PatchBatch
from counterpoint.models.chain import MAIN, Chain, port_of
from tests.intakes import image_batch, image_intake
from tests.unit.judge.converted import gradients_to_ours, modules_to_ours
from tests.unit.judge.judge import REASON, quiet, randomize, read_all, with_gradients
from tests.unit.judge.lifted import lift_casts
from tests.unit.judge.models import Config, our_module
from tests.unit.models.model_samples import laid

Grid = tuple[int, int]
Named = dict[str, Tensor]

CHANNELS = 3
PICTURE: Config = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 20, "patch_size": 2,
}  # fmt: skip
TEXT: Config = {
    "vocab_size": 23, "hidden_size": 16, "intermediate_size": 20, "num_attention_heads": 2, "num_key_value_heads": 1,
    "num_hidden_layers": 3,
}  # fmt: skip
FILM: Config = {
    "hidden_size": 16, "num_heads": 2, "intermediate_size": 20, "patch_size": 2, "out_hidden_size": 16,
    "spatial_merge_size": 2,
}  # fmt: skip
RADIO: Config = {
    "model_type": "radio", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 2,
    "mlp_ratio": 1.5, "max_img_size": 10, "num_cls_tokens": 2, "num_registers": 1,
}  # fmt: skip
CONVNEXT: Config = {
    "model_type": "convnextv2", "num_stages": 3, "depths": [1, 2, 1], "hidden_sizes": [8, 12, 16], "patch_size": 2,
    "image_size": 8,
}  # fmt: skip
QWEN2_5_VL: Config = {
    "model_type": "qwen2_5_vl",
    "vision_config": {**FILM, "depth": 3, "window_size": 8, "fullatt_block_indexes": [1]},
    "text_config": {
        "model_type": "qwen2_5_vl_text", **TEXT,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500.0, "mrope_section": [1, 2, 1]},
    },
    "image_token_id": 22, "video_token_id": 21, "vision_start_token_id": 20,
}  # fmt: skip
QWEN3_VL: Config = {
    "model_type": "qwen3_vl",
    "vision_config": {**FILM, "depth": 4, "deepstack_visual_indexes": [0, 2], "num_position_embeddings": 25},
    "text_config": {
        "model_type": "qwen3_vl_text", **TEXT, "head_dim": 12, "rope_parameters": {
            "rope_type": "default", "rope_theta": 500.0, "mrope_section": [3, 1, 2], "mrope_interleaved": True,
        },
    },
    "image_token_id": 22, "video_token_id": 21, "vision_start_token_id": 20,
}  # fmt: skip
TOWERS: Mapping[str, Config] = {
    "clip": {"model_type": "clip_vision_model", **PICTURE, "image_size": 8},
    "siglip": {"model_type": "siglip_vision_model", **PICTURE, "image_size": 8},
    "siglip2": {"model_type": "siglip2_vision_model", **PICTURE, "num_patches": 25},
    "radio": RADIO,
    "convnextv2": CONVNEXT,
    "qwen2_5_vl": QWEN2_5_VL,
    "qwen3_vl": QWEN3_VL,
}
"""By name of the case."""

SQUARE: tuple[Grid, ...] = ((4, 4), (4, 4), (4, 4))
ANY: tuple[Grid, ...] = ((5, 5), (2, 7), (1, 1), (9, 3), (8, 1))
# `F.interpolate` of torch 2.13 gives each row of a picture one column wide the same value if it filters.
WIDE: tuple[Grid, ...] = ((5, 5), (2, 7), (1, 1), (9, 3), (1, 8))
EVEN: tuple[Grid, ...] = ((4, 4), (2, 6), (10, 6), (2, 2), (6, 14))
FOURS: tuple[Grid, ...] = ((8, 4), (4, 4), (4, 12), (8, 8), (8, 4))
GRIDS: Mapping[str, tuple[Grid, ...]] = {
    "clip": SQUARE, "siglip": SQUARE, "siglip2": WIDE, "radio": ANY, "convnextv2": FOURS, "qwen2_5_vl": EVEN,
    "qwen3_vl": EVEN,
}  # fmt: skip
"""Pictures in patches: of the table's shape where the judge takes no others; else smaller, larger and longer ones."""


@dataclass(frozen=True)
class TowerVerdict:
    """What the judge says of pictures: rows that leave by each port, by our names weights and gradients of a sum."""

    whole: CompositeModel
    weights: Named
    outputs: Named
    gradients: Named


def pictures(grids: Sequence[Grid], patch: int, seed: int = 0) -> list[Tensor]:
    """Random pictures (channels, height, width) of these grids of patches."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn((CHANNELS, h * patch, w * patch), generator=generator, dtype=torch.float64) for h, w in grids]


def picture_rows(images: Sequence[Tensor], by: VitConfig | ImageIntake) -> Tensor:
    """The patches of pictures behind each other, (rows, columns)."""
    cut = [
        torch.from_numpy(cut_patches(np.stack([image.permute(1, 2, 0).numpy()] * by.frames), by.patch, by.merge))
        for image in images
    ]
    return torch.cat(cut)


def picture_batch(images: Sequence[Tensor], tower: Model) -> tuple[PatchBatch, Tensor]:
    """Pictures as a packed batch, and which rows of what leaves the tower belong to them."""
    intake = image_intake(tower)
    places = laid(tower, [grid_of(image, intake) for image in images])
    rows = torch.zeros((places[-1].row + places[-1].rows, intake.columns), dtype=torch.float64)
    cut = picture_rows(images, intake).split([place.rows for place in places])
    group = intake.row_multiple
    for place, own in zip(places, cut, strict=True):
        rows[place.row : place.row + place.rows] = own
    kept = [torch.arange(p.row // group, (p.row + p.rows) // group) for p in places]
    return image_batch(tower, places, rows), torch.cat(kept)


def grid_of(image: Tensor, by: VitConfig | ImageIntake) -> Grid:
    """Rows and columns of a picture's patches."""
    return image.shape[1] // by.patch, image.shape[2] // by.patch


def build_lifted(make: Callable[[], Any], patch: pytest.MonkeyPatch | None) -> Any:
    """The judge's model in float64; with a `patch` it is built anew with the casts of its files lifted."""
    model = make()
    if patch is not None:
        files = {type(module).__module__ for module in model.modules()}
        names = sorted(name for name in files if name.startswith("transformers.models."))
        for name in (*names, "transformers.vision_utils", "transformers.modeling_rope_utils"):
            lift_casts(patch, importlib.import_module(name))
        model = make()
    return model.double().eval()


def make_judge(config: Config) -> Any:
    """The judge's model of a config, with attention and experts as plain PyTorch."""
    transformers = pytest.importorskip("transformers", reason=REASON)
    content = {key: value for key, value in config.items() if key != "model_type"}
    described = transformers.AutoConfig.for_model(config["model_type"], **content)
    for one in (described, *(getattr(described, name) for name in described.sub_configs)):
        if one is not None:
            one._attn_implementation = one._experts_implementation = "eager"
    for mapping in (transformers.AutoModelForImageTextToText, transformers.AutoModel):
        if type(described) in mapping._model_mapping:
            return mapping._model_mapping[type(described)](described)
    raise AssertionError(f"transformers has no model of {config['model_type']}")


def stored(model: Any, folder: Path) -> tuple[Config, Named]:
    """What the judge's own code writes to disk, read back: its config.json and its tensors."""
    model.save_pretrained(folder)
    return read_all(folder)


def judge_tower(name: str, folder: Path, patch: pytest.MonkeyPatch | None) -> tuple[TowerVerdict, list[Tensor]]:
    """A tower's verdict, and the pictures that it is about."""
    quiet()
    model = build_lifted(lambda: make_judge(TOWERS[name]), patch)
    randomize(model)
    config, tensors = stored(model, folder / "weights")
    whole = composite_of(config)
    tower = tower_of(whole)
    images = pictures(GRIDS[name], tower.section.patch)
    weights = modules_to_ours(whole, tensors)[VISION]
    outputs = RUN[name](model, images, tower)
    weighted_sum(outputs).backward()
    _config, changed = stored(with_gradients(model), folder / "gradients")
    gradients = gradients_to_ours(whole, changed)[VISION]
    return TowerVerdict(whole, weights, {port: rows.detach() for port, rows in outputs.items()}, gradients), images


def tower_of(whole: CompositeModel) -> Model:
    """The tower in a checkpoint, which takes pictures of any size."""
    tower = whole.modules[VISION].model
    return tower._replace(section=tower.section.model_copy(update={"image": ImageConfig(max_patches=2**20)}))


def our_tower(tower: Model, tensors: Mapping[str, Tensor]) -> Chain:
    """Our tower with exactly these tensors, and a projector that changes nothing where they have none."""
    own = dict(tensors)
    if not any(name.startswith("projector.") for name in own):
        own["projector.linear.weight"] = torch.eye(tower.ends.leaving, dtype=torch.float64)
    return our_module(tower, own)


def our_outputs(chain: nn.Module, images: Sequence[Tensor], tower: Model) -> Named:
    """Rows of the pictures, all in one packed batch, that leave by each port."""
    batch, kept = picture_batch(images, tower)
    return {port: rows[kept] for port, rows in chain(None, batch).items()}


def weighted_sum(outputs: Mapping[str, Tensor]) -> Tensor:
    """A sum of all values, each with a random weight of its own."""
    generator = torch.Generator().manual_seed(2)
    terms = [
        (rows * torch.randn(rows.shape, generator=generator, dtype=torch.float64)).sum()
        for _port, rows in sorted(outputs.items())
    ]
    return torch.stack(terms).sum()


def _clip(model: Any, images: list[Tensor], _tower: Model) -> Named:
    return {MAIN: model(pixel_values=torch.stack(images)).last_hidden_state[:, 1:].flatten(0, 1)}


def _siglip(model: Any, images: list[Tensor], _tower: Model) -> Named:
    return {MAIN: model(pixel_values=torch.stack(images)).last_hidden_state.flatten(0, 1)}


def _siglip2(model: Any, images: list[Tensor], tower: Model) -> Named:
    processing = pytest.importorskip("transformers.models.siglip2.image_processing_pil_siglip2", reason=REASON)
    patch = tower.section.patch
    cut = [torch.from_numpy(processing.convert_image_to_patches(image.numpy(), patch)) for image in images]
    padded = nn.utils.rnn.pad_sequence(cut, batch_first=True)
    mask = nn.utils.rnn.pad_sequence([torch.ones(len(one), dtype=torch.int64) for one in cut], batch_first=True)
    shapes = torch.tensor([grid_of(image, tower.section) for image in images])
    rows = model(pixel_values=padded, pixel_attention_mask=mask, spatial_shapes=shapes).last_hidden_state
    return {MAIN: rows[mask.bool()]}


def _radio(model: Any, images: list[Tensor], tower: Model) -> Named:
    # Pixels come normalised, as the data here makes them.
    model.make_preprocessor_external()
    grids = torch.tensor([grid_of(image, tower.section) for image in images])
    return {MAIN: model(pixel_values=picture_rows(images, tower.section), image_grid_hw=grids).features}


def _convnext(model: Any, images: list[Tensor], _tower: Model) -> Named:
    return {MAIN: torch.cat([model(image[None]).last_hidden_state[0].flatten(1).T for image in images])}


def _qwen(model: Any, images: list[Tensor], tower: Model) -> Named:
    grids = torch.tensor([(1, *grid_of(image, tower.section)) for image in images])
    return qwen_outputs(model.model.visual(picture_rows(images, tower.section), grid_thw=grids), tower.ends.taps)


def qwen_outputs(said: Any, taps: tuple[int, ...]) -> Named:
    """What a judge's tower says, by ports."""
    features = said.deepstack_features if taps else []
    return {MAIN: said.pooler_output, **{port_of(n): rows for n, rows in zip(taps, features, strict=True)}}


RUN: Mapping[str, Callable[[Any, list[Tensor], Model], Named]] = {
    "clip": _clip, "siglip": _siglip, "siglip2": _siglip2, "radio": _radio, "convnextv2": _convnext,
    "qwen2_5_vl": _qwen, "qwen3_vl": _qwen,
}  # fmt: skip
