"""Writes `convert/defaults.json`: what transformers makes of keys and sections that a config.json leaves out.

`python -m tests.unit.judge.defaults_table` writes it anew; needs transformers.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from counterpoint.convert.composite import COMPOSITES
from counterpoint.convert.decoders import DECODERS
from counterpoint.convert.defaults import DEFAULTS_FILE
from tests.unit.judge.judge import quiet

Keys = dict[str, Any]
"""A config in full, as JSON has it."""

PROCESSORS = (
    "CLIPImageProcessor", "ConvNextImageProcessor", "ParakeetFeatureExtractor", "Qwen2VLImageProcessor",
    "Siglip2ImageProcessor", "SiglipImageProcessor", "WhisperFeatureExtractor",
)  # fmt: skip
"""Of pictures and of clips."""

_MODEL_TYPE = "model_type"
_LAYERS_ROPE = {"full_attention": "rope_theta", "sliding_attention": "rope_local_base_freq"}
"""Where rotary positions differ by kind of layer: the key of each kind's base before transformers 5."""


def table() -> Keys:
    """The content of the file, from the installed transformers."""
    import transformers

    quiet()
    kinds = sorted({*DECODERS, *COMPOSITES})
    derived = {kind: found for kind in kinds if (found := dict(_derived(kind)))}
    return {
        "transformers": transformers.__version__,
        "models": {kind: _values(kind, derived.get(kind, {})) for kind in kinds},
        "derived": derived,
        "sections": {kind: sections for kind in kinds if (sections := dict(_sections(kind)))},
        "processors": {kind: _processor(kind) for kind in PROCESSORS},
    }


def written(content: Keys) -> str:
    """The text of the file: one key a line, lists in one."""
    lines = json.dumps(content, indent=1, sort_keys=True).split("\n")
    joined: list[str] = []
    depth = 0
    for line in lines:
        if depth:
            joined[-1] += line.strip() + (" " if line.endswith(",") else "")
        else:
            joined.append(line)
        depth += line.rstrip(",").endswith("[") - line.strip().startswith("]")
    return "\n".join(joined) + "\n"


def _resolved(kind: str, **keys: Any) -> Keys:
    """All keys of a config of this kind that are its own, those of all kinds left out."""
    import transformers

    config = transformers.CONFIG_MAPPING[kind](**keys)
    content: Keys = json.loads(config.to_json_string(use_diff=False))
    common = json.loads(transformers.PreTrainedConfig().to_json_string(use_diff=False))
    return _flat({key: value for key, value in content.items() if key not in common})


def _flat(content: Keys) -> Keys:
    """The config with the bases of rotary positions under the keys that stand outside of `rope_parameters`."""
    rope = content.pop("rope_parameters", None) or {}
    kinds = {_LAYERS_ROPE[kind]: rope[kind] for kind in _LAYERS_ROPE if kind in rope} or {"rope_theta": rope}
    return content | {key: one["rope_theta"] for key, one in kinds.items() if "rope_theta" in one}


def _section_keys(kind: str) -> list[str]:
    import transformers

    return sorted(transformers.CONFIG_MAPPING[kind].sub_configs)


def _values(kind: str, derived: Mapping[str, list[str]]) -> Keys:
    """The default of each key but sections; null where it is null or follows from other keys."""
    sections = _section_keys(kind)
    return {key: None if key in derived else value for key, value in _resolved(kind).items() if key not in sections}


def _derived(kind: str) -> Iterator[tuple[str, list[str]]]:
    """Keys whose value follows from those of other keys, with these."""
    plain = _resolved(kind)
    sources: dict[str, list[str]] = {}
    for key, value in plain.items():
        if not isinstance(value, int):
            continue
        try:
            changed = _resolved(kind, **{key: not value if isinstance(value, bool) else 2 * value or 1})
        except Exception:
            # Its checks of one key against another have no type of their own.
            continue
        for other in plain:
            if other != key and changed.get(other) != plain[other]:
                sources.setdefault(other, []).append(key)
    yield from sorted(sources.items())


def _sections(kind: str) -> Iterator[tuple[str, Keys]]:
    """What a section is if it is left out, and if it has no key: where that differs from one of its own kind."""
    for key in _section_keys(kind):
        absent = _difference(_resolved(kind)[key])
        try:
            empty = _difference(_resolved(kind, **{key: {}})[key])
        except Exception:
            # Omni demands a key of its vision_config.
            assert absent is not None, f"{kind}: what {key} is is known of nothing"
            empty = {_MODEL_TYPE: absent[_MODEL_TYPE]}
        yield key, {"absent": absent, "empty": empty}


def _difference(section: Keys | None) -> Keys | None:
    if section is None:
        return None
    kind, content = section[_MODEL_TYPE], _flat(dict(section))
    plain = _resolved(kind)
    return {_MODEL_TYPE: kind, **{key: value for key, value in content.items() if key in plain and plain[key] != value}}


def _processor(kind: str) -> Keys:
    """All keys of a processor whose file says nothing."""
    import transformers

    content: Keys = json.loads(getattr(transformers, kind)().to_json_string())
    return {key: value for key, value in content.items() if key not in ("mel_filters", "window")}


def main() -> None:
    """Write the file."""
    DEFAULTS_FILE.write_text(written(table()), encoding="utf-8")
    sys.stdout.write(f"{DEFAULTS_FILE}\n")


if __name__ == "__main__":
    main()
