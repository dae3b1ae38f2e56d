"""What operations cost on a machine: `load` reads the hardware of a name or of a file."""

from collections.abc import Iterator
from pathlib import Path

from counterpoint.costs.file import read_hardware
from counterpoint.costs.hardware import Hardware
from counterpoint.errors import InputError

__all__ = ["Hardware", "load", "names"]

_SHIPPED = Path(__file__).with_name("shipped")


def names() -> tuple[str, ...]:
    """The hardware that comes with the package."""
    return tuple(sorted(file.stem for file in _files()))


def load(name_or_path: str | Path) -> Hardware:
    """The hardware of a shipped name, in any case, or of a file of `counterpoint calibrate`; raises InputError."""
    name = str(name_or_path)
    for file in _files():
        if file.stem == name.lower():
            return read_hardware(file)
    path = Path(name)
    if path.suffix != ".json" and not path.is_file():
        raise InputError(
            f"hardware: got {name!r}, expected one of {', '.join(names())} or a file of counterpoint calibrate; choose "
            "one of these, or measure this machine with counterpoint calibrate"
        )
    return read_hardware(path)


def _files() -> Iterator[Path]:
    return _SHIPPED.glob("*.json")
