"""transformers' models of pictures and text as judges: tiny ones of random values, and their loss of some documents."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from counterpoint.convert.modules import gradients_to_ours, modules_to_ours
from counterpoint.convert.whole import LANGUAGE, VISION, Whole, whole_of
from counterpoint.data.positions import lay_positions
from counterpoint.models.batch import NO_LABEL, NO_TOKEN, TextBatch
from counterpoint.models.chain import MAIN
from counterpoint.models.segments import Segments
from counterpoint.models.towers import Items, Towers, Wire
from counterpoint.plan.samples import Document, Item
from counterpoint.plan.sizes import DecoderSizes, VitSizes
from tests.unit.judge.judge import quiet, randomize, with_gradients
from tests.unit.judge.models import HYBRID, Config, gradients_of
from tests.unit.judge.towers import (
    EVEN,
    PICTURE,
    QWEN2_5_VL,
    QWEN3_VL,
    RADIO,
    SQUARE,
    TEXT,
    Grid,
    Named,
    build_lifted,
    grid_of,
    make_judge,
    our_module,
    picture_batch,
    picture_rows,
    pictures,
    stored,
    tower_sizes,
)

IMAGE = 22
"""The judge's token where a row of a picture stands."""

LLAVA: Config = {
    "model_type": "llava",
    "vision_config": {"model_type": "clip_vision_model", **PICTURE, "num_hidden_layers": 3, "image_size": 8},
    "text_config": {"model_type": "llama", **TEXT, "rope_theta": 500.0},
    "image_token_index": IMAGE,
}
OMNI: Config = {
    "model_type": "nemotron_h_omni",
    "vision_config": {**RADIO, "video_temporal_patch_size": 2},
    "text_config": {**HYBRID, "hybrid_override_pattern": "MEM*-E"},
    "vision_hidden_size": 16, "projector_hidden_size": 24, "image_token_id": IMAGE,
}  # fmt: skip
WHOLES: Mapping[str, Config] = {
    "llava": LLAVA, "qwen2_5_vl": QWEN2_5_VL, "qwen3_vl": QWEN3_VL, "nemotron_h_omni": OMNI,
}  # fmt: skip
"""By name of the case."""

GRIDS: Mapping[str, tuple[Grid, ...]] = {name: SQUARE if name == "llava" else EVEN[:3] for name in WHOLES}

TEXTS = ((3, 1, 2), (6,), (5, 4))
"""Rows of text of each document: a picture stands between each two numbers."""


@dataclass(frozen=True)
class Sample:
    """A document as the judge reads it: ids int64 (tokens,) with IMAGE at rows of its pictures, and labels for rows."""

    document: Document
    ids: Tensor
    labels: Tensor
    images: tuple[Tensor, ...]


@dataclass(frozen=True)
class WholeVerdict:
    """What the judge says of documents: the loss, and by module and our names weights and gradients."""

    whole: Whole
    weights: dict[str, Named]
    loss: float
    gradients: dict[str, Named]


def samples_of(name: str, sizes: VitSizes) -> list[Sample]:
    """Documents of random tokens and labels, all with pictures but one."""
    generator = torch.Generator().manual_seed(5)
    images = iter(pictures(GRIDS[name], sizes.patch))
    return [_sample(number, texts, images, sizes, generator) for number, texts in enumerate(TEXTS)]


def _sample(
    number: int, texts: Sequence[int], images: Iterator[Tensor], sizes: VitSizes, generator: torch.Generator
) -> Sample:
    items, own, row = [], [], texts[0]
    for text in texts[1:]:
        image = next(images)
        height, width = grid_of(image, sizes)
        rows = height * width // sizes.merge**2
        items.append(Item(VISION, row, height * width, rows, width // sizes.merge))
        own.append(image)
        row += rows + text
    ids = torch.randint(0, 20, (row,), generator=generator)
    labels = torch.randint(0, 20, (row,), generator=generator)
    for item in items:
        ids[item.position : item.position + item.rows] = IMAGE
        # A picture's rows have no label, but for its last, which is followed by text.
        labels[item.position : item.position + item.rows - 1] = NO_LABEL
    labels[-1] = NO_LABEL
    return Sample(Document(0, number, row, int((labels >= 0).sum()), tuple(items)), ids, labels, tuple(own))


def judge_whole(name: str, folder: Path, patch: pytest.MonkeyPatch | None) -> tuple[WholeVerdict, list[Sample]]:
    """A model's verdict, and the documents that it is about, which the judge reads one by one."""
    quiet()
    model = build_lifted(lambda: make_judge(WHOLES[name]), patch)
    randomize(model)
    config, tensors = stored(model, folder / "weights")
    whole = whole_of(config)
    sizes = tower_sizes(whole)
    samples = samples_of(name, sizes)
    count = sum(sample.document.loss_tokens for sample in samples)
    losses = []
    for sample in samples:
        more = _INPUTS[name](sample, sizes) if sample.images else {}
        logits = model(input_ids=sample.ids[None], use_cache=False, **more).logits[0]
        losses.append(F.cross_entropy(logits, sample.labels, ignore_index=NO_LABEL, reduction="sum") / count)
    loss = torch.stack(losses).sum()
    loss.backward()
    _config, changed = stored(with_gradients(model), folder / "gradients")
    return WholeVerdict(
        whole, modules_to_ours(whole, tensors), float(loss.detach()), gradients_to_ours(whole, changed)
    ), samples


def our_loss(whole: Whole, weights: Mapping[str, Named], samples: Sequence[Sample]) -> tuple[float, dict[str, Named]]:
    """The loss of all documents in one packed batch, and every gradient by module and name."""
    chains = {name: our_module(stored.sizes, weights[name]) for name, stored in whole.modules.items()}
    towers = Towers(chains, (Wire(VISION, LANGUAGE, whole.depths),), {VISION: _items(whole, samples)})
    inserts, deep = towers.into(LANGUAGE)
    loss = chains[LANGUAGE](None, _text(whole, samples).with_inserts(inserts, deep))[MAIN]
    loss.backward()
    return float(loss.detach()), {name: gradients_of(chain) for name, chain in chains.items()}


def _items(whole: Whole, samples: Sequence[Sample]) -> Items:
    images = [image for sample in samples for image in sample.images]
    patches, kept = picture_batch(images, tower_sizes(whole))
    starts = torch.tensor([0, *(sample.document.tokens for sample in samples)]).cumsum(0)
    found = [
        (item.rows, torch.arange(item.rows) + item.position + start)
        for sample, start in zip(samples, starts.tolist(), strict=False)
        for item in sample.document.items
    ]
    return Items(patches, kept, tuple(rows for rows, _places in found), torch.cat([places for _rows, places in found]))


def _text(whole: Whole, samples: Sequence[Sample]) -> TextBatch:
    sizes = whole.modules[LANGUAGE].sizes
    assert isinstance(sizes, DecoderSizes)
    positions = [torch.from_numpy(lay_positions(sample.document, sizes.position_axes)) for sample in samples]
    ids = torch.cat([sample.ids for sample in samples])
    lengths = [sample.document.tokens for sample in samples]
    return TextBatch(
        ids=ids.where(ids != IMAGE, NO_TOKEN),
        positions=torch.cat(positions).squeeze(1) if sizes.position_axes == 1 else torch.cat(positions),
        labels=torch.cat([sample.labels for sample in samples]),
        segments=Segments.build(lengths, sum(lengths)),
        loss_denominator=float(sum(sample.document.loss_tokens for sample in samples)),
        document_denominator=float(len(samples)),
    )


def _llava(sample: Sample, _sizes: VitSizes) -> dict[str, Tensor]:
    return {"pixel_values": torch.stack(sample.images)}


def _qwen(sample: Sample, sizes: VitSizes) -> dict[str, Tensor]:
    return {
        "pixel_values": picture_rows(sample.images, sizes),
        "image_grid_thw": torch.tensor([(1, *grid_of(image, sizes)) for image in sample.images]),
        "mm_token_type_ids": (sample.ids == IMAGE).int()[None],
    }


def _omni(sample: Sample, sizes: VitSizes) -> dict[str, Tensor]:
    # Its patches lie row by row, and it merges what leaves the tower.
    rows = [picture_rows([image], replace(sizes, merge=1)) for image in sample.images]
    return {
        "pixel_values": torch.cat(rows),
        "image_grid_hw": torch.tensor([grid_of(image, sizes) for image in sample.images]),
    }


_INPUTS: Mapping[str, Callable[[Sample, VitSizes], dict[str, Tensor]]] = {
    "llava": _llava, "qwen2_5_vl": _qwen, "qwen3_vl": _qwen, "nemotron_h_omni": _omni,
}  # fmt: skip
