"""The plan of an export as a value: every tensor of the folder, where its bytes lie, and which process writes which."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal, final

BYTES_OF: Mapping[str, int] = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2,
    "U8": 1, "BOOL": 1, "F8_E5M2": 1, "F8_E4M3": 1,
}  # fmt: skip
"""Bytes of an element, by safetensors' name of its type."""

FLOATS = ("F64", "F32", "F16", "BF16")
PIECE_BYTES = 2**25
"""Most bytes of a piece, unless a single row has more: what bounds the memory of a process."""

Origin = Literal["written", "carried"]
_ALIGNMENT = 8


@final
@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the folder: `written` from ours, or `carried` from the base folder bit for bit."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    origin: Origin

    @property
    def cut_dim(self) -> int:
        """The dimension that pieces cut: the first with more than one index."""
        return next((dim for dim, size in enumerate(self.shape) if size != 1), 0)

    @property
    def rows(self) -> int:
        """Number of indices of that dimension; a single number is one row."""
        return self.shape[self.cut_dim] if self.shape else 1

    @property
    def row_bytes(self) -> int:
        """Bytes of each row."""
        return prod(self.shape[self.cut_dim + 1 :]) * BYTES_OF[self.dtype]

    @property
    def size_bytes(self) -> int:
        """Bytes of all rows."""
        return self.rows * self.row_bytes


@final
@dataclass(frozen=True, slots=True)
class Placed:
    """Where a tensor lies: its first byte after the header of a file."""

    tensor: Tensor
    file: str
    begin: int


@final
@dataclass(frozen=True, slots=True)
class File:
    """A file of tensors: its header, with the length before it, and the bytes after it."""

    name: str
    header: bytes
    data_bytes: int

    @property
    def size_bytes(self) -> int:
        """Its complete size."""
        return len(self.header) + self.data_bytes


@final
@dataclass(frozen=True, slots=True)
class Piece:
    """Rows `[start, stop)` of the tensor of this number."""

    number: int
    start: int
    stop: int


@final
@dataclass(frozen=True, slots=True)
class ExportPlan:
    """All tensors in all files, and for each process the pieces that it writes."""

    placed: tuple[Placed, ...]
    files: tuple[File, ...]
    shares: tuple[tuple[Piece, ...], ...]

    @property
    def index(self) -> dict[str, str]:
        """The file of each tensor."""
        return {one.tensor.name: one.file for one in self.placed}

    @property
    def size_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(one.tensor.size_bytes for one in self.placed)

    def share_bytes(self, process: int) -> int:
        """Bytes that a process writes."""
        return sum((p.stop - p.start) * self.placed[p.number].tensor.row_bytes for p in self.shares[process])

    def rows_of(self, name: str) -> Iterator[tuple[int, int, int]]:
        """Process, start and stop of each piece of a tensor."""
        for process, share in enumerate(self.shares):
            for piece in share:
                if self.placed[piece.number].tensor.name == name:
                    yield process, piece.start, piece.stop


def plan_export(
    files: Mapping[str, Sequence[Tensor]], processes: int, metadata: Mapping[str, str] | None = None
) -> ExportPlan:
    """The plan of these files, written by so many processes whose shares differ by a row at most."""
    placed: list[Placed] = []
    laid: list[File] = []
    for name, tensors in files.items():
        # The widest elements come first, so that each tensor begins at a multiple of its element.
        ordered = sorted(tensors, key=lambda one: (-BYTES_OF[one.dtype], one.name))
        begin = 0
        for tensor in ordered:
            placed.append(Placed(tensor, name, begin))
            begin += tensor.size_bytes
        laid.append(File(name, _header(placed[len(placed) - len(ordered) :], metadata or {}), begin))
    return ExportPlan(tuple(placed), tuple(laid), _shares(placed, processes))


def sharded(tensors: Iterable[Tensor], most_bytes: int) -> dict[str, list[Tensor]]:
    """Files of at most so many bytes, unless a single tensor has more, with the names that transformers gives them."""
    groups: list[list[Tensor]] = [[]]
    size = 0
    for tensor in tensors:
        if groups[-1] and size + tensor.size_bytes > most_bytes:
            groups.append([])
            size = 0
        groups[-1].append(tensor)
        size += tensor.size_bytes
    if len(groups) == 1:
        return {"model.safetensors": groups[0]}
    return {f"model-{number:05d}-of-{len(groups):05d}.safetensors": one for number, one in enumerate(groups, start=1)}


def _shares(placed: Sequence[Placed], processes: int) -> tuple[tuple[Piece, ...], ...]:
    total = sum(one.tensor.size_bytes for one in placed)
    shares: list[list[Piece]] = [[] for _process in range(processes)]
    before = 0
    for number, one in enumerate(placed):
        rows, row_bytes = one.tensor.rows, max(one.tensor.row_bytes, 1)
        for process, share in enumerate(shares):
            bounds = (total * process // processes - before, total * (process + 1) // processes - before)
            start, stop = (min(max(-(-bound // row_bytes), 0), rows) for bound in bounds)
            stop = rows if process == processes - 1 else stop
            step = max(PIECE_BYTES // row_bytes, 1)
            share.extend(Piece(number, first, min(first + step, stop)) for first in range(start, stop, step))
        before += one.tensor.size_bytes
    return tuple(map(tuple, shares))


def _header(placed: Sequence[Placed], metadata: Mapping[str, str]) -> bytes:
    content: dict[str, object] = {"__metadata__": {**metadata, "format": "pt"}}
    for one in placed:
        tensor = one.tensor
        offsets = [one.begin, one.begin + tensor.size_bytes]
        content[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": offsets}
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text
