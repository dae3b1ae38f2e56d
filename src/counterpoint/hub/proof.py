"""The proof of an export before a byte is written: nothing is missing, nothing is written twice."""

import json
from collections.abc import Collection, Iterator, Mapping
from itertools import pairwise

from counterpoint.errors import ProofError
from counterpoint.hub.plan import ExportPlan, Tensor

_NAMED = 3


def prove_export(plan: ExportPlan, index: Mapping[str, tuple[int, ...]], written: Collection[str]) -> None:
    """Raise ProofError unless the plan writes exactly the tensors of `index`, by name and shape, each element once.

    Of these, those named in `written` are made of ours; all others are carried.
    """
    for problem in _problems(plan, index, written):
        raise ProofError(f"the export would not be whole: {problem}; nothing was written, please report it")


def _problems(plan: ExportPlan, index: Mapping[str, tuple[int, ...]], written: Collection[str]) -> Iterator[str]:
    tensors = [one.tensor for one in plan.placed]
    yield from _wrong_names(tensors, index, written)
    for one in plan.placed:
        tensor = one.tensor
        if tensor.shape != tuple(index[tensor.name]):
            yield f"{tensor.name} has the shape {tensor.shape}, expected {tuple(index[tensor.name])}"
    yield from _wrong_files(plan)
    yield from _wrong_pieces(plan)


def _wrong_names(
    tensors: list[Tensor], index: Mapping[str, tuple[int, ...]], written: Collection[str]
) -> Iterator[str]:
    found = {origin: [t.name for t in tensors if t.origin == origin] for origin in ("written", "carried")}
    names = [*found["written"], *found["carried"]]
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    yield from _named("is planned twice", twice)
    yield from _named("is missing", sorted(index.keys() - set(names)))
    yield from _named("belongs to no model", sorted(set(names) - index.keys()))
    yield from _named("is held here, but would be carried", sorted(set(written) & set(found["carried"])))
    yield from _named("is carried, but no base has it", sorted(set(found["written"]) - set(written)))


def _named(what: str, names: list[str]) -> Iterator[str]:
    if names:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        yield f"{', '.join(names[:_NAMED])}{more} {what}"


def _wrong_files(plan: ExportPlan) -> Iterator[str]:
    """Bytes of a file that no tensor or more than one has, or that its header tells otherwise."""
    for file in plan.files:
        spans = sorted((p.begin, p.begin + p.tensor.size_bytes) for p in plan.placed if p.file == file.name)
        edges = [0, *(edge for span in spans for edge in span), file.data_bytes]
        if any(one != other for one, other in zip(edges[::2], edges[1::2], strict=True)):
            yield f"the bytes of {file.name} are not those of its tensors, one after another"
        said = json.loads(file.header[8:])
        placed = {
            p.tensor.name: {
                "dtype": p.tensor.dtype,
                "shape": list(p.tensor.shape),
                "data_offsets": [p.begin, p.begin + p.tensor.size_bytes],
            }
            for p in plan.placed
            if p.file == file.name
        }
        if {name: one for name, one in said.items() if name != "__metadata__"} != placed:
            yield f"the header of {file.name} does not say where its tensors lie"
        if int.from_bytes(file.header[:8], "little") != len(file.header) - 8:
            yield f"the header of {file.name} has another length than it says"
    files = {file.name for file in plan.files}
    yield from _named("lies in no file", [p.tensor.name for p in plan.placed if p.file not in files])


def _wrong_pieces(plan: ExportPlan) -> Iterator[str]:
    """Rows that no process or more than one writes."""
    rows: list[list[tuple[int, int]]] = [[] for _one in plan.placed]
    for share in plan.shares:
        for piece in share:
            rows[piece.number].append((piece.start, piece.stop))
    for one, found in zip(plan.placed, rows, strict=True):
        pieces = sorted(piece for piece in found if piece[0] < piece[1])
        edges = [(0, 0), *pieces, (one.tensor.rows, one.tensor.rows)] if one.tensor.rows else []
        for (_start, stop), (start, _stop) in pairwise(edges):
            if stop != start:
                what = f"no process writes rows {stop} to {start}" if stop < start else f"two write row {start}"
                yield f"{one.tensor.name}: {what} of {one.tensor.rows}"
