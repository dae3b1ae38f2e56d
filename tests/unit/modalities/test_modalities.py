"""What holds of every modality that is registered."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from counterpoint.kinds.modality import SIZES, Intake, Modality
from counterpoint.kinds.named import named
from counterpoint.modalities import MODALITIES
from counterpoint.modalities.alone import lay_alone
from counterpoint.modalities.clips.spec import ClipIntake
from counterpoint.modalities.content import rows_of
from counterpoint.modalities.depth.spec import DepthConfig
from counterpoint.modalities.features.spec import FeatureIntake
from counterpoint.modalities.images.spec import ImageConfig, ImageIntake
from counterpoint.modalities.lane import Laid, Lane
from counterpoint.modalities.rows import pack_items
from counterpoint.models.segments import Sampled
from counterpoint.plan.samples import Item
from counterpoint.sources.prepared.index import COUNTED

DEPTH = DepthConfig(kind="depth", max_patches=64)

INTAKES: dict[str, tuple[Intake, Sequence[tuple[int, ...]]]] = {
    "image": (ImageIntake("m", ImageConfig(max_patches=64), patch=2, merge=2, prefix=3, window=4), [(4, 8), (9, 5)]),
    "audio": (ClipIntake("m", mels=8, window=5, stride=2, stack=2, positions=40), [(900,), (3000,)]),
    "features": (FeatureIntake("m", width=6), [(3, 6), (1, 6)]),
    "depth": (ImageIntake("m", DEPTH, patch=2, merge=2, channels=1, prefix=3, window=4), [(4, 8), (9, 5)]),
}
"""An intake of each modality, and sizes of items."""

QUERIES = 3

SAMPLED: dict[str, Intake] = {
    "image": ImageIntake("m", ImageConfig(max_patches=64), patch=2, merge=2, prefix=3, queries=QUERIES),
    "audio": ClipIntake("m", mels=8, window=5, stride=2, stack=2, positions=40, queries=QUERIES),
    "features": FeatureIntake("m", width=6, queries=QUERIES),
    "depth": ImageIntake("m", DEPTH, patch=2, merge=2, channels=1, prefix=3, queries=QUERIES),
}
"""The same where learned rows leave."""

EACH = pytest.mark.parametrize("modality", list(MODALITIES.values()), ids=list(MODALITIES))


def _once(values: Iterable[Any]) -> bool:
    return set(Counter(values).values()) <= {1}


@EACH
def test_places_are_there(modality: Modality) -> None:
    origin = None if modality.section is None else modality.section.origin
    places = (modality.size, modality.rows, modality.alone, origin)
    assert all(callable(named(place)) for place in places if place is not None)


@EACH
def test_a_modality_says_what_is_asked_of_it(modality: Modality) -> None:
    assert set(modality.columns) <= set(SIZES)
    assert {part.key for part in modality.parts} <= {form.key for form in modality.forms}
    assert len(modality.counts) == 1 + modality.has_lists
    assert [modality.count(files) for files in (1, 2, 7)] == [modality.counts[0], *[modality.counts[-1]] * 2]
    if modality.section is not None:
        assert set(modality.section.free) <= modality.section.defaults.keys()


def test_no_two_share_a_name() -> None:
    modalities = list(MODALITIES.values())
    assert _once(form.key for one in modalities for form in one.forms)
    assert _once(form.mark for one in modalities for form in one.forms)
    assert _once(part.type for one in modalities for part in one.parts)
    assert _once(key for one in modalities for key in one.counts)
    assert {key for one in modalities for key in one.counts} >= set(COUNTED)


def test_no_two_draw_from_one_stream() -> None:
    drawings = [one.drawing for one in MODALITIES.values()]
    assert [drawing.stream for drawing in drawings].count(None) == 1
    assert _once(stream for drawing in drawings for stream in (drawing.stream, drawing.module_stream))


@EACH
def test_rows_are_as_many_as_planned(modality: Modality) -> None:
    intake, extents = INTAKES[modality.name]
    rows = rows_of(intake)
    assert (intake.kind, intake.module) == (modality.name, "m")
    for extent in extents:
        placed = intake.place(extent)
        for payload in (rows.neutral(extent), rows.noise(np.random.default_rng(0), extent)):
            assert payload.kind == modality.name
            assert payload.rows == payload.cells == placed.rows_in
            assert str(payload.rows) in payload.described


@EACH
def test_items_behind_each_other_are_those_alone(modality: Modality) -> None:
    """What a module reads of an item among others is what the reference of verify lays out, which is written apart."""
    intake, extents = INTAKES[modality.name]
    payloads = [rows_of(intake).noise(np.random.default_rng(i), extent) for i, extent in enumerate(extents)]
    items = [Item("m", 0, *intake.place(extent)[1:]) for extent in extents]
    batch, kept = pack_items(intake, list(zip(items, payloads)), torch.float64)
    first = 0
    for item, payload in zip(items, payloads, strict=True):
        alone = lay_alone(payload, intake, torch.float64)
        rows = alone.lead * intake.row_multiple + item.rows_in
        for name, tensor in vars(alone.batch).items():
            if isinstance(tensor, torch.Tensor):
                assert torch.equal(getattr(batch, name)[first : first + rows], tensor), name
        assert int(np.prod(alone.grid)) == item.rows
        own = kept[(kept * intake.row_multiple >= first) & (kept * intake.row_multiple < first + rows)]
        assert len(own) == item.rows
        first += rows
    assert len(kept) == sum(item.rows for item in items)


@EACH
def test_learned_rows_leave_in_the_place_of_an_item(modality: Modality) -> None:
    """As many for each; they see the rows that leave where none are learned, among others and alone."""
    plain, extents = INTAKES[modality.name]
    intake = SAMPLED[modality.name]
    payloads = [rows_of(intake).neutral(extent) for extent in extents]
    items = [Item("m", 0, *intake.place(extent)[1:]) for extent in extents]
    assert [(item.rows, item.rows_in) for item in items] == [
        (QUERIES, plain.place(extent).rows_in) for extent in extents
    ]
    batch, kept = pack_items(intake, list(zip(items, payloads)), torch.float64)
    assert kept.tolist() == list(range(len(items) * QUERIES))
    seen = seen_of(batch.sampled)
    own = [Item("m", 0, *plain.place(extent)[1:]) for extent in extents]
    _batch, left = pack_items(plain, list(zip(own, payloads)), torch.float64)
    for number, (rows, payload) in enumerate(zip(left.split([item.rows for item in own]), payloads, strict=True)):
        assert seen[tuple(range(number * QUERIES, (number + 1) * QUERIES))] == rows.tolist()
        alone = lay_alone(payload, intake, torch.float64)
        assert (alone.lead, alone.grid) == (0, (QUERIES,))
        first = lay_alone(payload, plain, torch.float64).lead
        assert seen_of(alone.batch.sampled) == {tuple(range(QUERIES)): list(range(first, first + len(rows)))}


def seen_of(sampled: Sampled) -> dict[tuple[int, ...], list[int]]:
    """The rows that each item's learned rows see."""
    seen = {}
    for bucket, places in zip(sampled.buckets, sampled.places, strict=True):
        documents = bucket.slots // bucket.longest
        for number, leaving in enumerate(places.view(bucket.documents, -1).tolist()):
            seen[tuple(leaving)] = bucket.source[documents == number].tolist()
    return seen


@pytest.mark.parametrize(
    ("rows", "left", "is_whole"),
    [([(0, 4, 0), (8, 8, 6)], 12, True), ([(0, 12, 0), (12, 4, 3)], 12, False), ([(0, 4, 0), (8, 8, 3)], 8, False)],
)
def test_learned_rows_of_a_context_rank(rows: list[tuple[int, int, int]], left: int, is_whole: bool) -> None:
    """A rank works by itself if every item lies whole in a piece, and what leaves for it in the same."""
    items = [Laid(row, count, row_out=out) for row, count, out in rows]
    for number in range(2):
        piece = slice(number * 8, number * 8 + 8)
        lane: Lane[Any] = Lane(16, items, (), piece, piece, pieces=2, rows_out=left)
        sampled = lane.sampled(2, QUERIES)
        assert sampled.rows == left
        assert seen_of(sampled) == {
            tuple(range(out, out + QUERIES)): list(range(row // 2, (row + count) // 2)) for row, count, out in rows
        }
        assert (sampled.own is not None) is is_whole
        if sampled.own is not None:
            assert sampled.own.rows == left // 2
            assert list(seen_of(sampled.own).values()) == [[[0, 1]], [[0, 1, 2, 3]]][number]
            assert list(seen_of(sampled.own)) == [(0, 1, 2)]
