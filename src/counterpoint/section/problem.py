"""One thing that is wrong with a configuration, as one sentence."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from difflib import get_close_matches

from counterpoint.credentials import without_credentials

_LONGEST_SHOWN = 60

_SYNONYMS = {
    "context_parallel": ("cp",),
    "double": ("float64",),
    "float16": ("bfloat16",),
    "fp16": ("float16", "bfloat16"),
    "fp32": ("float32",),
    "fp64": ("float64",),
    "gpu": ("cuda",),
    "half": ("float16", "bfloat16"),
    "learning_rate": ("lr",),
    "pipeline_parallel": ("pp",),
    "single": ("float32",),
    "tb": ("tensorboard",),
    "tensor_parallel": ("tp",),
    "zb": ("zero_bubble",),
}
"""What others call a known name, best first, where their spellings are not alike."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong at `path`, what was expected there, and the remedy."""

    path: str
    got: str
    expected: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}: got {self.got}, expected {self.expected}; {self.remedy}"


def show(value: object) -> str:
    """A value as the user would write it, shortened and without credentials."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError):
        text = repr(value)
    except RecursionError:
        text = f"a {type(value).__name__} of many levels"
    text = without_credentials(text, {})
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 4] + " ..."


def nearest(name: str, known: Collection[str]) -> str | None:
    """The known name that means the same, else the one that is most alike, if one is alike at all."""
    same = next((word for word in _SYNONYMS.get(name.lower(), ()) if word in known), None)
    if same is not None:
        return same
    by_lowercase = {word.lower(): word for word in sorted(known)}
    matches = get_close_matches(name.lower(), by_lowercase, n=1, cutoff=0.6)
    return by_lowercase[matches[0]] if matches else None
