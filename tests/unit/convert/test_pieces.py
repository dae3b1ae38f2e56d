"""A piece that a link reads alone is that of the whole tensor, in every checkpoint."""

import pytest
import torch
from torch import Tensor

from counterpoint.convert.links import Place, PlusOne, Reshaped
from tests.unit.convert.test_modules_round_trip import case
from tests.unit.judge.whole_configs import FOLDERS


@pytest.mark.parametrize("name", FOLDERS)
def test_pieces_are_those_of_whole_tensors(name: str) -> None:
    whole, ours, theirs = case(name)
    read_elements = 0

    def read(key: str, place: Place | None) -> Tensor:
        nonlocal read_elements
        piece = theirs[key] if place is None else theirs[key][place]
        read_elements += piece.numel()
        return piece

    for module, stored in whole.modules.items():
        for link in stored.links:
            for one in link.ours:
                expected = ours[module][one]
                place = tuple(slice(size // 3, size - size // 4) for size in expected.shape)
                read_elements = 0
                torch.testing.assert_close(link.piece(one, place, read), expected[place], rtol=0, atol=0)
                rows = expected[place[0]].numel()
                assert read_elements <= 2 * rows, one


def test_factors_that_are_stored_as_what_they_are_more_than_one_are_added_in_wide_numbers() -> None:
    link = PlusOne(("a",), ("b",))
    stored = torch.tensor([2.0**-12, -0.25, 0.0]).bfloat16()
    ours = torch.tensor([1 + 2.0**-12, 0.75, 1.0])
    (found,) = link.to_ours([stored])
    assert torch.equal(found, ours)
    assert torch.equal(link.piece("a", (slice(0, 2),), lambda _name, place: stored[place]), ours[:2])
    assert torch.equal(link.to_theirs([ours])[0], stored.float())
    assert torch.equal(link.gradients_to_ours([stored])[0], stored)


@pytest.mark.parametrize("further", [1, 3])
def test_a_piece_is_found_behind_dimensions_of_one(further: int) -> None:
    ours = torch.arange(12.0).view(4, 3)
    theirs = ours.view(*(1,) * further, 4, 3)
    link = Reshaped(("a",), ("b",), (4, 3), tuple(theirs.shape))
    piece = link.piece("a", (slice(1, 3), slice(0, 2)), lambda _name, place: theirs[place])
    assert torch.equal(piece, ours[1:3, :2])
    assert torch.equal(link.to_theirs([ours])[0], theirs)
    assert torch.equal(link.to_ours([theirs])[0], ours)
