"""The layouts whose steps are predicted and measured: overrides of a few configs, by a name that says what differs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.config.yaml_text import parse_yaml

ROOT = Path(__file__).parents[2]

Suite = Literal["tiny", "tiny4", "pair", "hybrid", "pair1", "hybrid1"]


@dataclass(frozen=True, slots=True)
class Layout:
    """A layout of a suite: the keys that it sets, with `{all}`, `{first}` and `{last}` for lists of ranks."""

    name: str
    suite: Suite
    keys: tuple[str, ...]
    ranks: int = 2


def _pair(vision: str, language: str, microbatches: int, *more: str) -> tuple[str, ...]:
    """Keys of two modules' layouts, each `ranks degree=n ...`."""
    found = [f"schedule.microbatches={microbatches}"]
    for module, words in (("vision", vision), ("language", language)):
        where, *degrees = words.split()
        found.append(f"modules.{module}.layout.ranks={{{where}}}")
        found += [f"modules.{module}.layout.{degree}" for degree in degrees]
    return (*found, *more)


TINY = (
    Layout("colocated dp, dp, 1 microbatch", "tiny", _pair("all", "all", 1)),
    Layout("colocated dp, dp, 4 microbatches", "tiny", _pair("all", "all", 4)),
    Layout("colocated dp, tp, 2", "tiny", _pair("all", "all tp=2", 2)),
    Layout("colocated tp, tp, 2", "tiny", _pair("all tp=2", "all tp=2", 2)),
    Layout("colocated dp, cp, 2", "tiny", _pair("all", "all cp=2", 2)),
    Layout("colocated dp, pp, 4, 1f1b", "tiny", _pair("all", "all pp=2", 4)),
    Layout("colocated dp, pp, 4, gpipe", "tiny", _pair("all", "all pp=2", 4, "schedule.kind=gpipe")),
    Layout("colocated pp, pp, 2", "tiny", _pair("all pp=2", "all pp=2", 2)),
    Layout("colocated dp, pp, 8, 1f1b", "tiny", _pair("all", "all pp=2", 8)),
    Layout("disjoint, 1 microbatch", "tiny", _pair("first", "last", 1)),
    Layout("disjoint, 4 microbatches", "tiny", _pair("first", "last", 4)),
    Layout("disjoint, 8 microbatches, gpipe", "tiny", _pair("first", "last", 8, "schedule.kind=gpipe")),
)
"""Twelve layouts of the tiny pair on two CPU ranks."""

TINY_ON_4 = (
    Layout("colocated dp4, dp4, 2", "tiny4", _pair("all", "all", 2), 4),
    Layout("colocated dp4, dp2 tp2, 2", "tiny4", _pair("all", "all tp=2", 2), 4),
    Layout("colocated dp2 tp2, dp2 tp2, 2", "tiny4", _pair("all tp=2", "all tp=2", 2), 4),
    Layout("colocated dp4, tp4, 2", "tiny4", _pair("all", "all tp=4", 2), 4),
    Layout("colocated dp4, dp2 cp2, 2", "tiny4", _pair("all", "all cp=2", 2), 4),
    Layout("colocated dp4, pp4, 4, 1f1b", "tiny4", _pair("all", "all pp=4", 4), 4),
    Layout("colocated dp4, pp4, 8, gpipe", "tiny4", _pair("all", "all pp=4", 8, "schedule.kind=gpipe"), 4),
    Layout("colocated dp4, dp2 pp2, 4", "tiny4", _pair("all", "all pp=2", 4), 4),
    Layout("disjoint dp2, dp2, 2", "tiny4", _pair("first", "last", 2), 4),
    Layout("disjoint dp2, tp2, 4", "tiny4", _pair("first", "last tp=2", 4), 4),
    Layout("disjoint dp2, pp2, 8", "tiny4", _pair("first", "last pp=2", 8), 4),
    Layout("disjoint dp2, pp2, 4, gpipe", "tiny4", _pair("first", "last pp=2", 4, "schedule.kind=gpipe"), 4),
)
"""Twelve layouts of the tiny pair on four CPU ranks."""

PAIR = (
    Layout("colocated dp, dp, 1 microbatch", "pair", _pair("all", "all", 1)),
    Layout("colocated dp, dp, 4 microbatches", "pair", _pair("all", "all", 4)),
    Layout("disjoint, 4 microbatches", "pair", _pair("first", "last", 4)),
    Layout("colocated dp, pp, 8, 1f1b", "pair", _pair("all", "all pp=2", 8)),
    Layout("colocated dp, pp, 8, filled", "pair", _pair("all", "all pp=2", 8, "schedule.kind=filled")),
    Layout("colocated dp, pp, 4, gpipe", "pair", _pair("all", "all pp=2", 4, "schedule.kind=gpipe")),
    Layout("colocated dp, dp, 2, reshard", "pair", _pair("all reshard=true", "all reshard=true", 2)),
    Layout(
        "colocated dp, dp, 1, recomputed", "pair",
        _pair("all", "all", 1, "modules.language.recompute=full", "modules.vision.recompute=full"),
    ),
    Layout("colocated dp, tp, 2", "pair", _pair("all", "all tp=2", 2)),
    Layout("colocated tp, tp, 2", "pair", _pair("all tp=2", "all tp=2", 2)),
    Layout("colocated dp, cp, 2", "pair", _pair("all", "all cp=2", 2)),
)  # fmt: skip
"""Layouts of examples/pair_1b.yaml on two GPUs."""


def _hybrid(language: str, *more: str) -> tuple[str, ...]:
    return ("modules.vision.layout.ranks={all}", "modules.language.layout.ranks={all}", *language.split(), *more)


HYBRID = (
    Layout("ep2", "hybrid", _hybrid("modules.language.layout.expert.ep=2")),
    Layout("ep2, 2 microbatches", "hybrid", _hybrid("modules.language.layout.expert.ep=2", "schedule.microbatches=2")),
    Layout("experts sharded by FSDP", "hybrid", _hybrid("modules.language.layout.expert.ep=1")),
    Layout(
        "ep2, recomputed", "hybrid",
        _hybrid("modules.language.layout.expert.ep=2", "modules.language.recompute=full"),
    ),
    Layout("tp2, ep2", "hybrid", _hybrid("modules.language.layout.tp=2 modules.language.layout.expert.ep=2")),
)  # fmt: skip
"""Layouts of the 20-layer hybrid with 16 experts on two GPUs."""


def _on_one(suite: Suite, *settings: tuple[str, str]) -> tuple[Layout, ...]:
    """Layouts on one rank, each with a name and the keys that it sets, `recompute` and the like of both modules."""
    places = ("modules.vision.layout.ranks={all}", "modules.language.layout.ranks={all}")
    return tuple(Layout(name, suite, (*places, *_of_both(keys.split())), 1) for name, keys in settings)


def _of_both(keys: Sequence[str]) -> Iterator[str]:
    """The keys, in which `both.KEY` stands for that key of either module."""
    for key in keys:
        if key.startswith("both."):
            yield from (f"modules.{module}.{key.removeprefix('both.')}" for module in ("vision", "language"))
        else:
            yield key


PAIR_ON_1 = _on_one(
    "pair1",
    ("1 microbatch", "schedule.microbatches=1"),
    ("2 microbatches", "schedule.microbatches=2"),
    ("4 microbatches", "schedule.microbatches=4"),
    ("8 microbatches", "schedule.microbatches=8"),
    ("4, gpipe", "schedule.microbatches=4 schedule.kind=gpipe"),
    ("1, recomputed", "schedule.microbatches=1 both.recompute=full"),
    ("1, recomputed but attention", "schedule.microbatches=1 both.recompute=full both.recompute_keeps=[attention]"),
    ("2, language recomputed", "schedule.microbatches=2 modules.language.recompute=full"),
    ("2, tower recomputed", "schedule.microbatches=2 modules.vision.recompute=full"),
    ("2, language offloaded", "schedule.microbatches=2 modules.language.offload=true"),
)
"""Layouts of examples/pair_1b.yaml on one GPU."""

HYBRID_ON_1 = _on_one(
    "hybrid1",
    ("1 microbatch", "schedule.microbatches=1"),
    ("2 microbatches", "schedule.microbatches=2"),
    ("4 microbatches", "schedule.microbatches=4"),
    ("1, language recomputed", "schedule.microbatches=1 modules.language.recompute=full"),
    ("1, recomputed but attention", "schedule.microbatches=1 both.recompute=full both.recompute_keeps=[attention]"),
    ("1, cheap parts recomputed", "schedule.microbatches=1 modules.language.recompute=[norms,activations,convs]"),
    ("2, tower recomputed", "schedule.microbatches=2 modules.vision.recompute=full"),
    ("2, language offloaded", "schedule.microbatches=2 modules.language.offload=true"),
)
"""Layouts of the 20-layer hybrid with 16 experts on one GPU."""

SUITES: dict[Suite, tuple[Layout, ...]] = {
    "tiny": TINY, "tiny4": TINY_ON_4, "pair": PAIR, "hybrid": HYBRID, "pair1": PAIR_ON_1, "hybrid1": HYBRID_ON_1,
}  # fmt: skip

ON_CPU: tuple[Suite, ...] = ("tiny", "tiny4")
"""Suites of CPU ranks, wherever they run."""


def config_of(layout: Layout, overrides: Sequence[str], *, small: bool = False) -> Config:
    """The config of a layout; raises ConfigError. `small` models are for a dry run on a CPU."""
    data = _BASES[layout.suite](small)
    everyone = list(range(layout.ranks))
    half = max(1, layout.ranks // 2)
    places = {"all": everyone, "first": everyone[:half], "last": everyone[half:]}
    keys = [key.format(**{name: str(ranks).replace(" ", "") for name, ranks in places.items()}) for key in layout.keys]
    return load_config(data, [f"world.size={layout.ranks}", *keys, *overrides])


def _constant(value: int) -> dict[str, Any]:
    return {"kind": "constant", "value": value}


def _documents(text: int, side: int) -> list[Any]:
    """Documents of one length, so that nothing is compiled for others: text, and one square image."""
    return [
        {"synthetic": {
            "documents": 4096, "text_tokens": _constant(text), "images_per_document": _constant(1),
            "image_height": _constant(side), "image_width": _constant(side),
        }}
    ]  # fmt: skip


def _tiny(_small: bool) -> dict[str, Any]:
    """The pair of the synthetic examples, a little wider: a tenth of a second of products in a step of two ranks."""
    data = _read("examples/synthetic_disjoint.yaml")
    data["modules"]["vision"]["model"] |= {"layers": 2, "hidden": 128, "ffn": 512}
    data["modules"]["language"]["model"] |= {"pattern": "*-*-*-*-", "hidden": 128, "ffn": 512, "vocab": 512}
    for module in data["modules"].values():
        module["layout"] = {}
    data["data"] |= {"train": _documents(64, 112), "sequence_tokens": 128}
    data["training"] = {"steps": 1000, "global_batch_samples": 16}
    return data


def _pair_1b(small: bool) -> dict[str, Any]:
    data = _read("examples/pair_1b.yaml")
    for module in data["modules"].values():
        module["layout"] = {}
    data["training"] |= {"steps": 1000, "global_batch_samples": 16}
    return _shrunk(data) if small else data


def _hybrid_20l(small: bool) -> dict[str, Any]:
    data = _read("recipes/nemotron6-moe-vlm-20l.yaml")
    for module in data["modules"].values():
        module |= {"layout": {}, "recompute": "none", "recompute_keeps": []}
    data["modules"]["language"]["model"]["moe"]["experts"] = 16
    side = {"kind": "uniform", "low": 768, "high": 1024}
    data["data"]["train"][0]["synthetic"] |= {
        "text_tokens": {"kind": "uniform", "low": 2400, "high": 3072}, "images_per_document": _constant(1),
        "image_height": side, "image_width": side,
    }  # fmt: skip
    data["data"] |= {"sequence_tokens": 4096, "packing": False}
    data["training"] |= {"steps": 1000, "global_batch_samples": 4}
    return _shrunk(data) if small else data


_BASES = {
    "tiny": _tiny, "tiny4": _tiny, "pair": _pair_1b, "pair1": _pair_1b, "hybrid": _hybrid_20l, "hybrid1": _hybrid_20l,
}  # fmt: skip


def _read(path: str) -> dict[str, Any]:
    data = parse_yaml((ROOT / path).read_text())
    assert isinstance(data, dict), "a config is a mapping"
    return data | {"log": {"recorders": []}}


def _shrunk(data: dict[str, Any]) -> dict[str, Any]:
    """A few narrow layers and short documents."""
    vision, language = (data["modules"][name]["model"] for name in ("vision", "language"))
    vision |= {"layers": 2, "hidden": 64, "heads": 4, "ffn": 128, "positions": 8}
    language |= {
        "pattern": language["pattern"][:7],
        "hidden": 64,
        "heads": 4,
        "kv_heads": 2,
        "head_dim": 16,
        "vocab": 512,
    }
    if "ffn" in language:
        language["ffn"] = 128
    if "mamba" in language:
        language["mamba"] = {"heads": 4, "head_dim": 16, "groups": 2, "state": 16}
        language["moe"] |= {"experts": 4, "top_k": 2, "ffn": 32, "shared_ffn": 64}
    if "hidden" in vision["projector"]:
        vision["projector"]["hidden"] = 64
    data["data"] |= {"train": _documents(48, 8 * vision["patch"]), "sequence_tokens": 128}
    data["training"]["precision"] = {"parameters": "float32", "compute": "float32", "reduce": "float32"}
    data["run"]["device"] = "cpu"
    return data
