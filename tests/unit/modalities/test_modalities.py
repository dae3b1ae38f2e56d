"""What holds of every modality that is registered."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from counterpoint.kinds.modality import Intake, Modality
from counterpoint.kinds.named import named
from counterpoint.modalities import MODALITIES
from counterpoint.modalities.alone import lay_alone
from counterpoint.modalities.clips.spec import ClipIntake
from counterpoint.modalities.features.spec import FeatureIntake
from counterpoint.modalities.images.spec import ImageConfig, ImageIntake
from counterpoint.modalities.rows import pack_items, rows_of
from counterpoint.plan.samples import Item
from counterpoint.sources.prepared.index import COUNTED, SIZES

INTAKES: dict[str, tuple[Intake, Sequence[tuple[int, ...]]]] = {
    "image": (ImageIntake("m", ImageConfig(max_patches=64), patch=2, merge=2, prefix=3, window=4), [(4, 8), (9, 5)]),
    "audio": (ClipIntake("m", mels=8, window=5, stride=2, stack=2, positions=40), [(900,), (3000,)]),
    "features": (FeatureIntake("m", width=6), [(3, 6), (1, 6)]),
}
"""An intake of each modality, and sizes of items."""

EACH = pytest.mark.parametrize("modality", list(MODALITIES.values()), ids=list(MODALITIES))


def _once(values: Iterable[Any]) -> bool:
    return set(Counter(values).values()) <= {1}


@EACH
def test_places_are_there(modality: Modality) -> None:
    places = [modality.size, modality.rows, modality.alone, *([modality.section.origin] if modality.section else [])]
    assert all(callable(named(place)) for place in places)


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
