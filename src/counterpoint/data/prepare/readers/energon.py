"""What Energon keeps beside its tars, in .nv-meta: which part is which column, and which tars are which split."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import yaml

from counterpoint.data.prepare.readers.sniff import SUFFIXES
from counterpoint.data.text.shown import show
from counterpoint.errors import DataError

FOLDER = ".nv-meta"
_DATASET, _SPLIT = "dataset.yaml", "split.yaml"
_FIELD = re.compile(r"(?P<part>[^\[\]]+)(?P<keys>(\[[^\[\]]+\])*)")
_BRACES = re.compile(r"\{([^{}]*)\}")
_MOST = 1_000_000
_ALIASES = {"context": "question", "answers": "answer"}
"""Energon's names of fields that shapes call otherwise."""


@final
@dataclass(frozen=True)
class FieldMap:
    """The columns of the samples of some tars; without a `field_map` they are the samples' parts."""

    fields: Mapping[str, str]
    excluded: frozenset[str] = frozenset()

    @classmethod
    def of(cls, file: Path) -> "FieldMap":
        """That of a tar, from the folder that it lies in; raises DataError for a file that is none of Energon's."""
        folder = _folder(file)
        if folder is None:
            return cls({})
        values = _yaml(folder / _DATASET)
        fields: Any = values.get("field_map") or {}
        if not isinstance(fields, dict) or not all(isinstance(one, str) for pair in fields.items() for one in pair):
            raise DataError(
                f"{folder / _DATASET}: expected 'field_map' to name the part of each field, got {show(fields)}; a "
                "sample loader of Python is not run: give columns with --map instead."
            )
        named: dict[str, str] = fields
        return cls({_ALIASES.get(key, key): part for key, part in named.items()}, _excluded(folder))

    def leaves_out(self, file: Path, key: str) -> bool:
        """Whether `split.yaml` excludes a sample."""
        return bool(self.excluded) and f"{file.name}/{key}" in self.excluded

    def row(self, values: dict[str, Any]) -> dict[str, Any]:
        """A sample's columns by the names of the fields."""
        if not self.fields:
            return values
        return {name: _field(values, source) for name, source in self.fields.items()}


def energon_splits(folder: Path) -> Mapping[str, str] | None:
    """The split of each tar of a folder by its name in `split.yaml`, None without such a file; raises DataError."""
    path = folder / FOLDER / _SPLIT
    if not path.is_file():
        return None
    parts = _yaml(path).get("split_parts")
    if not isinstance(parts, dict):
        raise DataError(f"{path}: expected 'split_parts' with the tars of each split, got {show(parts)}.")
    excluded = _excluded(folder / FOLDER)
    splits = {}
    for split, names in parts.items():
        for pattern in names if isinstance(names, list) else [names] if isinstance(names, str) else []:
            for name in _expanded(str(pattern), path):
                if name not in excluded:
                    splits[name] = str(split)
    return splits


def _folder(file: Path) -> Path | None:
    return next((above / FOLDER for above in list(file.parents)[:3] if (above / FOLDER / _DATASET).is_file()), None)


def _excluded(folder: Path) -> frozenset[str]:
    path = folder / _SPLIT
    names = _yaml(path).get("exclude") or [] if path.is_file() else []
    if not isinstance(names, list):
        raise DataError(f"{path}: expected 'exclude' to be a list of tars and samples, got {show(names)}.")
    return frozenset(name for one in names for name in _expanded(str(one), path))


def _yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); correct its permissions.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: is no YAML ({show(str(error))}); correct it.") from None
    if not isinstance(values, dict):
        raise DataError(f"{path}: expected keys with values, got {show(values)}.")
    return values


def _field(values: dict[str, Any], source: str) -> Any:
    """The part that a field names, or what lies in its JSON: `jpg`, `json[caption]`."""
    for option in source.split(";"):
        match = _FIELD.fullmatch(option.strip())
        if match is None:
            raise DataError(f"field_map: {show(source)} is no part of a sample, expected jpg or json[caption].")
        part, keys = match["part"], re.findall(r"\[([^\[\]]+)\]", match["keys"])
        if keys:
            value: Any = values
        else:
            names = (SUFFIXES.get(part.rpartition(".")[2], part), {"txt": "text"}.get(part, part))
            value = next((values[name] for name in names if name in values), None)
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            return value
    return None


def _expanded(pattern: str, path: Path) -> Iterator[str]:
    """Names with {000..004} and {a,b} written out."""
    names = [pattern]
    while any("{" in name for name in names):
        expanded: list[str] = []
        for name in names:
            match = _BRACES.search(name)
            if match is None:
                raise DataError(f"{path}: {show(pattern)} has a brace without its other; correct it.")
            for value in _values(match[1]):
                expanded.append(name[: match.start()] + value + name[match.end() :])
                if len(expanded) > _MOST:
                    raise DataError(f"{path}: {show(pattern)} names more than {_MOST} files; correct it.")
        names = expanded
    return iter(names)


def _values(braces: str) -> Iterator[str]:
    first, dots, last = braces.partition("..")
    if dots and first.isdecimal() and last.isdecimal():
        for number in range(int(first), min(int(last), int(first) + _MOST) + 1):
            yield str(number).zfill(len(first))
    else:
        yield from braces.split(",")
