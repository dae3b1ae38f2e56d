"""transformers' models of pictures and text as judges: tiny ones of random values, and their loss of some documents."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from counterpoint.convert.composite import AUDIO, LANGUAGE, VISION, CompositeModel, composite_of
from counterpoint.data.feed.positions import lay_positions
from counterpoint.families import facts_of
from counterpoint.families.conformer.spec import ConformerConfig
from counterpoint.families.vit.spec import VitConfig
from counterpoint.models.batch import TextBatch
from counterpoint.models.chain import MAIN, Chain
from counterpoint.models.segments import Segments
from counterpoint.models.towers import Items, Towers, Wire
from counterpoint.plan.samples import NO_LABEL, NO_TOKEN, Document, Item
from tests.unit.judge.converted import gradients_to_ours, modules_to_ours
from tests.unit.judge.judge import quiet, randomize, with_gradients
from tests.unit.judge.models import HYBRID, Config, gradients_of, our_module
from tests.unit.judge.test_conformer import clips_of, packed
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
    picture_batch,
    picture_rows,
    pictures,
    stored,
    tower_of,
)

AUDIO_TOKEN, IMAGE_TOKEN = 21, 22
"""The judge's tokens where a row of a clip and of a picture stands."""

LLAVA: Config = {
    "model_type": "llava",
    "vision_config": {"model_type": "clip_vision_model", **PICTURE, "num_hidden_layers": 3, "image_size": 8},
    "text_config": {"model_type": "llama", **TEXT, "rope_theta": 500.0},
    "image_token_index": IMAGE_TOKEN,
}
OMNI: Config = {
    "model_type": "nemotron_h_omni",
    "vision_config": {**RADIO, "video_temporal_patch_size": 2},
    "text_config": {**HYBRID, "hybrid_override_pattern": "MEM*-E"},
    "vision_hidden_size": 16, "projector_hidden_size": 24, "image_token_id": IMAGE_TOKEN,
}  # fmt: skip
HEARING: Config = {
    **OMNI, "audio_token_id": AUDIO_TOKEN,
    "audio_config": {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 20,
        "conv_kernel_size": 3, "subsampling_conv_channels": 4, "num_mel_bins": 16, "projection_hidden_size": 20,
        "projection_bias": False,
    },
}  # fmt: skip
WHOLES: Mapping[str, Config] = {
    "llava": LLAVA, "qwen2_5_vl": QWEN2_5_VL, "qwen3_vl": QWEN3_VL, "nemotron_h_omni": OMNI,
    "nemotron_h_omni with sound": HEARING,
}  # fmt: skip
"""By name of the case."""

GRIDS: Mapping[str, tuple[Grid, ...]] = {name: SQUARE if name == "llava" else EVEN[:3] for name in WHOLES}

Content = tuple[int | str, ...]
SEEN: tuple[Content, ...] = ((3, VISION, 1, VISION, 2), (6,), (5, VISION, 4))
HEARD: tuple[Content, ...] = ((3, VISION, 1, AUDIO, 0, VISION, 2), (6,), (2, AUDIO, 3), (5, VISION, 4))
"""Of each document, rows of text, pictures and clips."""

FRAMES = (37, 16)
"""Of the clips, of which a document has one at most."""


@dataclass(frozen=True)
class Sample:
    """A document as the judge reads it: ids int64 (tokens,) with tokens of their own at rows of pictures and clips,
    labels for rows, pictures (channels, height, width) and clips (frames, mels)."""

    document: Document
    ids: Tensor
    labels: Tensor
    images: tuple[Tensor, ...]
    clips: tuple[Tensor, ...]


@dataclass(frozen=True)
class WholeVerdict:
    """What the judge says of documents: the loss, and by module and our names weights and gradients."""

    whole: CompositeModel
    weights: dict[str, Named]
    loss: float
    gradients: dict[str, Named]


def samples_of(name: str, whole: CompositeModel) -> list[Sample]:
    """Documents of random tokens and labels, all but one with pictures or clips."""
    generator = torch.Generator().manual_seed(5)
    items = {VISION: iter(pictures(GRIDS[name], tower_of(whole).section.patch))}
    if AUDIO in whole.modules:
        items[AUDIO] = iter(clips_of(sound_of(whole), FRAMES))
    contents = HEARD if AUDIO in whole.modules else SEEN
    return [_sample(number, content, items, whole, generator) for number, content in enumerate(contents)]


def sound_of(whole: CompositeModel) -> ConformerConfig:
    """The encoder of sound in a checkpoint."""
    section: ConformerConfig = whole.modules[AUDIO].model.section
    return section


def _sample(
    number: int,
    content: Content,
    sources: Mapping[str, Iterator[Tensor]],
    whole: CompositeModel,
    generator: torch.Generator,
) -> Sample:
    items: list[Item] = []
    own: dict[str, list[Tensor]] = {VISION: [], AUDIO: []}
    row = 0
    for one in content:
        if isinstance(one, int):
            row += one
            continue
        own[one].append(next(sources[one]))
        items.append(_item(one, row, own[one][-1], whole))
        row += items[-1].rows
    ids = torch.randint(0, 20, (row,), generator=generator)
    labels = torch.randint(0, 20, (row,), generator=generator)
    for item in items:
        ids[item.position : item.position + item.rows] = IMAGE_TOKEN if item.module == VISION else AUDIO_TOKEN
        # An item's rows have no label, but for its last, which is followed by text.
        labels[item.position : item.position + item.rows - 1] = NO_LABEL
    labels[-1] = NO_LABEL
    document = Document(0, number, row, int((labels >= 0).sum()), tuple(items))
    return Sample(document, ids, labels, tuple(own[VISION]), tuple(own[AUDIO]))


def _item(module: str, row: int, content: Tensor, whole: CompositeModel) -> Item:
    if module == AUDIO:
        rows = -(-len(content) // sound_of(whole).stride)
        return Item(AUDIO, row, rows, rows)
    section = tower_of(whole).section
    height, width = grid_of(content, section)
    return Item(VISION, row, height * width, height * width // section.merge**2, width // section.merge)


def judge_whole(
    name: str, folder: Path, patch: pytest.MonkeyPatch | None, config: Config | None = None
) -> tuple[WholeVerdict, list[Sample]]:
    """A model's verdict, and the documents that it is about, which the judge reads one by one.

    With a `config` of its own the model has the values that its code begins with.
    """
    quiet()
    torch.manual_seed(0)
    model = build_lifted(lambda: make_judge(WHOLES[name] if config is None else config), patch)
    if config is None:
        randomize(model)
    written, tensors = stored(model, folder / "weights")
    whole = composite_of(written)
    samples = samples_of(name, whole)
    loss = judged_loss(name, model, samples, tower_of(whole).section)
    loss.backward()
    _written, changed = stored(with_gradients(model), folder / "gradients")
    return WholeVerdict(
        whole, modules_to_ours(whole, tensors), float(loss.detach()), gradients_to_ours(whole, changed)
    ), samples


def judged_loss(name: str, model: Any, samples: Sequence[Sample], section: VitConfig) -> Tensor:
    """The judge's loss of documents, read one by one, with pictures in a tower's patches."""
    return mean_loss(judged_logits(name, model, samples, section), [sample.labels for sample in samples])


def judged_logits(name: str, model: Any, samples: Sequence[Sample], section: VitConfig) -> list[Tensor]:
    """The judge's scores (tokens, vocab) of each document, read one by one, with pictures in a tower's patches."""
    return [
        model(input_ids=sample.ids[None], use_cache=False, **_INPUTS[name](sample, section)).logits[0]
        for sample in samples
    ]


def mean_loss(logits: Sequence[Tensor], labels: Sequence[Tensor]) -> Tensor:
    """The mean over all documents' labels, of scores and labels by document."""
    count = sum(int((own != NO_LABEL).sum()) for own in labels)
    losses = [
        F.cross_entropy(scores, own, ignore_index=NO_LABEL, reduction="sum") / count
        for scores, own in zip(logits, labels, strict=True)
    ]
    return torch.stack(losses).sum()


def our_loss(
    whole: CompositeModel, weights: Mapping[str, Named], samples: Sequence[Sample]
) -> tuple[float, dict[str, Named]]:
    """The loss of all documents in one packed batch, and every gradient by module and name."""
    loss, chains = our_forward(whole, weights, samples)
    loss.backward()
    return float(loss.detach()), {name: gradients_of(chain) for name, chain in chains.items()}


def our_forward(
    whole: CompositeModel, weights: Mapping[str, Named], samples: Sequence[Sample]
) -> tuple[Tensor, dict[str, Chain]]:
    """The loss alone, and the models."""
    chains = {name: our_module(stored.model, weights[name]) for name, stored in whole.modules.items()}
    return joined_loss(whole, chains, samples), chains


def joined_loss(whole: CompositeModel, chains: Mapping[str, Chain], samples: Sequence[Sample]) -> Tensor:
    """The loss of all documents in one packed batch, which these models read together."""
    loss: Tensor = chains[LANGUAGE](None, joined_text(whole, chains, samples))[MAIN]
    return loss


def joined_text(whole: CompositeModel, chains: Mapping[str, Chain], samples: Sequence[Sample]) -> TextBatch:
    """All documents in one packed batch of the decoder, with what these encoders make of their pictures and clips."""
    wires = tuple(Wire(name, LANGUAGE, whole.depths if name == VISION else ()) for name in chains if name != LANGUAGE)
    towers = Towers(chains, wires, {wire.source: _items(wire.source, whole, samples) for wire in wires})
    inserts, deep = towers.into(LANGUAGE)
    return _text(whole, samples).with_inserts(inserts, deep)


def _items(module: str, whole: CompositeModel, samples: Sequence[Sample]) -> Items:
    starts = torch.tensor([0, *(sample.document.tokens for sample in samples)]).cumsum(0)
    found = [
        (item.rows, torch.arange(item.rows) + item.position + start)
        for sample, start in zip(samples, starts.tolist(), strict=False)
        for item in sample.document.items
        if item.module == module
    ]
    lengths, places = tuple(rows for rows, _places in found), torch.cat([places for _rows, places in found])
    if module == AUDIO:
        heard = packed(sound_of(whole), [clip for sample in samples for clip in sample.clips])
        return Items(heard, torch.arange(sum(lengths)), lengths, places)
    images = [image for sample in samples for image in sample.images]
    return Items(*picture_batch(images, tower_of(whole)), lengths, places)


def _text(whole: CompositeModel, samples: Sequence[Sample]) -> TextBatch:
    axes = facts_of(whole.modules[LANGUAGE].model).position_axes
    positions = [torch.from_numpy(lay_positions(sample.document, axes)) for sample in samples]
    ids = torch.cat([sample.ids for sample in samples])
    lengths = [sample.document.tokens for sample in samples]
    return TextBatch(
        ids=ids.where(ids < AUDIO_TOKEN, NO_TOKEN),
        positions=torch.cat(positions).squeeze(1) if axes == 1 else torch.cat(positions),
        labels=torch.cat([sample.labels for sample in samples]),
        segments=Segments.build(lengths, sum(lengths)),
        loss_denominator=float(sum(sample.document.loss_tokens for sample in samples)),
        document_denominator=float(len(samples)),
    )


def _llava(sample: Sample, _section: VitConfig) -> Named:
    return {"pixel_values": torch.stack(sample.images)} if sample.images else {}


def _qwen(sample: Sample, section: VitConfig) -> Named:
    if not sample.images:
        return {}
    return {
        "pixel_values": picture_rows(sample.images, section),
        "image_grid_thw": torch.tensor([(1, *grid_of(image, section)) for image in sample.images]),
        "mm_token_type_ids": (sample.ids == IMAGE_TOKEN).int()[None],
    }


def _omni(sample: Sample, section: VitConfig) -> Named:
    found: Named = {}
    if sample.images:
        # Its patches lie row by row, and it merges what leaves the tower.
        found["pixel_values"] = picture_rows(sample.images, section.model_copy(update={"merge": 1}))
        found["image_grid_hw"] = torch.tensor([grid_of(image, section) for image in sample.images])
    if sample.clips:
        # One clip without a mask: with one, it takes a row too many of clips that end with a row's last frame.
        found["input_features"] = torch.stack(sample.clips)
    return found


_INPUTS: Mapping[str, Callable[[Sample, VitConfig], Named]] = {
    "llava": _llava, "qwen2_5_vl": _qwen, "qwen3_vl": _qwen, "nemotron_h_omni": _omni,
    "nemotron_h_omni with sound": _omni,
}  # fmt: skip
