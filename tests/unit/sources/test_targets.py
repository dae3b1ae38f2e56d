"""Targets beside an index: each item finds its own, and what does not fit is told."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.config.load import load_config
from counterpoint.errors import DataError
from counterpoint.modalities.images.spec import ImageConfig, ImageIntake
from counterpoint.sources.prepared.part import Encoded, Record
from counterpoint.sources.prepared.source import PreparedSource
from counterpoint.sources.prepared.targets import write_targets
from counterpoint.sources.source import Source, check_targets, target_of
from counterpoint.sources.synthetic.source import SyntheticSource
from counterpoint.sources.synthetic.spec import SyntheticEntry
from tests.parity.layouts import TINY
from tests.unit.items import MakeIndex, MakePicture

TAKERS = {"vision": ImageIntake("vision", ImageConfig(size=16, max_patches=16), patch=4, merge=2)}
ROWS = (4, 2, 1, 4)
"""Rows of the pictures of 16 x 16, 16 x 8, 8 x 8 and 16 x 16 pixels, of which the third is of another split."""


@pytest.fixture
def folder(make_index: MakeIndex, make_picture: MakePicture) -> Path:
    sizes = ((16, 16), (16, 8), (8, 8), (16, 16))
    first, second, other, last = (Encoded(1, make_picture(*size)) for size in sizes)
    none: list[Encoded] = []
    texts = (("train", [first, second]), ("train", none), ("other", [other]), ("train", [last]))
    return make_index([Record([1, 2], [False, True], split, "", items) for split, items in texts])


def opened(folder: Path, *names: str) -> PreparedSource:
    """The split `train` with targets of these names."""
    return PreparedSource(folder, "train", 0, TAKERS, 64, targets=names)


def arrays(rows: tuple[int, ...], width: int = 3) -> list[np.ndarray]:
    """Arrays of so many rows, no two numbers alike."""
    numbers = np.arange(sum(rows) * width, dtype=np.float32).reshape(-1, width)
    return np.split(numbers, np.cumsum(rows)[:-1])


def test_each_item_has_its_own(folder: Path) -> None:
    by_row, by_item = arrays(ROWS), arrays((1, 1, 1, 1))
    write_targets(folder, "rows", by_row)
    write_targets(folder, "items", [one.astype(np.float16) for one in by_item])
    source = opened(folder, "rows", "items")
    for (index, which), number in {(0, 0): 0, (0, 1): 1, (2, 0): 3}.items():
        assert np.array_equal(source.target(index, which, "rows", 3, of_item=False), by_row[number])
        found = source.target(index, which, "items", 3, of_item=True)
        assert np.array_equal(found, by_item[number])
        assert found.dtype == np.float32


def test_an_item_may_have_none(folder: Path) -> None:
    write_targets(folder, "some", [one if len(one) > 1 else None for one in arrays(ROWS)])
    assert opened(folder, "some").target(2, 0, "some", 3, of_item=False).shape == (4, 3)


@pytest.mark.parametrize(
    ("rows", "width", "sentence"),
    [
        ((4, 1, 1, 4), 3, "has 1 targets 3 wide for item 1 of row 0, expected 2 that are 3 wide"),
        (ROWS, 2, "has 2 targets 2 wide for item 1 of row 0, expected 2 that are 3 wide"),
    ],
)
def test_targets_unlike_the_rows_are_refused(folder: Path, rows: tuple[int, ...], width: int, sentence: str) -> None:
    write_targets(folder, "odd", arrays(rows, width))
    with pytest.raises(DataError, match=sentence):
        opened(folder, "odd").target(0, 1, "odd", 3, of_item=False)


def test_files_that_do_not_belong_to_the_index_are_refused(folder: Path) -> None:
    with pytest.raises(DataError, match=r"targets/no: no\.npy is missing; write it, or take the loss"):
        opened(folder, "no")
    write_targets(folder, "few", arrays((4, 2)))
    with pytest.raises(DataError, match=r"of \(2,\) items, expected floats \(rows, width\) of the index's 4 items"):
        opened(folder, "few")
    write_targets(folder, "cut", arrays(ROWS))
    np.save(folder / "targets" / "cut.rows.npy", np.array([4, 2, 1, 5]))
    with pytest.raises(DataError, match=r"has 11 rows, but cut\.rows\.npy says 12; write both again"):
        opened(folder, "cut")
    (folder / "targets" / "cut.npy").write_bytes(b"no array")
    with pytest.raises(DataError, match=r"cut\.npy cannot be read"):
        opened(folder, "cut")


def test_a_source_without_any_is_told() -> None:
    source = cast(Source, SimpleNamespace(where=lambda index: f"document {index} of a table"))
    check_targets(source)
    with pytest.raises(DataError, match="document 0 of a table: its source has no targets, expected those of a, b"):
        check_targets(source, "a", "b")
    with pytest.raises(DataError, match="has no targets, expected those of a"):
        target_of(source, 0, 0, "a", 3, of_item=True)


@given(name=st.sampled_from(["a", "b"]), index=st.integers(0, 9), of_item=st.booleans())
def test_synthetic_ones_are_a_function_of_name_and_item(name: str, index: int, of_item: bool) -> None:
    recipe = load_config(TINY).data.train[0]
    assert isinstance(recipe, SyntheticEntry)
    source = SyntheticSource(recipe.synthetic, 0, TAKERS, 64, 37)
    for which, item in enumerate(source.document(index).items):
        found = source.target(index, which, name, 5, of_item=of_item)
        assert found.shape == (1 if of_item else item.rows, 5)
        assert np.array_equal(found, source.target(index, which, name, 5, of_item=of_item))
        assert not np.array_equal(found, source.target(index, which, f"{name}_", 5, of_item=of_item))
