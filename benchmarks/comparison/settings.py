"""What is compared: settings as they are written on the command line, and the configs of ours that they stand for."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config

from .stick import IMAGE_TOKENS, SAMPLES, TINY, W

PATCH = 16
"""Side of a patch in pixels."""

EXTRA_SAMPLES = 36
"""The global batch of layouts whose language lanes do not divide the baseline's 32."""

FSDP2 = "fsdp2"

ALIASES = {
    "group": ("schedule.encoder_group",),
    "encoder": ("schedule.encoder",),
    "buffer": ("schedule.buffer",),
    "schedule": ("schedule.kind",),
    "balance": ("data.balance",),
    "compile": ("training.compile",),
    "overlap": ("training.tp_overlap",),
    "reshard": ("modules.vision.layout.reshard", "modules.language.layout.reshard"),
}
"""Short names of config keys."""

LAYOUTS = ("colocated", "tp4", "tp2", "tp4tp4", "disjoint13", "disjoint22", "disjoint22tp")


class SettingError(ValueError):
    """A setting that cannot be read or does not fit the workload."""


@dataclass(frozen=True, slots=True)
class Workload:
    """`main`: one image a sample. `varied`: 0 to 8 images a sample, 4 on average, of `merge` patches a row."""

    kind: str
    merge: int = 1

    @property
    def kinds(self) -> tuple[str, ...]:
        """The settings that it can be run in."""
        if self.kind == "main":
            return (*LAYOUTS, FSDP2)
        return ("fixed", "varied", f"{FSDP2}-fixed", f"{FSDP2}-varied")

    @property
    def rows(self) -> int:
        """Rows of the language sequence that an image fills."""
        return W.image_tokens if self.kind == "main" else IMAGE_TOKENS

    @property
    def patches(self) -> int:
        """Patches of an image, a square number."""
        return self.rows * self.merge

    @property
    def side(self) -> int:
        """Side of an image in pixels."""
        return math.isqrt(self.patches) * PATCH

    @property
    def images(self) -> int:
        """Images of a sample, on average."""
        return 1 if self.kind == "main" else 4

    def flops(self, samples: int) -> float:
        """Model FLOPs of a step, by the baseline's own count."""
        return samples * (W.llm_flops() + self.images * W.image_flops(self.patches, self.merge))

    def text_tokens(self, samples: int) -> int:
        """Tokens with a loss in a step."""
        return samples * (W.seq - self.images * self.rows)


@dataclass(frozen=True, slots=True)
class Setting:
    """`kind:micro_batch,key=value,...` as it was written; `micro_batch` are samples of a lane at once."""

    name: str
    kind: str
    micro_batch: int
    options: tuple[tuple[str, str], ...] = ()

    @property
    def is_baseline(self) -> bool:
        """Whether FSDP2 runs it."""
        return self.kind.startswith(FSDP2)

    @property
    def is_varied(self) -> bool:
        """Whether samples have different numbers of images."""
        return self.kind.endswith("varied")

    def option(self, key: str, default: str) -> str:
        """What was written for a key."""
        return dict(self.options).get(key, default)


def parse_settings(text: str, workload: Workload) -> list[Setting]:
    """Read `colocated:8,group=2,encoder=first,fsdp2:8`: a piece with `=` belongs to the setting before it."""
    written: list[list[str]] = []
    for piece in re.split(r",(?![^\[]*\])", text):
        if "=" not in piece:
            written.append([piece])
        elif written:
            written[-1].append(piece)
        else:
            raise SettingError(f"--settings: got {piece!r} first, expected a setting that it belongs to")
    settings = [_parse(pieces, workload) for pieces in written]
    names = [setting.name for setting in settings]
    if len(set(names)) < len(names):
        raise SettingError(f"--settings: got {text}, expected each setting once")
    return settings


def _parse(pieces: list[str], workload: Workload) -> Setting:
    kind, _colon, size = pieces[0].partition(":")
    if kind not in workload.kinds:
        raise SettingError(
            f"--settings: got {kind!r} with workload {workload.kind}, expected one of {', '.join(workload.kinds)}"
        )
    options = tuple((key, value) for key, _equals, value in (piece.partition("=") for piece in pieces[1:]))
    known = ("reshard",) if kind.startswith(FSDP2) else (*ALIASES, "layout", "samples")
    for key, _value in options:
        if key not in known and (kind.startswith(FSDP2) or "." not in key):
            raise SettingError(f"--settings: {pieces[0]}: got {key!r}, expected {', '.join(known)} or a config key")
    default = "1" if kind.startswith(f"{FSDP2}-") else "4"
    if not (size or default).isdecimal():
        raise SettingError(f"--settings: {pieces[0]}: got {size!r}, expected samples of a micro-batch")
    return Setting(",".join(pieces), kind, int(size or default), options)


@dataclass(frozen=True, slots=True)
class Cut:
    """How ours cuts a step: language lanes, samples, and microbatches."""

    samples: int
    lanes: int
    microbatches: int


def check_baseline(setting: Setting, world: int) -> None:
    """Refuse micro-batches that the baseline's scripts do not make."""
    each, micro = SAMPLES // world, setting.micro_batch
    expected = "1" if setting.kind != FSDP2 else f"a divisor of a rank's {each} samples"
    if micro < 1 or each % micro or (setting.kind != FSDP2 and micro > 1):
        raise SettingError(f"--settings: {setting.name}: got micro-batch {micro}, expected {expected}")


def config_of(setting: Setting, workload: Workload, world: int, overrides: Sequence[str]) -> tuple[Config, Cut]:
    """The config of a setting of ours, under `overrides` and then its own options, and how it cuts a step."""
    layout = setting.option("layout", "colocated") if workload.kind == "varied" else setting.kind
    vision, language = _layouts(layout, world)
    lanes = len(language["ranks"]) // language.get("tp", 1)
    cut = _cut(setting, workload, lanes)
    optimizer = {"lr": 1.0e-4, "betas": [0.9, 0.95], "weight_decay": 0.1, "no_decay": []}
    constant = {"kind": "constant"}
    data = {
        "schema": 1,
        "run": {"dir": "runs/vlm", "device": "cpu" if TINY else "cuda"},
        "world": {"size": world},
        "modules": {
            "vision": {
                "model": {
                    "kind": "vit", "layers": W.vis_layers, "hidden": W.vis_dim, "heads": W.vis_heads,
                    "ffn": W.vis_ffn, "norm_eps": 1.0e-5, "activation": "gelu_tanh", "patch": PATCH, "positions": 0,
                    "image": {"max_patches": workload.patches},
                    "merge": round(workload.merge**0.5),
                    "projector": {"kind": "mlp", "hidden": W.proj_hidden, "activation": "gelu_tanh"},
                },
                "layout": vision, "optimizer": optimizer,
            },
            "language": {
                "model": {
                    "kind": "decoder", "pattern": "*-" * W.layers, "hidden": W.dim, "heads": W.heads,
                    "kv_heads": W.kv_heads, "head_dim": W.head_dim, "ffn": W.ffn, "activation": "swiglu",
                    "rope_theta": 500000.0, "norm_eps": 1.0e-5, "vocab": W.vocab, "tied": False,
                },
                "layout": language, "optimizer": optimizer,
            },
        },
        "edges": [{"source": "vision", "target": "language"}],
        "schedule": {"microbatches": cut.microbatches},
        "data": {
            # What stands here is only checked against the modules: documents are drawn as the baseline's are.
            "train": [{"synthetic": {
                "documents": cut.samples,
                "text_tokens": {**constant, "value": W.seq - workload.images * workload.rows},
                "images_per_document": {**constant, "value": workload.images},
                "image_height": {**constant, "value": workload.side},
                "image_width": {**constant, "value": workload.side},
            }}],
            "sequence_tokens": W.seq, "packing": False,
        },
        "training": {
            "steps": 1000000, "global_batch_samples": cut.samples, "clip_norm": 1.0,
            "precision": {"parameters": "float32", "compute": "bfloat16", "reduce": "float32"},
        },
    }  # fmt: skip
    return load_config(data, [*overrides, *_overrides(setting)]), cut


def _layouts(name: str, world: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Vision and language, named for four ranks; on fewer, in a dry run, degrees shrink."""
    everyone = list(range(world))
    few, half = max(1, world // 4), world // 2
    both = {"ranks": everyone}
    tp4, tp2 = {**both, "tp": min(4, world)}, {**both, "tp": min(2, world)}
    first, second = {"ranks": everyone[:half]}, {"ranks": everyone[half:]}
    layouts: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "colocated": (both, both),
        "tp4": (both, tp4),
        "tp2": (both, tp2),
        "tp4tp4": (tp4, tp4),
        "disjoint13": ({"ranks": everyone[:few]}, {"ranks": everyone[few:]}),
        "disjoint22": (first, second),
        "disjoint22tp": (first, {**second, "tp": world - half}),
    }
    if name not in layouts:
        raise SettingError(f"--settings: got layout={name}, expected one of {', '.join(layouts)}")
    return layouts[name]


def _cut(setting: Setting, workload: Workload, lanes: int) -> Cut:
    default = SAMPLES if SAMPLES % lanes == 0 else EXTRA_SAMPLES
    samples = int(setting.option("samples", str(default)))
    microbatches, left = divmod(samples, max(lanes * setting.micro_batch, 1))
    if left or not setting.micro_batch or not microbatches:
        raise SettingError(
            f"--settings: {setting.name}: got {samples} samples on {lanes} language lanes, expected a multiple of "
            f"lanes x {setting.micro_batch}; choose another micro-batch or samples=N"
        )
    if workload.kind == "varied" and samples != SAMPLES:
        raise SettingError(
            f"--settings: {setting.name}: got {samples} samples, expected {SAMPLES}, as images are drawn"
        )
    return Cut(samples, lanes, microbatches)


def _overrides(setting: Setting) -> list[str]:
    pairs = [(key, value) for key, value in setting.options if key not in ("layout", "samples")]
    return [f"{path}={value}" for key, value in pairs for path in ALIASES.get(key, (key,))]


def counts_of(setting: Setting, workload: Workload, draws: Sequence[Sequence[int]], samples: int) -> list[list[int]]:
    """Images of each sample of each step that differs."""
    if setting.is_varied:
        return [list(draw) for draw in draws]
    return [[workload.images] * samples]
