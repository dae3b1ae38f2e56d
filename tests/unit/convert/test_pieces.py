"""A piece that a link reads alone is that of the whole tensor, in every checkpoint."""

import pytest
import torch
from torch import Tensor

from counterpoint.convert.links import Place
from tests.unit.convert.test_modules_round_trip import CONFIGS, case


@pytest.mark.parametrize("name", CONFIGS)
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
