"""Gaps of measured hardware filled from other hardware, and said to be."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from counterpoint.costs.hardware import Collective, Hardware
from counterpoint.costs.host import Host
from counterpoint.costs.table import Table
from counterpoint.errors import InputError

_Key = TypeVar("_Key", bound=str)
_Value = TypeVar("_Value")

_TABLES = ("memory", "copies", "host_copies", "updates", "transfers", "network")
_BY_NAME = {"products": "products", "grouped": "grouped", "attentions": "attention", "scans": "scans"}
"""Fields by dtype, with what a file calls them."""


def filled(measured: Hardware, base: Hardware) -> Hardware:
    """The measured hardware with the base's peaks, and with its figures of what was not measured: of other dtypes and
    kernels, of the host, of collectives of more ranks, and of the network; raises InputError if they are of different
    kinds.

    `filled` names all of it.
    """
    if measured.device != base.device:
        raise InputError(
            f"{base.name}: got hardware of device {base.device} to fill gaps of device {measured.device}, expected the "
            "same; name other hardware"
        )
    taken: list[str] = []
    changes: dict[str, Any] = {"peaks": _peaks(measured, base, taken)}
    for name, said in _BY_NAME.items():
        changes[name] = _joined(said, getattr(measured, name), getattr(base, name), taken)
    changes["host"] = Host(**_joined("host", measured.host.measured(), base.host.measured(), taken))
    for name in _TABLES:
        if getattr(measured, name) is None and getattr(base, name) is not None:
            changes[name] = getattr(base, name)
            taken.append(name)
    changes["collectives"] = _collectives(measured.collectives, base.collectives, taken)
    # A CPU's seconds hold for so many ranks at work.
    if measured.device == "cuda" and base.ranks_per_node > measured.ranks_per_node:
        changes["ranks_per_node"] = base.ranks_per_node
        taken.append("ranks_per_node")
    missing = {name: why for name, why in measured.missing.items() if name not in taken}
    return replace(measured, **changes, missing=missing, filled=tuple(dict.fromkeys((*measured.filled, *taken))))


def _peaks(measured: Hardware, base: Hardware, taken: list[str]) -> dict[str, float]:
    """The base's peaks, unless products were measured to be faster."""
    peaks = {**base.peaks, **measured.peaks}
    for dtype, peak in base.peaks.items():
        if peak >= peaks[dtype]:
            peaks[dtype] = peak
            taken.append(f"peaks.{dtype}")
    return peaks


def _joined(
    name: str, measured: Mapping[_Key, _Value], base: Mapping[_Key, _Value], taken: list[str]
) -> dict[_Key, _Value]:
    taken.extend(f"{name}.{key}" for key in base if key not in measured)
    return {**base, **measured}


def _collectives(
    measured: Mapping[Collective, Mapping[int, Table]], base: Mapping[Collective, Mapping[int, Table]], taken: list[str]
) -> dict[Collective, Mapping[int, Table]]:
    found: dict[Collective, Mapping[int, Table]] = {**base, **measured}
    taken.extend(f"collectives.{kind}" for kind in base if kind not in measured)
    for kind, tables in measured.items():
        more = {count: table for count, table in base.get(kind, {}).items() if count > max(tables)}
        found[kind] = {**tables, **more}
        taken.extend(f"collectives.{kind} of {count} ranks" for count in more)
    return found
