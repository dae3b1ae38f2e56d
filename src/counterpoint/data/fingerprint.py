"""What decides the order of the training data: the values that a resumed run must share with its checkpoint."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from counterpoint.config.data import DataConfig
from counterpoint.kinds.modality import Intakes, Scalar
from counterpoint.modalities import MODALITIES
from counterpoint.modalities.images.spec import DEFAULT_SCALING, Scaling
from counterpoint.sources.prepared.index import file_digest

Fingerprint = dict[str, Scalar]
"""Values by config key, as JSON holds them."""

_SHARED = frozenset({"data.image.size", "data.image.max_patches", "data.audio.seconds"})
"""Keys of earlier versions."""

_OWN = "own"
_DIGITS = 16


@dataclass(frozen=True, slots=True)
class DataIdentity:
    """What decides which data a run reads, so it must equal that of the checkpoint that the run resumes from; and the
    versions of its `plugins`, by name: a run only reports where these differ."""

    seed: int
    fingerprint: Fingerprint
    plugins: Mapping[str, str] = field(default_factory=dict)


def data_fingerprint(data: DataConfig, global_batch_samples: int, intakes: Intakes) -> Fingerprint:
    """What decides, with the seed, which documents a step holds; files stand for their content, so they may move.

    Raises DataError if a dataset's manifest cannot be read.
    """
    values: Fingerprint = {
        "training.global_batch_samples": global_batch_samples,
        "data.sequence_tokens": data.sequence_tokens,
        "data.packing": data.packing,
        "data.tokenizer": None if data.tokenizer is None else _shortened(file_digest(Path(data.tokenizer))),
    }
    # Runs of earlier versions do not have these keys in their checkpoints.
    values |= {"data.window_steps": data.window_steps} if data.window_steps > 1 else {}
    values |= {"data.epochs": data.epochs} if data.epochs is not None else {}
    values |= _items(intakes)
    for number, entry in enumerate(data.train):
        values |= _flat(f"data.train.{number}", entry.content())
    return values


def fingerprint_of_today(before: Fingerprint, now: Fingerprint) -> Fingerprint:
    """A fingerprint, of this version or an earlier one, converted to the keys of `now`.

    In earlier versions modules shared one section, pixels were scaled by the defaults, and there was no limit.
    """
    if not _SHARED & before.keys():
        return before
    shared: dict[str, Fingerprint] = {
        "image": {key: before.get(f"data.image.{key}") for key in ("size", "max_patches")}
        | _scaling_values(DEFAULT_SCALING)
        | {"reduce": 0},
        "audio": {"seconds": before.get("data.audio.seconds") or _OWN},
    }
    found = {key: value for key, value in before.items() if key not in _SHARED}
    for key, value in now.items():
        section, _dot, leaf = key.rpartition(".model.")[2].partition(".")
        if key.startswith("modules.") and section in shared:
            found[key] = shared[section].get(leaf, value)
    return found


def first_difference(before: Fingerprint, now: Fingerprint) -> str | None:
    """The first key whose values differ, in the order of `now`; None if there is none."""
    keys = [*now, *(key for key in before if key not in now)]
    return next((key for key in keys if key not in before or key not in now or before[key] != now[key]), None)


def _items(intakes: Intakes) -> Fingerprint:
    """The settings by which files become the input of modules."""
    values: Fingerprint = {}
    for name, intake in intakes.items():
        section = MODALITIES[intake.kind].section
        if section is not None:
            path = f"modules.{name}.model.{section.key}"
            values |= {f"{path}.{key}": _flat_value(value) for key, value in intake.identity.items()}
    return values


def _scaling_values(scaling: Scaling) -> Fingerprint:
    return {key: _flat_value(value) for key, value in scaling._asdict().items()}


def _flat_value(value: Scalar | tuple[Scalar, ...]) -> Scalar:
    return str(list(value)) if isinstance(value, tuple) else value


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
