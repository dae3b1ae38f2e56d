"""Whole training steps of a small pair in one process, against the plain reference of `verify` in float64."""

import math
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.data.corpus import Corpus
from counterpoint.data.feed.reader import Reader
from counterpoint.execute.groups import leave_world
from counterpoint.parallelize.fsdp import dtype_of
from counterpoint.setup.rank import settings_of
from counterpoint.setup.run import Setup, prepare_run
from counterpoint.train.engine import Engine
from counterpoint.train.parameters import LocalParameter
from counterpoint.verify.case import verify_task
from counterpoint.verify.command import as_verified
from counterpoint.verify.compare import Observation
from counterpoint.verify.member import Member
from counterpoint.verify.reference import Reference

from .rows import BF16_WEIGHTS, FLOAT64, Case, Row, Values, compare, left_out

LOSS, NORM, WORST = 2e-3, 1e-2, 6e-2
"""What bfloat16 compute reaches on these few layers (on a CPU 1e-5, 5e-4 and 2e-2), with room. Gradients of a module
are taken as one vector; the worst parameter is measured against at least a tenth of its module's root mean square,
since some are zero by mathematics."""

SHARE = 0.1


def rows(device: torch.device) -> Iterator[Row]:
    """One step in bfloat16, plain and compiled; then documents that are padded instead of packed."""
    with _member(device) as member:
        yield from compare(_narrow(member))


def verified(device: torch.device) -> Iterator[Row]:
    """`verify` of compiled training in float64."""
    with _member(device) as member:
        yield from compare(_wide(member))
    yield left_out("float64, compiled, several ranks", "verify CONFIG training.compile=true --random N does that")


def _narrow(member: Member) -> Iterator[Case]:
    known: dict[bool, Observation] = {}
    for is_packed in (True, False):
        for is_compiled in (False, True):

            def work(is_packed: bool = is_packed, is_compiled: bool = is_compiled) -> tuple[str, Values]:
                config = _config(member.world.device, compile=is_compiled, packing=is_packed, compute="bfloat16")
                setup = prepare_run(config)
                if is_packed not in known:
                    known[is_packed] = _reference(config, setup.corpus, member.world.device)
                loss, norm, gradients = _step(member, config, setup)
                return "", _values(loss, norm, gradients, known[is_packed])

            name = f"a step in bfloat16, {'compiled' if is_compiled else 'plain'}"
            yield name, "vision and language, " + ("packed" if is_packed else "one document each"), work


def _wide(member: Member) -> Iterator[Case]:
    def work() -> tuple[str, Values]:
        config = as_verified(
            _config(member.world.device, compile=True, packing=True, compute="float64", is_small=True), "float64"
        )
        result = verify_task(member, config)
        assert result is not None, "the only rank has the result"
        return "", {difference.kind: (difference.value, FLOAT64) for difference in result.differences}

    yield "two steps in float64, compiled", "vision and language, packed", work


@contextmanager
def _member(device: torch.device) -> Iterator[Member]:
    """A world of this process alone."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ.update(
        RANK="0",
        WORLD_SIZE="1",
        LOCAL_RANK=str(device.index or 0),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    member = Member.join(device.type)
    try:
        yield member
    finally:
        leave_world(member.world)


def _config(device: torch.device, *, compile: bool, packing: bool, compute: str, is_small: bool = False) -> Config:
    """A tower and a decoder on one rank, wide enough on a GPU for its own kernels."""
    is_small = is_small or device.type != "cuda"
    width, dim, low, high, images = (32, 8, 4, 40, 32) if is_small else (256, 64, 16, 700, 224)
    optimizer = {"lr": 1.0e-3, "weight_decay": 0.1}
    wide = "float32" if compute == "bfloat16" else compute
    precision = {"parameters": wide, "compute": compute, "reduce": wide}
    heads = width // dim
    vision = {
        "kind": "vit", "layers": 2, "hidden": width, "heads": heads, "ffn": 2 * width, "patch": 4, "positions": 5,
        "image": {"max_patches": 64 if is_small else 1024},
        "merge": 2, "projector": {"kind": "mlp", "hidden": width},
    }  # fmt: skip
    language = {
        "kind": "decoder", "pattern": "*-*-", "hidden": width, "heads": heads, "kv_heads": heads // 2, "head_dim": dim,
        "ffn": 2 * width, "vocab": 61 if is_small else 4096, "tied": True, "qk_norm": True,
    }  # fmt: skip
    synthetic = {
        "documents": 64,
        "text_tokens": {"kind": "uniform", "low": low, "high": high},
        "images_per_document": {"kind": "uniform", "low": 0, "high": 2},
        "image_height": {"kind": "uniform", "low": 8, "high": images},
        "image_width": {"kind": "uniform", "low": 8, "high": images},
    }
    return load_config(
        {
            "schema": 1,
            "run": {"dir": "runs/fast_paths", "seed": 1, "device": device.type},
            "world": {"size": 1},
            "modules": {
                "vision": {"model": vision, "layout": {"ranks": [0]}, "optimizer": optimizer},
                "language": {"model": language, "layout": {"ranks": [0]}, "optimizer": optimizer},
            },
            "edges": [{"source": "vision", "target": "language"}],
            "schedule": {"kind": "1f1b", "microbatches": 2},
            "data": {
                "train": [{"synthetic": synthetic}],
                "packing": packing,
                "sequence_tokens": 96 if is_small else 4096,
            },
            "training": {"steps": 10, "global_batch_samples": 8, "compile": compile, "precision": precision},
        }
    )


def _step(member: Member, config: Config, setup: Setup) -> tuple[float, float, dict[str, Tensor]]:
    """Loss, norm and gradients of the first step of training."""
    plan, models, corpus = setup
    engine = Engine(settings_of(config), plan, models, member.groups(plan), observers=(member.observe,))
    gradients: dict[str, Tensor] = {}

    def capture(parameters: Sequence[LocalParameter]) -> None:
        gradients.update({p.key: p.gradient.detach().double().cpu() for p in parameters})

    try:
        reader = Reader(plan, 0, corpus.sources, dtype_of(config.training.precision.compute))
        engine.inspect = capture
        result = engine.train_step(reader.read(plan.batch(0, corpus.packs(0))))
    finally:
        engine.close()
    return result.loss, result.norm, gradients


def _reference(config: Config, corpus: Corpus, device: torch.device) -> Observation:
    documents = [document for pack in corpus.packs(0) for document in pack]
    return Reference(config, corpus.sources, device, torch.float64).step(documents)


def _values(loss: float, norm: float, gradients: dict[str, Tensor], reference: Observation) -> Values:
    if gradients.keys() != reference.gradients.keys():
        odd = sorted(gradients.keys() ^ reference.gradients.keys())
        raise ValueError(f"{odd[0]} is on one side only")
    values: Values = {
        "loss": (abs(loss - reference.loss) / abs(reference.loss), LOSS),
        "norm": (abs(norm - reference.norm) / reference.norm, NORM),
    }
    for module in ("vision", "language"):
        keys = [key for key in gradients if key.startswith(f"{module}.")]
        differences = {key: float((gradients[key] - reference.gradients[key]).norm()) for key in keys}
        norms = {key: float(reference.gradients[key].norm()) for key in keys}
        size = math.hypot(*norms.values())
        values[module] = (math.hypot(*differences.values()) / size, BF16_WEIGHTS)
        mean = size / math.sqrt(sum(gradients[key].numel() for key in keys))
        floors = {key: SHARE * mean * math.sqrt(gradients[key].numel()) for key in keys}
        ratios = {key: differences[key] / max(norms[key], floors[key]) for key in keys}
        where = max(ratios, key=lambda key: (ratios[key] != ratios[key], ratios[key]))
        values[where] = (ratios[where], WORST)
    return values
