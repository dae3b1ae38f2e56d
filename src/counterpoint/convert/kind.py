"""The `model_type` of a config.json, as transformers calls it, also where the file has another name for it or none."""

from collections.abc import Mapping
from typing import Any

_OTHER_NAMES: Mapping[str, str] = {"NemotronH_Nano_Omni_Reasoning_V3": "nemotron_h_omni"}
"""Of programs that lie beside published weights."""

_WITHOUT_NAME: Mapping[str, str] = {"RADIOModel": "radio"}
"""By the class of such a program, where its config has no `model_type`."""


def kind_of_config(config: Mapping[str, Any]) -> str | None:
    """The kind of model that a config.json describes, None if it does not say."""
    stated = config.get("model_type")
    if not stated:
        classes = config.get("architectures")
        names = classes if isinstance(classes, list) else []
        return next((_WITHOUT_NAME[name] for name in names if isinstance(name, str) and name in _WITHOUT_NAME), None)
    return _OTHER_NAMES.get(stated, stated) if isinstance(stated, str) else None
