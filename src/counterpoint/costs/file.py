"""Hardware as a small JSON file, which is data and is never executed."""

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar, final

from counterpoint.costs.hardware import COLLECTIVES, DTYPES, Attention, Collective, Hardware, Network, Ways
from counterpoint.costs.host import FIGURES, NOT_MEASURED, Host
from counterpoint.costs.table import Axis, Table
from counterpoint.errors import InputError

SCHEMA = 1
MOST_BYTES = 20_000
_MOST_VALUES = 64
_MOST_LETTERS = 2_000
_DIGITS = 4
_RANKS = re.compile(r"[2-9]|[1-9][0-9]{1,5}")
_REMEDY = "write the file with counterpoint calibrate"

_Value = TypeVar("_Value")

SIZES: Mapping[str, tuple[str, ...]] = {
    "products": ("smallest", "others"),
    "grouped": ("rows", "weight"),
    "attention": ("head_dim", "keys"),
    "scans": ("elements",),
    "memory": ("bytes",),
    "copies": ("bytes",),
    "host_copies": ("bytes",),
    "updates": ("parameters",),
    "collectives": ("sent_bytes",),
    "transfers": ("bytes",),
}
"""Names of the axes of each table."""


def read_hardware(path: Path) -> Hardware:
    """The hardware that a file describes; raises InputError with one sentence for what is no such file."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}), expected a file of hardware; {_REMEDY}") from None
    return parse(content, str(path))


def parse(content: bytes, where: str) -> Hardware:
    """The hardware that a file's content describes; `where` is what sentences call it."""
    if len(content) > MOST_BYTES:
        raise InputError(f"{where}: got more than {MOST_BYTES} bytes, expected a small file of hardware; {_REMEDY}")
    try:
        found = json.loads(content.decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: got no JSON ({str(error)[:200]}), expected a file of hardware; {_REMEDY}") from None
    return _hardware(_Place(where, "", found))


def write_hardware(path: Path, hardware: Hardware) -> None:
    """Write the file, whole or not at all; raises InputError if that is not possible."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text_of(hardware))
        beside.replace(path)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}), expected a place for a file; name another"
        ) from None


def text_of(hardware: Hardware) -> str:
    """The file's text, from which `parse` makes an equal value up to four digits of each figure."""
    network = hardware.network
    body = {
        "schema": SCHEMA,
        "name": hardware.name,
        "source": hardware.source,
        "origin": hardware.origin,
        "device": hardware.device,
        "machine": dict(hardware.machine),
        "missing": dict(hardware.missing),
        "filled": list(hardware.filled),
        "memory_bytes": hardware.memory_bytes,
        "ranks_per_node": hardware.ranks_per_node,
        "launch_seconds": _short(hardware.launch_seconds),
        **_host(hardware.host),
        "alone": _short(hardware.alone),
        "peaks": {dtype: _short(peak) for dtype, peak in hardware.peaks.items()},
        "products": _tables(hardware.products),
        "grouped": _tables(hardware.grouped),
        "attention": {
            dtype: {
                "packed": _both(each.packed),
                "even": None if each.even is None else _both(each.even),
                "least_rows": each.least_rows,
            }
            for dtype, each in hardware.attentions.items()
        },
        "scans": {dtype: _both(each) for dtype, each in hardware.scans.items()},
        **{name: None if table is None else _table(table) for name, table in _single(hardware).items()},
        "collectives": {kind: _tables(tables) for kind, tables in hardware.collectives.items()},
        "network": None if network is None else {name: _short(value) for name, value in asdict(network).items()},
    }
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in body.items())
    return f"{{\n{lines}\n}}\n"


def _host(host: Host) -> dict[str, Any]:
    """The key that a file has if anything of the host was measured."""
    found = {name: _short(seconds) for name, seconds in host.measured().items()}
    return {"host": found} if found else {}


def _single(hardware: Hardware) -> dict[str, Table | None]:
    return {
        "memory": hardware.memory,
        "copies": hardware.copies,
        "host_copies": hardware.host_copies,
        "updates": hardware.updates,
        "transfers": hardware.transfers,
    }


def _both(ways: Ways) -> dict[str, Any]:
    return {"forward": _table(ways.forward), "backward": _table(ways.backward)}


def _tables(tables: Mapping[Any, Table]) -> dict[str, Any]:
    return {str(name): _table(table) for name, table in tables.items()}


def _table(table: Table) -> dict[str, Any]:
    return {
        **{axis.name: [_short(value) for value in axis.values] for axis in table.axes},
        "seconds": [None if value is None else _short(value) for value in table.seconds],
        **({"spread": [_short(value, 2) for value in table.spread]} if table.spread else {}),
    }


def _short(value: float, digits: int = _DIGITS) -> float:
    """A few digits, so that the file stays small; whole numbers as such."""
    number = float(f"{value:.{digits}g}")
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key is there twice")
    return made


@final
class _Place:
    """A value inside a file, and how to take it apart strictly."""

    def __init__(self, where: str, key: str, value: Any) -> None:
        self.where, self.key, self.value = where, key, value

    def wrong(self, expected: str) -> InputError:
        """The sentence about this value."""
        got = json.dumps(self.value)
        got = got if len(got) <= 60 else f"{got[:57]}..."
        return InputError(f"{self.where}: {self.key or 'the file'}: got {got}, expected {expected}; {_REMEDY}")

    def fields(self, *names: str, optional: tuple[str, ...] = ()) -> dict[str, "_Place"]:
        """The values of an object that has these keys and no others."""
        if not isinstance(self.value, dict):
            raise self.wrong(f"an object with {', '.join(names)}")
        missing = [name for name in names if name not in self.value]
        unknown = [name for name in self.value if name not in (*names, *optional)]
        if missing or unknown:
            told = f"no {missing[0]}" if missing else f"an unknown key {unknown[0][:60]!r}"
            expected = ", ".join((*names, *optional))
            raise InputError(f"{self.where}: {self.key or 'the file'}: got {told}, expected {expected}; {_REMEDY}")
        return {name: self._inside(name, value) for name, value in self.value.items()}

    def mapping(self, known: tuple[str, ...]) -> dict[str, "_Place"]:
        """The values of an object whose keys are some of those known."""
        if not isinstance(self.value, dict):
            raise self.wrong(f"an object with some of {', '.join(known)}")
        return self.fields(optional=known)

    def _inside(self, name: str, value: Any) -> "_Place":
        return _Place(self.where, f"{self.key}.{name}" if self.key else name, value)

    def text(self, most: int = _MOST_LETTERS) -> str:
        # A line break would leave the comment or the sentence that tells it.
        if not isinstance(self.value, str) or len(self.value) > most or not self.value.isprintable():
            raise self.wrong(f"text of at most {most} printable characters")
        return self.value

    def choice(self, known: tuple[_Value, ...]) -> _Value:
        for each in known:
            if type(self.value) is type(each) and self.value == each:
                return each
        raise self.wrong(f"one of {', '.join(map(str, known))}")

    def number(self, least: float = 0.0, most: float = math.inf) -> float:
        """A number above `least`, up to `most`."""
        if isinstance(self.value, bool) or not isinstance(self.value, (int, float)):
            raise self.wrong("a number")
        if not least < self.value <= min(most, 1e30):
            raise self.wrong(f"a number above {least:g}" + (f" and at most {most:g}" if most < math.inf else ""))
        return float(self.value)

    def whole(self) -> int:
        if isinstance(self.value, bool) or not isinstance(self.value, int) or not 0 < self.value < 2**53:
            raise self.wrong("a whole number above 0")
        return self.value

    def texts(self) -> dict[str, str]:
        """An object of texts."""
        if not isinstance(self.value, dict) or len(self.value) > _MOST_VALUES:
            raise self.wrong("an object of texts")
        return {name: each.text() for name, each in self.fields(*self.value).items()}

    def several(self, read: Callable[["_Place"], _Value], least: int = 1) -> tuple[_Value, ...]:
        """A list whose values are read one by one."""
        if not isinstance(self.value, list) or not least <= len(self.value) <= _MOST_VALUES:
            raise self.wrong(f"a list of {least} to {_MOST_VALUES} values")
        return tuple(read(self._inside(str(number), value)) for number, value in enumerate(self.value))


def _hardware(place: _Place) -> Hardware:
    if isinstance(place.value, dict) and "schema" in place.value:
        place.fields("schema", optional=tuple(place.value))["schema"].choice((SCHEMA,))
    fields = place.fields(
        "schema", "name", "source", "origin", "device", "machine", "missing", "filled", "memory_bytes",
        "ranks_per_node", "launch_seconds", "alone", "peaks", *SIZES, "network",
        optional=("host",),
    )  # fmt: skip
    peaks = {dtype: each.number() for dtype, each in fields["peaks"].mapping(DTYPES).items()}
    attentions = _by_dtype(fields["attention"], peaks, _attention)
    return Hardware(
        name=fields["name"].text(60),
        source=fields["source"].choice(("measured", "assumed")),
        origin=fields["origin"].text(),
        device=fields["device"].choice(("cuda", "cpu")),
        machine=fields["machine"].texts(),
        missing=fields["missing"].texts(),
        filled=fields["filled"].several(_Place.text, least=0),
        memory_bytes=fields["memory_bytes"].whole(),
        ranks_per_node=fields["ranks_per_node"].whole(),
        launch_seconds=fields["launch_seconds"].number(most=1.0),
        host=_read_host(fields["host"]) if "host" in fields else NOT_MEASURED,
        alone=fields["alone"].number(most=1.0),
        peaks=peaks,
        products=_by_dtype(fields["products"], peaks, lambda each: _read_table(each, "products")),
        grouped=_by_dtype(fields["grouped"], peaks, lambda each: _read_table(each, "grouped")),
        attentions=attentions,
        scans=_by_dtype(fields["scans"], peaks, lambda each: _ways(each, "scans")),
        memory=_perhaps(fields["memory"], "memory"),
        copies=_perhaps(fields["copies"], "copies"),
        host_copies=_perhaps(fields["host_copies"], "host_copies"),
        updates=_perhaps(fields["updates"], "updates"),
        collectives=_collectives(fields["collectives"]),
        transfers=_perhaps(fields["transfers"], "transfers"),
        network=None if fields["network"].value is None else _network(fields["network"]),
    )


def _read_host(place: _Place) -> Host:
    return Host(**{name: each.number(most=1.0) for name, each in place.mapping(FIGURES).items()})


def _collectives(place: _Place) -> dict[Collective, dict[int, Table]]:
    found = place.mapping(COLLECTIVES)
    return {kind: _by_ranks(found[kind]) for kind in COLLECTIVES if kind in found}


def _by_ranks(place: _Place) -> dict[int, Table]:
    counts = place.value if isinstance(place.value, dict) else {}
    if not 0 < len(counts) <= _MOST_VALUES or not all(_RANKS.fullmatch(count) for count in counts):
        raise place.wrong("an object whose keys are numbers of ranks, 2 or more")
    return {int(count): _read_table(each, "collectives") for count, each in place.fields(*counts).items()}


def _perhaps(place: _Place, kind: str) -> Table | None:
    return None if place.value is None else _read_table(place, kind)


def _by_dtype(place: _Place, peaks: Mapping[str, float], read: Callable[[_Place], _Value]) -> dict[str, _Value]:
    return {dtype: read(each) for dtype, each in place.mapping(tuple(peaks)).items()}


def _attention(place: _Place) -> Attention:
    fields = place.fields("packed", "even", "least_rows")
    return Attention(
        packed=_ways(fields["packed"], "attention"),
        even=None if fields["even"].value is None else _ways(fields["even"], "attention"),
        least_rows=fields["least_rows"].whole(),
    )


def _ways(place: _Place, kind: str) -> Ways:
    fields = place.fields("forward", "backward")
    return Ways(forward=_read_table(fields["forward"], kind), backward=_read_table(fields["backward"], kind))


def _network(place: _Place) -> Network:
    fields = place.fields("bytes_per_second", "latency_seconds")
    return Network(
        bytes_per_second=fields["bytes_per_second"].number(), latency_seconds=fields["latency_seconds"].number(most=1.0)
    )


def _read_table(place: _Place, kind: str) -> Table:
    names = SIZES[kind]
    fields = place.fields(*names, "seconds", optional=("spread",))
    axes = tuple(Axis(name, fields[name].several(_Place.number)) for name in names)
    for axis in axes:
        if any(low >= high for low, high in zip(axis.values, axis.values[1:])):
            raise fields[axis.name].wrong("numbers in rising order")
    seconds = fields["seconds"].several(lambda each: None if each.value is None else each.number())
    count, width = math.prod(len(axis.values) for axis in axes), len(axes[-1].values)
    if len(seconds) != count:
        raise fields["seconds"].wrong(f"{count} numbers, one for each size")
    if any(value is None for value in seconds[width - 1 :: width]):
        raise fields["seconds"].wrong(f"a number for the last of every {width} sizes")
    spread = fields["spread"].several(_spread) if "spread" in fields else ()
    if spread and len(spread) != count:
        raise fields["spread"].wrong(f"{count} numbers, one for each size")
    return Table(axes, seconds, spread)


def _spread(place: _Place) -> float:
    return 0.0 if place.value == 0 and place.value is not False else place.number()
