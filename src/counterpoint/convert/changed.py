"""Defaults of transformers that have changed: a config.json that leaves such a key out means another value if it was
written before.

Found by comparing the defaults in the config classes of releases 4.28, 4.36, 4.45, 4.51, 4.57, 5.0, 5.3, 5.16 and 5.24,
and narrowed down with those between.
"""

from typing import Any, NamedTuple, final


@final
class Changed(NamedTuple):
    """The `old` default of a key, for a model of this `kind`, before a release `since`, (major, minor)."""

    kind: str
    key: str
    since: tuple[int, int]
    old: Any


CHANGED = (
    # models/whisper/configuration_whisper.py: the defaults were of no published size before.
    Changed("whisper", "d_model", (4, 36), 256),
    Changed("whisper", "encoder_layers", (4, 36), 6),
    Changed("whisper", "encoder_attention_heads", (4, 36), 4),
    # models/qwen3_vl/configuration_qwen3_vl.py: a key of its own in release 4.57, `default_theta` since.
    Changed("qwen3_vl_text", "rope_theta", (5, 0), 5000000.0),
)


def release_of(version: object) -> tuple[int, int] | None:
    """The release of a `transformers_version`, (major, minor), None where it is not said in numbers."""
    numbers = str(version).split(".")[:2]
    if len(numbers) != 2 or not all(number.isascii() and number.isdigit() and len(number) < 6 for number in numbers):
        return None
    return int(numbers[0]), int(numbers[1])
