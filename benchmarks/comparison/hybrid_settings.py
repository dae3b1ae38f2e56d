"""What the hybrid's benchmark compares: settings as they are written, and the configs of ours that they stand for."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.config.yaml_text import parse_yaml

from .settings import SettingError
from .stick import FULL, SMALL, TINY, Sizes

RECIPE = Path(__file__).parents[2] / "recipes" / "nemotron6-moe-vlm-20l.yaml"

SEQUENCE = 64 if TINY else 8192
"""Rows of a sequence."""

OURS, PEER = "ours", "peer"

FLAGS = {
    "eager": ("training.compile", "false"),
}
"""Options without a value, and the config key and value of ours that they stand for."""

ALIASES = {
    "experts": ("modules.language.model.moe.experts",),
    "chunk": ("modules.language.model.mamba.chunk",),
    "recompute": ("modules.language.recompute",),
    "compile": ("training.compile",),
    "reshard": ("modules.language.layout.reshard",),
    "balance": ("data.balance",),
}
"""Short names of config keys."""

_SHAPE = ("sequences", "ep", "vision", "packed", "balanced")
"""Options that shape the workload or the layout, not keys of the config."""

_OF_PEER = ("experts", "sequences", "ep", "reshard", "balanced", "eager", "chunk", "attention")

Kind = Literal["lm", "vlm"]


@dataclass(frozen=True, slots=True)
class HybridSetting:
    """`ours` or `peer` with options, as it was written; a flag has the value `true`."""

    name: str
    kind: str
    options: tuple[tuple[str, str], ...] = ()

    @property
    def is_peer(self) -> bool:
        """Whether plain FSDP2 runs it."""
        return self.kind == PEER

    def option(self, key: str, default: str) -> str:
        """What was written for a key."""
        return dict(self.options).get(key, default)

    def number(self, key: str, default: int) -> int:
        """The same as a positive number."""
        text = self.option(key, str(default))
        if not text.isdecimal() or text == "0":
            raise SettingError(f"--settings: {self.name}: got {key}={text}, expected a number from 1 on")
        return int(text)

    def has(self, flag: str) -> bool:
        """Whether a flag is set."""
        return self.option(flag, "false") == "true"


def parse_hybrid_settings(text: str, kind: Kind) -> list[HybridSetting]:
    """Read `ours,experts=32,balanced,peer`: what is neither `ours` nor `peer` belongs to the setting before it."""
    written: list[list[str]] = []
    for piece in re.split(r",(?![^\[]*\])", text):
        if piece in (OURS, PEER):
            written.append([piece])
        elif not written:
            raise SettingError(f"--settings: got {piece!r} first, expected {OURS} or {PEER}")
        else:
            written[-1].append(piece)
    settings = [_parse(pieces, kind) for pieces in written]
    names = [setting.name for setting in settings]
    if len(set(names)) < len(names):
        raise SettingError(f"--settings: got {text}, expected each setting once")
    return settings


def _parse(pieces: Sequence[str], workload: Kind) -> HybridSetting:
    kind, *rest = pieces
    pairs = tuple((key, value if equals else "true") for key, equals, value in (piece.partition("=") for piece in rest))
    known = _OF_PEER if kind == PEER else (*FLAGS, *ALIASES, *_SHAPE)
    for key, _value in pairs:
        if key not in known and (kind == PEER or "." not in key):
            extra = "" if kind == PEER else " or a config key"
            raise SettingError(f"--settings: {kind}: got {key!r}, expected one of {', '.join(known)}{extra}")
    if kind == PEER and workload == "vlm":
        raise SettingError("--settings: got peer with the workload vlm, expected ours: the peer is a language model")
    return HybridSetting(",".join(pieces), kind, pairs)


@dataclass(frozen=True, slots=True)
class HybridCut:
    """How a step is cut: language lanes, and sequences of a lane in the step's one microbatch."""

    lanes: int
    sequences: int

    @property
    def total(self) -> int:
        """Sequences of a step."""
        return self.lanes * self.sequences


def cut_of(setting: HybridSetting, kind: Kind, world: int) -> HybridCut:
    """The lanes are the ranks of the language module; a lane of the VLM takes two sequences unless a setting says."""
    away = setting.number("vision", 1) if setting.option("vision", "") else 0
    if away >= world:
        raise SettingError(
            f"--settings: {setting.name}: got {away} ranks of vision alone among {world}, expected fewer"
        )
    return HybridCut(world - away, setting.number("sequences", 2 if kind == "vlm" else 1))


def hybrid_config(
    setting: HybridSetting, kind: Kind, world: int, overrides: Sequence[str], experts: int
) -> tuple[Config, HybridCut]:
    """The config of a setting of ours, and how it cuts a step: the recipe's models, under `overrides` and its own
    options; raises ConfigError or SettingError."""
    cut = cut_of(setting, kind, world)
    data = parse_yaml(RECIPE.read_text())
    assert isinstance(data, dict), "a recipe is a mapping"
    language = data["modules"]["language"]
    if TINY:
        _shrink(data)
    language["model"]["moe"]["experts"] = setting.number("experts", experts)
    everyone = list(range(world))
    own = everyone[world - cut.lanes :]
    # Every rank has its share of the experts, unless their number does not allow it.
    language["layout"] = {"ranks": own, "expert": {"ep": setting.number("ep", len(own))}}
    data |= {"run": {"dir": "runs/hybrid", "device": "cpu" if TINY else "cuda"}, "world": {"size": world}}
    data["data"]["sequence_tokens"] = SEQUENCE
    data["training"] |= {"steps": 1_000_000, "global_batch_samples": cut.total, "compile": not TINY}
    if kind == "vlm":
        data["modules"]["vision"]["layout"] = {"ranks": everyone[: world - cut.lanes] or everyone}
        data["data"]["train"][0]["synthetic"]["documents"] = 10_000_000
    else:
        del data["modules"]["vision"]
        data["edges"] = []
        language["recompute"] = "none"
        language["recompute_keeps"] = []
        text = {"documents": cut.total, "text_tokens": {"kind": "constant", "value": SEQUENCE}}
        data["data"]["train"] = [{"synthetic": text}]
    return load_config(data, [*overrides, *_overrides(setting)]), cut


def counted_config(config: Config, chunk: int) -> Config:
    """The same config with the scan's chunks as FLOPs are counted."""
    return load_config(config, [f"modules.language.model.mamba.chunk={chunk}"])


def _overrides(setting: HybridSetting) -> list[str]:
    found = []
    for key, value in setting.options:
        if key in FLAGS:
            path, set_to = FLAGS[key]
            found.append(f"{path}={set_to if value == 'true' else value}")
        elif key not in (*_SHAPE, "experts"):
            found += [f"{path}={value}" for path in ALIASES.get(key, (key,))]
    return found


def _shrink(data: dict[str, Any]) -> None:
    """The recipe's models, so small that a dry run on a CPU takes seconds."""
    data["modules"]["language"]["model"] |= {
        "pattern": SMALL.pattern, "hidden": SMALL.hidden, "vocab": SMALL.vocab, "heads": SMALL.heads,
        "kv_heads": SMALL.kv_heads, "head_dim": SMALL.head_dim,
        "mamba": {"heads": SMALL.mamba_heads, "head_dim": SMALL.mamba_head_dim, "groups": SMALL.groups,
                  "state": SMALL.state, "conv": SMALL.conv, "chunk": SMALL.chunk},
    }  # fmt: skip
    data["modules"]["language"]["model"]["moe"] |= {
        "experts": SMALL.experts, "top_k": SMALL.top_k, "ffn": SMALL.ffn, "shared_ffn": SMALL.shared_ffn,
    }  # fmt: skip
    vision = data["modules"]["vision"]["model"]
    vision |= {"layers": 2, "hidden": 32, "heads": 2, "ffn": 64, "positions": 4, "prefix": 2}
    vision["image"]["max_patches"] = 64
    data["data"]["train"][0]["synthetic"] |= {
        "text_tokens": {"kind": "uniform", "low": 8, "high": 24},
        "image_height": {"kind": "uniform", "low": 32, "high": 128},
        "image_width": {"kind": "uniform", "low": 32, "high": 128},
    }


def sizes_of(model: Any) -> Sizes:
    """The peer's sizes of a decoder's section of ours."""
    mamba, moe = model.mamba, model.moe
    return Sizes(
        pattern=model.pattern, hidden=model.hidden, vocab=model.vocab, heads=model.heads,
        kv_heads=model.num_kv_heads, head_dim=model.head_size, mamba_heads=mamba.heads, mamba_head_dim=mamba.head_dim,
        groups=mamba.groups, state=mamba.state, conv=mamba.conv, chunk=min(FULL.chunk, SEQUENCE), experts=moe.experts,
        top_k=moe.top_k, ffn=moe.ffn, shared_ffn=moe.shared_ffn, scale=moe.scale, balance=moe.balance,
        bias_rate=moe.bias_rate, eps=model.norm_eps,
    )  # fmt: skip


def peer_sizes(setting: HybridSetting, config: Config) -> Sizes:
    """The peer's sizes in a setting of its own, of the model of `config`."""
    sizes = sizes_of(config.modules["language"].model)
    return replace(sizes, chunk=setting.number("chunk", sizes.chunk))


def check_peer_parameters(ours: int, peer: int) -> None:
    """Raise ValueError unless both models have as many parameters."""
    if ours != peer:
        raise ValueError(f"parameters: got {ours} in ours, expected {peer}, the peer's")
