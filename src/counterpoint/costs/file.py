"""Hardware as a small JSON file, which is data and is never executed."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, final

from counterpoint.costs.hardware import COLLECTIVES, DTYPES, Attention, Hardware, Network
from counterpoint.costs.table import Axis, Table
from counterpoint.errors import InputError

SCHEMA = 1
MOST_BYTES = 20_000
_MOST_VALUES = 64
_MOST_WORDS = 2_000
_DIGITS = 4
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
    "collectives": ("ranks", "sent_bytes"),
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
        found = json.loads(content.decode("utf-8"), parse_constant=_refuse, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: got no JSON ({str(error)[:200]}), expected a file of hardware; {_REMEDY}") from None
    return _hardware(_Place(where, "", found))


def text_of(hardware: Hardware) -> str:
    """The file's text, from which `parse` makes an equal value up to four digits of each figure."""
    body = {
        "schema": SCHEMA,
        "name": hardware.name,
        "source": hardware.source,
        "origin": hardware.origin,
        "device": hardware.device,
        "machine": dict(hardware.machine),
        "memory_bytes": hardware.memory_bytes,
        "ranks_per_node": hardware.ranks_per_node,
        "launch_seconds": _short(hardware.launch_seconds),
        "alone": _short(hardware.alone),
        "peaks": {dtype: _short(peak) for dtype, peak in hardware.peaks.items()},
        "products": _tables(hardware.products),
        "grouped": _tables(hardware.grouped),
        "attention": {
            dtype: {
                "forward": _table(each.forward),
                "backward": _table(each.backward),
                "least_rows": each.least_rows,
            }
            for dtype, each in hardware.attentions.items()
        },
        "scans": {
            dtype: {"forward": _table(forward), "backward": _table(backward)}
            for dtype, (forward, backward) in hardware.scans.items()
        },
        "memory": _table(hardware.memory),
        "copies": _table(hardware.copies),
        "host_copies": _table(hardware.host_copies),
        "updates": _table(hardware.updates),
        "collectives": _tables(hardware.collectives),
        "transfers": _table(hardware.transfers),
        "network": None
        if hardware.network is None
        else {
            "bytes_per_second": _short(hardware.network.bytes_per_second),
            "latency_seconds": _short(hardware.network.latency_seconds),
        },
    }
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in body.items())
    return f"{{\n{lines}\n}}\n"


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


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no number")


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

    def text(self, most: int = _MOST_WORDS) -> str:
        if not isinstance(self.value, str) or len(self.value) > most:
            raise self.wrong(f"text of at most {most} characters")
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

    def several(self, read: Callable[["_Place"], _Value]) -> tuple[_Value, ...]:
        """A list whose values are read one by one."""
        if not isinstance(self.value, list) or not 0 < len(self.value) <= _MOST_VALUES:
            raise self.wrong(f"a list of 1 to {_MOST_VALUES} numbers")
        return tuple(read(self._inside(str(number), value)) for number, value in enumerate(self.value))


def _hardware(place: _Place) -> Hardware:
    if isinstance(place.value, dict) and "schema" in place.value:
        place.fields("schema", optional=tuple(place.value))["schema"].choice((SCHEMA,))
    fields = place.fields(
        "schema", "name", "source", "origin", "device", "machine", "memory_bytes", "ranks_per_node", "launch_seconds",
        "alone", "peaks", *SIZES, "network",
    )  # fmt: skip
    of_kinds = fields["collectives"].fields(*COLLECTIVES)
    products = _by_dtype(fields["products"], lambda each: _read_table(each, "products"))
    peaks = {dtype: each.number() for dtype, each in fields["peaks"].mapping(DTYPES).items()}
    grouped = _by_dtype(fields["grouped"], lambda each: _read_table(each, "grouped"))
    attentions, scans = _by_dtype(fields["attention"], _attention), _by_dtype(fields["scans"], _scan)
    for name, known in (("products", products), ("grouped", grouped), ("attention", attentions)):
        lacking = [dtype for dtype in known if dtype not in peaks]
        if lacking:
            raise fields["peaks"].wrong(f"a peak for {lacking[0]}, which {name} has")
    return Hardware(
        name=fields["name"].text(60),
        source=fields["source"].choice(("measured", "assumed")),
        origin=fields["origin"].text(),
        device=fields["device"].choice(("cuda", "cpu")),
        machine=_machine(fields["machine"]),
        memory_bytes=fields["memory_bytes"].whole(),
        ranks_per_node=fields["ranks_per_node"].whole(),
        launch_seconds=fields["launch_seconds"].number(most=1.0),
        alone=fields["alone"].number(most=1.0),
        peaks=peaks,
        products=products,
        grouped=grouped,
        attentions=attentions,
        scans=scans,
        memory=_read_table(fields["memory"], "memory"),
        copies=_read_table(fields["copies"], "copies"),
        host_copies=_read_table(fields["host_copies"], "host_copies"),
        updates=_read_table(fields["updates"], "updates"),
        collectives={kind: _read_table(of_kinds[kind], "collectives") for kind in COLLECTIVES},
        transfers=_read_table(fields["transfers"], "transfers"),
        network=None if fields["network"].value is None else _network(fields["network"]),
    )


def _by_dtype(place: _Place, read: Callable[[_Place], _Value]) -> dict[str, _Value]:
    return {dtype: read(each) for dtype, each in place.mapping(DTYPES).items()}


def _machine(place: _Place) -> dict[str, str]:
    if not isinstance(place.value, dict) or len(place.value) > _MOST_VALUES:
        raise place.wrong("an object of texts")
    return {name[:60]: each.text(200) for name, each in place.fields(*place.value).items()}


def _attention(place: _Place) -> Attention:
    fields = place.fields("forward", "backward", "least_rows")
    return Attention(
        forward=_read_table(fields["forward"], "attention"),
        backward=_read_table(fields["backward"], "attention"),
        least_rows=fields["least_rows"].whole(),
    )


def _scan(place: _Place) -> tuple[Table, Table]:
    fields = place.fields("forward", "backward")
    return _read_table(fields["forward"], "scans"), _read_table(fields["backward"], "scans")


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
