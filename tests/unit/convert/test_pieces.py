"""A piece that a link reads alone is that of the whole tensor, in every checkpoint."""

import random

import pytest
import torch
from torch import Tensor

from counterpoint.convert.links import ClassRow, Filled, Halves, Place, PlusOne, Read, Reshaped, Same
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


@pytest.mark.parametrize("name", FOLDERS)
def test_their_pieces_are_those_of_whole_tensors_and_read_little(name: str) -> None:
    whole, ours, theirs = case(name)
    generator = random.Random(name)
    for module, stored in whole.modules.items():
        read_elements = 0

        def read(key: str, place: Place | None, held: dict[str, Tensor] = ours[module]) -> Tensor:
            nonlocal read_elements
            piece = held[key] if place is None else held[key][place]
            read_elements += piece.numel()
            return piece

        for link in stored.links:
            expected = dict(zip(link.theirs, link.to_theirs([ours[module][one] for one in link.ours]), strict=True))
            for one in link.theirs:
                place = tuple(_part(size, generator) for size in expected[one].shape)
                read_elements = 0
                piece = link.their_piece(one, place, read)
                torch.testing.assert_close(piece, expected[one][place], rtol=0, atol=0)
                assert read_elements <= expected[one][place[0]].numel(), one
                assert expected[one].shape == theirs[one].shape


def _part(size: int, generator: random.Random) -> slice:
    start = generator.randrange(size)
    return slice(start, generator.randint(start + 1, size))


def _reader(tensors: dict[str, Tensor]) -> Read:
    return lambda name, place: tensors[name] if place is None else tensors[name][place]


def test_sums_say_where_they_are_unchanged() -> None:
    """What is only moved needs no such thing; a sum that has not moved stands for the terms that it came from."""
    token, table = torch.randn(6).bfloat16(), torch.randn(4, 6).bfloat16()
    link = ClassRow(("row", "positions"), ("token", "table"))
    theirs = {"token": token, "table": table}
    whole = ((slice(0, 1), slice(0, 6)), (slice(0, 3), slice(0, 6)))
    ours = {
        name: link.piece(name, place, _reader(theirs)).float() for name, place in zip(link.ours, whole, strict=True)
    }
    ours["row"][0, 2] += 1
    same = link.unchanged("token", (slice(1, 4),), _reader(ours), _reader(theirs))
    assert same.tolist() == [True, False, True]
    same = link.unchanged("table", (slice(0, 2), slice(1, 4)), _reader(ours), _reader(theirs))
    assert same.tolist() == [[True, False, True], [False, False, False]]
    assert not link.unchanged("table", (slice(1, 2), slice(0, 6)), _reader(ours), _reader(theirs)).any()
    factors = PlusOne(("a",), ("b",))
    stored = torch.tensor([2.0**-30, -0.25]).bfloat16()
    held = {"a": torch.tensor([1.0, 0.5])}
    found = factors.unchanged("b", (slice(0, 2),), _reader(held), _reader({"b": stored}))
    assert found.tolist() == [True, False]
    assert Same(("a",), ("b",)).unchanged("b", (slice(0, 2),), _reader(held), _reader({"b": stored})) is None


def test_a_class_token_and_its_position_are_added_in_wide_numbers() -> None:
    link = ClassRow(("row", "table"), ("token", "positions"))
    stored = {"token": torch.tensor([1.0, 3.0]).bfloat16(), "positions": torch.full((3, 2), 2.0**-10).bfloat16()}
    row, _table = link.to_ours([stored["token"], stored["positions"]])
    assert torch.equal(row, torch.tensor([[1 + 2.0**-10, 3 + 2.0**-10]]))
    place = (slice(0, 1), slice(0, 2))
    piece = link.piece("row", place, lambda name, place: stored[name] if place is None else stored[name][place])
    assert torch.equal(piece, row)


def test_halves_lie_in_one_stack() -> None:
    link = Halves(("gate", "up"), ("both",), 2)
    both = torch.arange(24.0).view(2, 4, 3)
    gate, up = link.to_ours([both])
    assert torch.equal(link.to_theirs([gate, up])[0], both)
    place = (slice(1, 2), slice(1, 2), slice(0, 3))
    for name, whole in (("gate", gate), ("up", up)):
        assert torch.equal(link.piece(name, place, lambda _name, there: both[there]), whole[place])


def test_what_may_be_missing_has_one_value() -> None:
    link = Filled(("scale",), (3,), 0.5)
    assert torch.equal(link.to_ours([])[0], torch.full((3,), 0.5, dtype=torch.float64))
    assert link.piece("scale", (slice(1, 3),), _nothing).tolist() == [0.5, 0.5]
    assert link.to_theirs([torch.zeros(3)]) == []


def _nothing(_name: str, _place: Place | None) -> Tensor:
    raise AssertionError("nothing is stored")


@pytest.mark.parametrize("rows", [slice(0, 6), slice(1, 2), slice(2, 5), slice(3, 6)])
def test_pieces_of_halves(rows: slice) -> None:
    ours = {"gate": torch.randn(4, 3, 5), "up": torch.randn(4, 3, 5)}
    link = Halves(("gate", "up"), ("both",), 3)
    (whole,) = link.to_theirs(list(ours.values()))
    place = (slice(1, 3), rows, slice(0, 4))
    assert torch.equal(link.their_piece("both", place, _reader(ours)), whole[place])
