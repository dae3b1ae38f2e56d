"""Packed documents equal documents one by one; padding, stages and zero rows change nothing."""

from collections.abc import Iterable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from counterpoint.families.parts import parts_of
from counterpoint.kinds.family import Model
from counterpoint.modalities.lane import Laid
from counterpoint.models.batch import AudioBatch, PatchBatch, TextBatch
from counterpoint.models.chain import MAIN, Chain
from counterpoint.models.segments import Segments
from counterpoint.plan.samples import NO_LABEL
from tests.intakes import image_batch, image_intake
from tests.unit.models.model_samples import (
    CONFORMER,
    CONFORMERS,
    DECODERS,
    GRAPHS,
    MODELS,
    VITS,
    WHISPERS,
    audio_batch,
    batch_with,
    build,
    changed,
    empty_batch,
    laid,
    patch_batch,
    ragged_batch,
    text_batch,
)

TOLERANCE = 1e-12
LENGTHS = (5, 1, 0, 9, 3)
CLIPS = (4, 2, 0, 12, 6)
GRIDS = ((2, 4), (4, 4), (2, 2), (6, 2))
ENTRIES = {"decoder": LENGTHS, "whisper": CLIPS, "vit": GRIDS, "conformer": (9, 40)}


def gradients(chain: Chain) -> dict[str, Tensor]:
    found = {}
    for name, parameter in chain.named_parameters():
        assert parameter.grad is not None, f"{name} has no gradient"
        found[name] = parameter.grad
    return found


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = max(1.0, gradient.abs().max().item())
        assert (found[name] - gradient).abs().max().item() <= TOLERANCE * scale, name


def spread(rows: Tensor, first: int = 0) -> Tensor:
    """A scalar in which every element of `rows` has a weight of its own."""
    weights = torch.arange(first, first + rows.numel(), dtype=torch.float64).sin().view_as(rows)
    return (rows * weights).sum()


def total(terms: Iterable[Tensor]) -> Tensor:
    """The sum of scalars."""
    return sum(terms, torch.zeros((), dtype=torch.float64))


def slice_text(batch: TextBatch, start: int, length: int) -> TextBatch:
    rows = slice(start, start + length)
    return replace(
        batch,
        ids=batch.ids[rows],
        positions=batch.positions[rows],
        labels=batch.labels[rows],
        segments=Segments.build([length], length),
        mtp=tuple(replace(depth, ids=depth.ids[rows], labels=depth.labels[rows]) for depth in batch.mtp),
    )


def slice_clips(batch: AudioBatch, start: int, length: int) -> AudioBatch:
    rows = slice(start, start + length)
    return AudioBatch(
        batch.frames[rows], batch.filled[rows], batch.positions[rows], segments=Segments.build([length], length)
    )


def alone_of(model: Model, batch: PatchBatch, image: Laid) -> tuple[PatchBatch, int]:
    """An image of a batch by itself, with its learned rows, and the first of its rows."""
    intake = image_intake(model)
    lead = -(-intake.prefix // intake.row_multiple) * intake.row_multiple
    first = image.row - lead
    return image_batch(model, [image._replace(row=lead)], batch.patches[first : image.row + image.rows]), first


@pytest.mark.parametrize("padding", [0, 4])
@pytest.mark.parametrize("model", DECODERS.values(), ids=DECODERS)
def test_packed_documents_equal_documents_one_by_one(model: Model, padding: int) -> None:
    batch = text_batch(model, LENGTHS, padding)
    packed, alone = build(model), build(model)
    loss = packed(None, batch)[MAIN]
    loss.backward()
    total = torch.zeros((), dtype=torch.float64)
    for i, length in enumerate(LENGTHS):
        one = alone(None, slice_text(batch, sum(LENGTHS[:i]), length))[MAIN]
        one.backward()
        total += one.detach()
    assert abs(loss.item() - total.item()) <= TOLERANCE
    assert_same(gradients(packed), gradients(alone))


@pytest.mark.parametrize("padding", [0, 8])
@pytest.mark.parametrize("model", VITS.values(), ids=VITS)
def test_packed_images_equal_images_one_by_one(model: Model, padding: int) -> None:
    batch = patch_batch(model, GRIDS, padding)
    packed, alone = build(model), build(model)
    features = packed(None, batch)[MAIN]
    group, used = image_intake(model).row_multiple, len(batch.patches) - padding
    assert features.shape == ((used + padding) // group, model.ends.leaving)
    spread(features[: used // group]).backward()
    for image in laid(model, GRIDS):
        one, start = alone_of(model, batch, image)
        rows, first = alone(None, one)[MAIN], start // group
        assert (rows - features[first : first + len(rows)]).abs().max().item() <= TOLERANCE
        spread(rows, first * model.ends.leaving).backward()
    assert_same(gradients(packed), gradients(alone))


@pytest.mark.parametrize(("side", "is_trained"), [(32, True), (128, False)])
def test_the_smallest_and_a_large_image_in_one_batch_equal_each_alone(side: int, is_trained: bool) -> None:
    """One patch of one, and up to 128 x 128; the backward of 16,384 rows would be a minute of a processor."""
    model = changed(VITS["radio"], layers=1, heads=1, merge=1)
    grids = ((1, 1), (side, side))
    images, batch = laid(model, grids), patch_batch(model, grids)
    assert len(batch.patches) == sum(model.section.prefix + image.rows for image in images)
    packed, alone = build(model), build(model)
    with torch.set_grad_enabled(is_trained):
        features = packed(None, batch)[MAIN]
        kept = [slice(image.row, image.row + image.rows) for image in images]
        ones = [alone_of(model, batch, image) for image in images]
        found = [alone(None, one)[MAIN][image.row - first :] for image, (one, first) in zip(images, ones, strict=True)]
    for rows, own in zip(kept, found, strict=True):
        assert own.shape == features[rows].shape
        assert (own - features[rows]).abs().max().item() <= TOLERANCE
    if is_trained:
        total(spread(features[rows], rows.start) for rows in kept).backward()
        total(spread(own, rows.start) for own, rows in zip(found, kept, strict=True)).backward()
        assert_same(gradients(packed), gradients(alone))


@pytest.mark.parametrize("padding", [0, 8])
@pytest.mark.parametrize("model", WHISPERS.values(), ids=WHISPERS)
def test_packed_clips_equal_clips_one_by_one(model: Model, padding: int) -> None:
    batch = audio_batch(model, CLIPS, padding)
    packed, alone = build(model), build(model)
    features = packed(None, batch)[MAIN]
    assert features.shape == ((sum(CLIPS) + padding) // model.section.stack, model.ends.leaving)
    spread(features[: sum(CLIPS) // model.section.stack]).backward()
    start = 0
    for length in CLIPS:
        one = alone(None, slice_clips(batch, start, length))[MAIN]
        first = start // model.section.stack
        assert torch.allclose(one, features[first : first + len(one)], rtol=0, atol=TOLERANCE)
        spread(one, first * model.ends.leaving).backward()
        start += length
    assert_same(gradients(packed), gradients(alone))


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("model", CONFORMERS.values(), ids=CONFORMERS)
def test_packed_clips_of_any_frames_equal_clips_one_by_one(model: Model, padding: int) -> None:
    frames = (1, 8, 9, 40, 0, 63, 64)
    lengths = [-(-n // model.section.stride) for n in frames]
    batch = ragged_batch(model, frames, padding)
    packed, alone = build(model), build(model)
    outputs = packed(None, batch)
    used = sum(lengths)
    assert outputs[MAIN].shape == (used + padding, model.ends.leaving)
    total(spread(out[:used]) for out in outputs.values()).backward()
    for i, length in enumerate(lengths):
        start = sum(lengths[:i])
        ones = alone(None, slice_clips(batch, start, length))
        for port, one in ones.items():
            torch.testing.assert_close(one, outputs[port][start : start + length], rtol=TOLERANCE, atol=TOLERANCE)
        total(spread(one, start * one.shape[1]) for one in ones.values()).backward()
    assert_same(gradients(packed), gradients(alone))


@pytest.mark.parametrize("cut", [1, 2, -1])
@pytest.mark.parametrize("model", [*MODELS.values(), CONFORMER], ids=[*MODELS, "conformer"])
def test_two_stages_equal_the_whole(model: Model, cut: int) -> None:
    if model.section.kind == "decoder":
        model = changed(model, tied=False)
    parts, batch = parts_of(model), batch_with(model, ENTRIES, 4)
    whole, first, second = build(model), build(model, parts[:cut]), build(model, parts[cut:])
    expected = whole(None, batch)[MAIN]
    spread(expected).backward()
    sent = first(None, batch)[MAIN]
    arrived = sent.detach().requires_grad_()
    out = second(arrived, batch)[MAIN]
    spread(out).backward()
    sent.backward(arrived.grad)
    assert torch.equal(out, expected)
    found = gradients(first) | gradients(second)
    if "words.weight" in found:
        found["embed.weight"] = found["embed.weight"] + found.pop("words.weight")
    assert_same(found, gradients(whole))


@pytest.mark.parametrize("padding", [0, 4])
@pytest.mark.parametrize("model", (MODELS | GRAPHS).values(), ids=MODELS | GRAPHS)
def test_without_documents_every_part_runs_and_gives_zero_gradients(model: Model, padding: int) -> None:
    batch = empty_batch(model, padding)
    width = model.section.hidden
    for part in parts_of(model):
        if part.name == "words":
            # Its rows pass; what reads it brings it along.
            continue
        read = [other for other in parts_of(model) if other.name in part.reads and not other.makes_rows]
        chain = build(model, [*read, part])
        rows = torch.zeros(padding, width, dtype=torch.float64, requires_grad=True)
        out = chain(None if part.makes_rows else rows, batch)[part.emits]
        if part.emits == MAIN and out.ndim:
            width = out.shape[1]
        assert torch.isfinite(out).all(), part.name
        (out.sum() * 0).backward()
        assert all(not gradient.any() for gradient in gradients(chain).values()), part.name
        assert part.makes_rows or rows.grad is not None, part.name


@pytest.mark.parametrize("model", (MODELS | GRAPHS).values(), ids=MODELS | GRAPHS)
def test_without_documents_the_whole_model_gives_zero_gradients(model: Model) -> None:
    chain = build(model)
    outputs = chain(None, empty_batch(model, 0))
    results = [outputs.pop(port) for port in chain.results if port in outputs]
    assert not any(result.any() for result in results)
    assert all(out.ndim == 0 or len(out) == 0 for out in outputs.values())
    sum(out.sum() for out in outputs.values()).backward()
    assert all(not gradient.any() for gradient in gradients(chain).values())


@pytest.mark.parametrize("denominator", [0.0, 3.0])
def test_without_labels_loss_and_gradients_are_zero(denominator: float) -> None:
    model = DECODERS["tied"]
    batch = text_batch(model, LENGTHS)
    batch = replace(batch, labels=torch.full_like(batch.labels, NO_LABEL), loss_denominator=denominator)
    chain = build(model)
    loss = chain(None, batch)[MAIN]
    loss.backward()
    assert loss.item() == 0.0
    assert all(not gradient.any() for gradient in gradients(chain).values())
