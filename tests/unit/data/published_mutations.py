"""Published datasets that are damaged at random, from a seed: bytes of files, columns, and files that are gone."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from tests.unit.data import published
from tests.unit.data.mutations import replace_file

BASES: dict[str, Callable[[Path], None]] = {
    "parquet with turns": published.llava_next,
    "parquet with lists of images": published.cauldron,
    "parquet of pages": published.obelics,
    "parquet with sound": published.librispeech,
    "Arrow": published.saved,
    "tars": published.captions,
    "tars of Energon": published.energon,
    "JSON lines beside a tar": published.nemotron,
    "an array": published.llava,
    "JSON lines": published.mmc4,
    "images with texts": published.images_with_texts,
}


def write_bases(place: Path) -> None:
    """One folder for each kind of dataset."""
    for name, write in BASES.items():
        (place / name).mkdir(parents=True)
        write(place / name)


def mutate(seed: int, place: Path, folder: Path) -> str:
    """Copy one of the bases to a folder and damage it by a seed; returns the kind of dataset."""
    draw = random.Random(seed)
    name = draw.choice(list(BASES))
    shutil.copytree(place / name, folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for _ in range(draw.choice((1, 1, 1, 2))):
        path = draw.choice(files)
        if path.is_file():
            change = draw.choices((_bytes, _column, _file), weights=(8, 3 if path.suffix == ".parquet" else 0, 1))[0]
            change(draw, path)
    return name


def _bytes(draw: random.Random, path: Path) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(draw.choice((1, 1, 2, 8))):
        # The beginnings and ends of files say where everything is.
        first = draw.choice((draw.randrange(len(data) + 1), draw.randrange(min(len(data), 700) + 1),
                             max(len(data) - draw.randrange(700), 0)))  # fmt: skip
        length = draw.choice((1, 1, 4, 8, 64, 512))
        change = draw.choice(("flip", "flip", "flip", "cut", "zero", "ones", "insert", "end", "repeat"))
        if change == "flip" and first < len(data):
            data[first] ^= 1 << draw.randrange(8)
        elif change == "cut":
            del data[first : first + length]
        elif change in ("zero", "ones"):
            count = min(length, len(data) - first)
            data[first : first + count] = (b"\0" if change == "zero" else b"\xff") * count
        elif change == "insert":
            data[first:first] = draw.randbytes(length)
        elif change == "end":
            del data[first:]
        elif change == "repeat":
            data[first:first] = data[first : first + length]
    path.write_bytes(data)


def _column(draw: random.Random, path: Path) -> None:
    """Drop, rename, empty or retype a column of a parquet file."""
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError, ValueError):
        return
    names = table.column_names
    which = draw.randrange(len(names))
    change = draw.choice(("drop", "rename", "nulls", "numbers", "texts", "twice", "no metadata", "bytes"))
    odd: Any = {"nulls": None, "numbers": 3, "texts": "x", "bytes": b"\x89PNG\r\n\x1a\n"}
    if change == "drop":
        table = table.drop_columns([names[which]])
    elif change == "rename":
        table = table.rename_columns(
            [*names[:which], draw.choice(("x", "a.b", "", "image", *names)), *names[which + 1 :]]
        )
    elif change in odd:
        table = table.set_column(which, names[which], pa.array([odd[change]] * len(table)))
    elif change == "twice":
        table = table.append_column(names[which], table.column(which))
    else:
        table = table.replace_schema_metadata(None)
    pq.write_table(table, path)


def _file(draw: random.Random, path: Path) -> None:
    change = draw.choice(("gone", "empty", "a folder", "a way out", "itself", "another"))
    others = sorted(other for other in path.parent.iterdir() if other.is_file() and other != path)
    data = draw.choice(others).read_bytes() if others else b"x"
    replace_file(path, change, "/etc/passwd", lambda: data)
