"""All configs of which a golden is made, by name, and the same in one process."""

import importlib.util
import json
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

from counterpoint.config.load import load_config as load_config
from counterpoint.config.schema import Config as Config
from tests.parity import brought, encoders, further, layouts, speech, steps
from tests.parity import test_conformer as conformer
from tests.parity import test_given_features as given
from tests.parity import test_scored_rows as scored

ROOT = Path(__file__).parents[2]
YAML = ("examples", "recipes", "recipes/tiny", "tests/parity")
SCRIPTS = ("custom_encoder", "transformers_encoder")
"""Examples that register an encoder where they are imported."""

_SMALL_VIT = {"layers": 2, "hidden": 64, "heads": 4, "ffn": 128, "projector": {"kind": "mlp", "hidden": 64}}
_SMALL_MOE = {"experts": 4, "top_k": 2, "ffn": 16, "shared_ffn": 32, "router": "sigmoid", "scale": 2.5,
              "bias_rate": 1e-3, "balance": 1e-4}  # fmt: skip
SHRUNK: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "examples/pair_1b": {
        "vision": _SMALL_VIT,
        "language": {
            "pattern": "*-*-", "hidden": 64, "heads": 4, "kv_heads": 2, "head_dim": 16, "ffn": 96, "vocab": 97,
        },
    },
    "examples/hybrid_3b": {
        "vision": _SMALL_VIT,
        "language": {
            "pattern": "MEM*E", "hidden": 64, "heads": 4, "kv_heads": 2, "head_dim": 16, "vocab": 97, "moe": _SMALL_MOE,
            "mamba": {"heads": 8, "head_dim": 8, "groups": 2, "state": 8},
        },
    },
    "examples/emoji_smollm2": {"language": {"pattern": "*-*-"}},
}  # fmt: skip
"""Models of more than 50M parameters and the sizes of their twins; recipes have theirs in `recipes/tiny`."""

_SMALL_IMAGES = {
    "text_tokens": {"kind": "uniform", "low": 4, "high": 24},
    "image_height": {"kind": "uniform", "low": 28, "high": 84},
    "image_width": {"kind": "uniform", "low": 28, "high": 84},
}  # fmt: skip

LONG = (
    "layouts/dp2_to_tp2", "hybrids/tp2_dp2_to_tp2_dp2_ep4", "further/tp2", "speech/dp2_to_tp2", "conformer/tp2",
    "tests/parity/towers", "tests/parity/given", "encoders/qwen3_vl-tp2_pp2_to_dp2", "brought/test_vit-dp2",
    "recipes/tiny/nemotron6-moe-vlm-20l",
)  # fmt: skip
"""The models that take 20 steps: unlike each other; all others take 3."""


def shipped() -> dict[str, Config]:
    """Every config as it ships: files of YAML, scripts, and the named layouts of the tests of parity."""
    found = {
        f"{folder}/{path.stem}": load_config(path) for folder in YAML for path in sorted((ROOT / folder).glob("*.yaml"))
    }
    found |= {f"examples/{name}": load_config(_script(name)) for name in SCRIPTS}
    return found | dict(_named())


def _script(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"golden_{name}", ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.CONFIG


def _named() -> Iterator[tuple[str, Config]]:
    tables = (
        ("layouts", layouts.LAYOUTS, layouts.named_config),
        ("hybrids", layouts.HYBRIDS, layouts.hybrid_config),
        ("steps", steps.STEPS, steps.step_config),
        ("hybrid_steps", steps.HYBRID_STEPS, steps.hybrid_step_config),
        ("further", further.FURTHER, further.further_config),
        ("further_hybrids", further.FURTHER_HYBRIDS, further.further_hybrid_config),
        ("speech", speech.SPEECHES, speech.speech_config),
        ("conformer", conformer.CHANGES, conformer.conformer_config),
        ("given", given.LAYOUTS, lambda name: given.given_config(**given.LAYOUTS[name])),
        ("scored", scored.CASES, lambda name: layouts.override(load_config(layouts.TINY), scored.CASES[name])),
    )
    for kind, table, config_of in tables:
        for name in table:
            yield f"{kind}/{name}", config_of(name)
    for tower, layout in product(encoders.TOWERS, encoders.LAYOUTS):
        yield f"encoders/{tower}-{layout}", encoders.encoder_config(tower, layout)
    for model, layout in product(brought.MODELS, brought.LAYOUTS):
        yield f"brought/{model}-{layout}", brought.brought_config(model, layout)
    for layout in brought.TENSOR_LAYOUTS:
        yield f"brought/test_vit-{layout}", brought.brought_config("test_vit", layout)
    yield "brought/sparse", brought.brought_config("test_vit", "dp2", sparse=True)
    yield "language_only", layouts.language_only({"ranks": [0, 1, 2, 3], "tp": 2, "pp": 2}, 4)


def alone(name: str, config: Config) -> Config:
    """The config of one process: every module whole on rank 0, in float64, shrunk if it is large."""
    data = config.resolved()
    data["world"] = {"size": 1}
    data["run"] |= {"device": "cpu", "deterministic": False}
    data["training"] |= {"compile": False, "steps": max(20, config.training.steps)}
    data["training"]["precision"] = dict.fromkeys(("parameters", "compute", "reduce"), "float64")
    for module, section in data["modules"].items():
        section["layout"], section["init_from"] = {"ranks": [0]}, None
        section["model"] |= SHRUNK.get(name, {}).get(module, {})
    if data["schedule"]["kind"] == "interleaved":
        data["schedule"]["kind"] = "1f1b"
    if name in ("examples/pair_1b", "examples/hybrid_3b"):
        data["training"]["global_batch_samples"] = 4
        data["data"]["train"][0]["synthetic"] |= _SMALL_IMAGES
    return load_config(data)


def in_one_process(configs: Mapping[str, Config]) -> dict[str, tuple[Config, list[str]]]:
    """What is trained, each once, by the first name it has, and all of its names; large recipes have twins instead."""
    found: dict[str, tuple[Config, list[str]]] = {}
    first: dict[str, str] = {}
    for name in sorted(configs, key=lambda name: name not in LONG):
        if name.startswith("recipes/") and not name.startswith("recipes/tiny/"):
            continue
        config = alone(name, configs[name])
        key = json.dumps({**config.resolved(), "run": {"seed": config.run.seed}}, sort_keys=True)
        found.setdefault(first.setdefault(key, name), (config, []))[1].append(name)
    return found
