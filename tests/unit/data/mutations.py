"""Datasets that are damaged at random, from a seed: bytes and structure of records, and files beside them."""

import copy
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SECRET = b"counterpoint must not copy this"
"""Lies in a file outside of the dataset's folder."""

ODD: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 10**30, float("nan"), float("inf"), "", " ", "x", "\ud83d", "\0", "a" * 5000, "</s><s>",
    "<image>", "../secret", "/etc/passwd", "link", "data:image/png;base64,AAAA", "data:,", "https://a.b/c", [], [[]],
    [None], {}, {"a": {}},
    {"type": "image"}, {"type": "text", "text": 3}, {"from": "gpt", "value": "x"}, ["a.png"], [["a.png"], "b.png"],
)  # fmt: skip


def base_records() -> list[dict[str, Any]]:
    """Records of every form that is taken."""
    turns = [{"from": "human", "value": "<image> What?"}, {"from": "gpt", "value": "A square."}]
    parts = [{"type": "image", "image": "b.png"}, {"type": "text", "text": "Which?"}]
    return [
        {"id": "0", "image": "a.png", "conversations": turns},
        {"system": "Be brief.", "images": ["a.png"], "messages": [{"role": "user", "content": "<image>"},
                                                                  {"role": "assistant", "content": "Red."}]},
        {"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": "The second."}]},
        {"video": ["a.png", "b.png"], "audio": "a.wav", "features": "a.npy", "conversations": [
            {"from": "system", "value": "x"}, {"from": "human", "value": "<video><audio><features>?"},
            {"from": "gpt", "value": "Yes."}]},
        {"image": None, "conversations": [{"from": "user", "value": "<video>"},
                                          {"from": "assistant", "value": "</s>"}]},
    ]  # fmt: skip


def write_base(folder: Path, picture: bytes, clip: bytes) -> None:
    """The files beside the records, and a secret outside, to which `link` leads."""
    folder.mkdir()
    array = io.BytesIO()
    np.save(array, np.ones((3, 6), np.float32))
    for name, data in {"a.png": picture, "b.png": picture, "a.wav": clip, "a.npy": array.getvalue()}.items():
        (folder / name).write_bytes(data)
    (folder.parent / "secret").write_bytes(SECRET)
    (folder / "link").symlink_to("../secret")
    write_records(folder, base_records())


def write_records(folder: Path, records: list[Any]) -> None:
    (folder / "train.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def _places(value: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Every (container, key) in a record."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        found.append((value, key))
        _places(value[key], found)
    return found


def _structure(draw: random.Random, folder: Path) -> None:
    records = copy.deepcopy(base_records())
    for _ in range(draw.randint(1, 3)):
        container, key = draw.choice(_places(records, []))
        change = draw.choice(("odd", "odd", "drop", "add", "rename", "wrap", "swap"))
        if change == "odd":
            container[key] = copy.deepcopy(draw.choice(ODD))
        elif change == "drop":
            del container[key]
        elif change == "add" and isinstance(container, dict):
            container[draw.choice(("weight", "tools", "\ud83d", "image", "role", "content"))] = copy.deepcopy(
                draw.choice(ODD)
            )
        elif change == "rename" and isinstance(container, dict):
            container[draw.choice(("imag", "value", "content", "from", "type", "videos"))] = container.pop(key)
        elif change == "wrap":
            container[key] = [container[key]]
        elif change == "swap":
            other, place = draw.choice(_places(records, []))
            container[key], other[place] = copy.deepcopy(other[place]), copy.deepcopy(container[key])
        if not records:
            break
    write_records(folder, records)


def _nested(draw: random.Random, folder: Path) -> None:
    depth = draw.choice((50, 500, 900, 980, 5000, 10**5))
    opened, closed = draw.choice((("[", "]"), ('{"a":', "}"), ('{"conversations":[', "]}")))
    text = opened * depth + draw.choice(("", "1")) + closed * draw.choice((depth, 0))
    key = draw.choice(("conversations", "image", "id", "messages"))
    (folder / "train.jsonl").write_text(f'{{"{key}": {text or 1}}}\n')


def _bytes(draw: random.Random, folder: Path) -> None:
    _damage(draw, folder / "train.jsonl")


def _media(draw: random.Random, folder: Path) -> None:
    _damage(draw, folder / draw.choice(("a.png", "b.png", "a.wav", "a.npy")))


def _damage(draw: random.Random, path: Path) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(draw.randint(1, 4)):
        first, length = draw.randrange(len(data) + 1), draw.choice((1, 1, 4, 64))
        change = draw.choice(("flip", "flip", "cut", "zero", "insert", "end", "repeat"))
        if change == "flip" and first < len(data):
            data[first] ^= 1 << draw.randrange(8)
        elif change == "cut":
            del data[first : first + length]
        elif change == "zero":
            data[first : first + length] = bytes(min(length, len(data) - first))
        elif change == "insert":
            data[first:first] = draw.choice(
                (draw.randbytes(length), b"\\ud800", b'"', b"[", b"\xff\xfe", b"9" * 5000, b"NaN")
            )
        elif change == "end":
            del data[first:]
        elif change == "repeat":
            data[first:first] = data[first : first + length]
    path.write_bytes(data)


def _files(draw: random.Random, folder: Path) -> None:
    path = folder / draw.choice(("a.png", "b.png", "a.wav", "a.npy", "train.jsonl"))
    change = draw.choice(("gone", "empty", "a folder", "a way out", "itself", "another"))
    data = path.read_bytes()

    def another() -> bytes:
        others = [other for other in sorted(folder.iterdir()) if other.is_file() and other.name != "link"]
        return draw.choice(others).read_bytes() + data[: draw.randrange(9)]

    replace_file(path, change, "../secret", another)


def replace_file(path: Path, change: str, outside: str, another: Callable[[], bytes]) -> None:
    """Put something else in the place of a file: nothing, a folder, a link, or other bytes."""
    path.unlink()
    if change == "empty":
        path.write_bytes(b"")
    elif change == "a folder":
        path.mkdir()
    elif change == "a way out":
        path.symlink_to(outside)
    elif change == "itself":
        path.symlink_to(path.name)
    elif change == "another":
        path.write_bytes(another())


def _array(draw: random.Random, folder: Path) -> None:
    """The records as one array, whole or torn."""
    text = json.dumps(base_records(), indent=draw.choice((None, 1)))
    (folder / "train.jsonl").unlink()
    (folder / "train.json").write_text(text)
    if draw.random() < 0.9:
        _damage(draw, folder / "train.json")


MUTATIONS: dict[str, Callable[[random.Random, Path], None]] = {
    "structure of records": _structure,
    "bytes of JSON lines": _bytes,
    "bytes of a JSON array": _array,
    "nesting": _nested,
    "bytes of pictures, clips and arrays": _media,
    "files gone, empty, links": _files,
}


def mutate(seed: int, folder: Path) -> str:
    """Damage a base folder by a seed; returns the kind of damage."""
    draw = random.Random(seed)
    kind = draw.choices(list(MUTATIONS), weights=(8, 4, 3, 1, 5, 2))[0]
    MUTATIONS[kind](draw, folder)
    return kind
