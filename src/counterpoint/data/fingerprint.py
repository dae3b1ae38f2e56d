"""What decides the order of the training data: the values that a resumed run must share with its checkpoint."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from counterpoint.config.schema import Config, DataEntry, PreparedEntry
from counterpoint.data.index import Manifest, file_digest

Scalar = str | int | float | bool | None
Fingerprint = dict[str, Scalar]
"""Values by config key, as JSON holds them."""

_DIGITS = 16


def data_fingerprint(config: Config) -> Fingerprint:
    """What decides, with the seed, which documents a step holds; files stand for their content, so they may move.

    Raises DataError if a dataset's manifest cannot be read.
    """
    data = config.data
    values: Fingerprint = {
        "training.global_batch_samples": config.training.global_batch_samples,
        "data.sequence_tokens": data.sequence_tokens,
        "data.packing": data.packing,
        "data.image.size": None if data.image is None else data.image.size,
        "data.image.max_patches": None if data.image is None else data.image.max_patches,
        "data.audio.seconds": None if data.audio is None else data.audio.seconds,
        "data.tokenizer": None if data.tokenizer is None else _shortened(file_digest(Path(data.tokenizer))),
    }
    for number, entry in enumerate(data.train):
        values |= _flat(f"data.train.{number}", _content(entry))
    return values


def first_difference(before: Fingerprint, now: Fingerprint) -> str | None:
    """The first key whose values differ, in the order of `now`; None if there is none."""
    keys = [*now, *(key for key in before if key not in now)]
    return next((key for key in keys if key not in before or key not in now or before[key] != now[key]), None)


def _content(entry: DataEntry) -> dict[str, Any]:
    values: dict[str, Any] = entry.model_dump(mode="json")
    if isinstance(entry, PreparedEntry):
        manifest = Manifest.read(Path(entry.path))
        digest = hashlib.sha256(json.dumps(asdict(manifest), sort_keys=True).encode()).hexdigest()
        values["path"] = f"{manifest.documents} documents, {_shortened(digest)}"
    return values


def _flat(prefix: str, values: dict[str, Any]) -> Fingerprint:
    return dict(_leaves(prefix, values))


def _leaves(prefix: str, values: dict[str, Any]) -> Iterator[tuple[str, Scalar]]:
    for key, value in values.items():
        path = f"{prefix}.{key}"
        if isinstance(value, dict):
            yield from _leaves(path, value)
        else:
            yield path, value


def _shortened(digest: str) -> str:
    return f"sha256 {digest[:_DIGITS]}"
