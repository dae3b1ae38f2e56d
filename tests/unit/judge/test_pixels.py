"""From a picture's file to what leaves a model: our reader and tower beside transformers' processor and tower."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from counterpoint.convert.composite import VISION
from counterpoint.modalities.images.spec import DEFAULT_SCALING
from counterpoint.plan.samples import NO_LABEL
from tests.intakes import pack_images, with_image
from tests.unit.judge.judge import REASON
from tests.unit.judge.processors import (
    CASES,
    Judged,
    as_picture,
    judged,
    our_payload,
    picture_files,
    their_features,
    their_inputs,
    their_rows,
)
from tests.unit.judge.test_towers import LIFTED, distance
from tests.unit.judge.towers import TOWERS, Named, our_tower, tower_of
from tests.unit.judge.wholes import IMAGE_TOKEN, WHOLES, Sample, our_loss, samples_of

pytest.importorskip("transformers", reason=REASON)

SCALED_BY_HALF = {"clip": 0.1, "radio": 0.1, "qwen2_5_vl": 0.1}
"""Towers whose pixels a mean and a deviation of 0.5 are wrong for, and by how much at least."""


def _our_features(found: Judged, file: Path) -> Named:
    model = tower_of(found.whole)
    batch, kept = pack_images([our_payload(found.reader, file)], model, torch.float64)
    tower = our_tower(model, found.weights[VISION])
    return {port: rows[kept] for port, rows in tower(None, batch).items()}


def _distance(name: str, found: Judged, file: Path) -> float:
    theirs = their_features(name, found.model, their_inputs(found.process, file), tower_of(found.whole))
    ours = _our_features(found, file)
    assert ours.keys() == theirs.keys()
    return max(distance(rows.detach(), theirs[port].detach()) for port, rows in ours.items())


@pytest.mark.parametrize("name", TOWERS)
def test_pixels_and_features_of_files_are_equal(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = judged(name, TOWERS[name], tmp_path / "hub", monkeypatch)
    section = tower_of(found.whole).section
    for file in picture_files(name, tmp_path / "pictures"):
        payload, inputs = our_payload(found.reader, file), their_inputs(found.process, file)
        pixels = their_rows(name, inputs, found.reader, payload)
        if name == "radio":
            pixels = found.model.input_conditioner(pixels.reshape(-1, 3, section.patch, section.patch)).flatten(1)
        # The very same numbers, where pictures are scaled too: both are Pillow's.
        assert torch.equal(torch.from_numpy(payload.patches).double(), pixels.double())
        assert _distance(name, found, file) <= LIFTED
        half = found._replace(reader=with_image(found.reader, **DEFAULT_SCALING._asdict()))
        if name in SCALED_BY_HALF:
            assert _distance(name, half, file) > SCALED_BY_HALF[name]


def _inputs_of(name: str, sample: Sample, made: list[dict[str, Tensor]]) -> Mapping[str, Tensor]:
    """What the judge's model takes beside ids of a document with these pictures."""
    if not made:
        return {}
    found = {key: torch.cat([one[key] for one in made]) for key in made[0]}
    found["pixel_values"] = found["pixel_values"].double()
    if name.startswith("qwen"):
        found["mm_token_type_ids"] = (sample.ids == IMAGE_TOKEN).int()[None]
    return found


def _flat(inputs: dict[str, Tensor], patch: int) -> dict[str, Tensor]:
    """One picture as this judge takes it: patches row by row, and their grid."""
    _one, channels, height, width = inputs["pixel_values"].shape
    rows, columns = height // patch, width // patch
    cut = inputs["pixel_values"].reshape(channels, rows, patch, columns, patch).permute(1, 3, 0, 2, 4)
    return {"pixel_values": cut.reshape(rows * columns, -1), "image_grid_hw": torch.tensor([[rows, columns]])}


@pytest.mark.parametrize("name", [name for name in WHOLES if name in CASES])
def test_the_loss_of_a_whole_model_is_that_of_files(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = judged(name, WHOLES[name], tmp_path / "hub", monkeypatch)
    section, samples = tower_of(found.whole).section, samples_of(name, found.whole)
    losses, ours, count = [], [], sum(sample.document.loss_tokens for sample in samples)
    generator = torch.Generator().manual_seed(6)
    for sample in samples:
        made, read = [], []
        for number, image in enumerate(sample.images):
            levels = torch.randint(0, 256, (*image.shape[1:], 3), generator=generator)
            file = tmp_path / f"{sample.document.index}-{number}.png"
            Image.fromarray(levels.numpy().astype(np.uint8)).save(file)
            inputs = their_inputs(found.process, file)
            made.append(_flat(inputs, section.patch) if name == "nemotron_h_omni" else inputs)
            read.append(as_picture(our_payload(found.reader, file), section))
        more = _inputs_of(name, sample, made)
        logits = found.model(input_ids=sample.ids[None], use_cache=False, **more).logits[0]
        losses.append(F.cross_entropy(logits, sample.labels, ignore_index=NO_LABEL, reduction="sum") / count)
        ours.append(replace(sample, images=tuple(read)))
    expected = float(torch.stack(losses).sum().detach())
    loss, _gradients = our_loss(found.whole, found.weights, ours)
    assert abs(loss - expected) <= LIFTED * expected
