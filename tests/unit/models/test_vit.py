"""What is particular to vision transformers: positions, learned rows, windows and merging."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from counterpoint.families.vit.patches import FilteredPositions, PositionTable, PrefixTable
from counterpoint.families.vit.spec import PositionFit
from counterpoint.models.batch import PatchBatch
from counterpoint.projectors.part import merge_patches
from tests.unit.models.model_samples import LINEAR, changed, patch_batch, vit

MODEL = vit(layers=1, hidden=3, heads=1, ffn=4, patch=1, leaving=2, positions=0, projector=LINEAR)


def images(*grids: tuple[int, int], prefix: int = 0) -> PatchBatch:
    return patch_batch(changed(MODEL, prefix=prefix), list(grids))


def interpolated(image: Tensor, fit: PositionFit, height: int, width: int) -> Tensor:
    """torch's own answer, (1, hidden, height, width)."""
    if fit == "crop":
        side = max(height, width)
        return F.interpolate(image, size=(side, side), mode="bilinear")[..., :height, :width]
    return F.interpolate(
        image, size=(height, width), mode="bilinear", align_corners=fit == "corners", antialias=fit == "antialias"
    )


@pytest.mark.parametrize("fit", ["stretch", "crop", "corners", "antialias"])
@settings(max_examples=40, deadline=None)
@given(side=st.integers(1, 9), height=st.integers(1, 9), width=st.integers(1, 9))
def test_positions_equal_bilinear_interpolation_of_the_table(
    fit: PositionFit, side: int, height: int, width: int
) -> None:
    table = (FilteredPositions(side, 3) if fit == "antialias" else PositionTable(side, 3, fit)).double()
    torch.nn.init.normal_(table.weight, generator=torch.Generator().manual_seed(0))
    image = table.weight.view(1, side, side, 3).permute(0, 3, 1, 2)
    expected = interpolated(image, fit, height, width)
    found = table(torch.zeros(height * width, 3, dtype=torch.float64), images((height, width)))
    assert (found - expected[0].flatten(1).T).abs().max().item() <= 1e-12


def test_an_image_of_the_tables_own_grid_reads_it_exactly_in_float32() -> None:
    table = PositionTable(7, 2, "stretch")
    torch.nn.init.normal_(table.weight, generator=torch.Generator().manual_seed(0))
    assert torch.equal(table(torch.zeros(49, 2), images((7, 7))), table.weight)


def test_learned_rows_stand_before_each_image_and_nowhere_else() -> None:
    table = PrefixTable(2, 3).double()
    torch.nn.init.normal_(table.weight, generator=torch.Generator().manual_seed(0))
    batch = images((1, 2), (1, 1), prefix=2)
    rows = torch.arange(21, dtype=torch.float64).view(7, 3)
    found = table(rows, batch)
    assert torch.equal(found[[0, 1, 4, 5]], table.weight[[0, 1, 0, 1]])
    assert torch.equal(found[[2, 3, 6]], rows[[2, 3, 6]])


def test_windows_at_the_edges_are_smaller() -> None:
    batch = patch_batch(changed(MODEL, merge=2, window=4), [(6, 4), (2, 2)])
    seen = [set(map(tuple, batch.coordinates[bucket.source].tolist())) for bucket in batch.windows.buckets]
    assert sum(bucket.documents for bucket in batch.windows.buckets) == 3
    assert sum(len(bucket.source) for bucket in batch.windows.buckets) == 28
    assert {(r, c) for r in range(4) for c in range(4)} in seen or len(seen) == 1


def test_merging_lays_consecutive_rows_side_by_side() -> None:
    rows = torch.arange(24).view(8, 3)
    merged = merge_patches(rows, 4)
    assert merged.shape == (2, 12)
    assert torch.equal(merged[1], rows[4:].flatten())
    assert merge_patches(rows[:0], 4).shape == (0, 12)
