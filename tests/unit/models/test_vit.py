"""What is particular to vision transformers: positions and merging."""

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.models.patches import PositionTable
from counterpoint.models.projector import merge_patches


@settings(max_examples=40, deadline=None)
@given(side=st.integers(1, 6), height=st.integers(1, 9), width=st.integers(1, 9))
def test_positions_equal_bilinear_interpolation_of_the_table(side: int, height: int, width: int) -> None:
    table = PositionTable(side, 3).double()
    torch.nn.init.normal_(table.weight, generator=torch.Generator().manual_seed(0))
    coordinates = torch.cartesian_prod(torch.arange(height), torch.arange(width)).view(-1, 2)
    grids = torch.tensor([[height, width]]).expand(height * width, 2)
    image = table.weight.view(1, side, side, 3).permute(0, 3, 1, 2)
    expected = F.interpolate(image, size=(height, width), mode="bilinear", align_corners=False)
    found = table(coordinates, grids)
    assert (found - expected[0].flatten(1).T).abs().max().item() <= 1e-12


def test_an_image_of_the_tables_own_grid_reads_it_exactly_in_float32() -> None:
    table = PositionTable(7, 2)
    torch.nn.init.normal_(table.weight, generator=torch.Generator().manual_seed(0))
    coordinates = torch.cartesian_prod(torch.arange(7), torch.arange(7))
    assert torch.equal(table(coordinates, torch.full((49, 2), 7)), table.weight)


def test_merging_lays_consecutive_rows_side_by_side() -> None:
    rows = torch.arange(24).view(8, 3)
    merged = merge_patches(rows, 4)
    assert merged.shape == (2, 12)
    assert torch.equal(merged[1], rows[4:].flatten())
    assert merge_patches(rows[:0], 4).shape == (0, 12)
