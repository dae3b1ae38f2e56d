"""Folders of transformers' models, and the config of a run whose modules have the sizes that lie in them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config as RunConfig
from counterpoint.convert.composite import AUDIO, LANGUAGE, VISION, CompositeModel, Stored, composite_of
from counterpoint.families.decoder.spec import DecoderConfig
from counterpoint.kinds.family import Ends
from counterpoint.verify.command import as_verified
from tests.unit.judge.judge import quiet, randomize
from tests.unit.judge.models import Config
from tests.unit.judge.towers import PICTURE, QWEN2_5_VL, QWEN3_VL, TEXT, TOWERS, make_judge, stored
from tests.unit.judge.wholes import HEARING, WHOLES

TEXT_TOWER: Config = {key: TEXT[key] for key in ("hidden_size", "intermediate_size", "num_attention_heads")} | {
    "num_hidden_layers": 1, "vocab_size": 23, "max_position_embeddings": 7, "eos_token_id": 1,
}  # fmt: skip
SEEN: Config = {**PICTURE, "image_size": 8}
WHISPER: Config = {
    "model_type": "whisper", "vocab_size": 30, "d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2,
    "encoder_ffn_dim": 20, "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 20,
    "num_mel_bins": 16, "max_source_positions": 40, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "decoder_start_token_id": 1,
}  # fmt: skip
PARAKEET: Config = {
    "model_type": "parakeet_encoder",
    **{key: value for key, value in HEARING["audio_config"].items() if not key.startswith("projection_")},
}
FOLDERS: Mapping[str, Config] = {
    **TOWERS,
    **WHOLES,
    "clip with text": {"model_type": "clip", "vision_config": SEEN, "text_config": TEXT_TOWER},
    "siglip with text": {"model_type": "siglip", "vision_config": SEEN, "text_config": TEXT_TOWER},
    "whisper": WHISPER,
    "parakeet": PARAKEET,
    "parakeet with a head": {"model_type": "parakeet_ctc", "vocab_size": 23, "encoder_config": PARAKEET},
    "qwen2_5_vl's tower": {"model_type": "qwen2_5_vl_vision", **QWEN2_5_VL["vision_config"]},
    "qwen3_vl's tower": {"model_type": "qwen3_vl_vision", **QWEN3_VL["vision_config"]},
}
"""By name of the case."""

_OPTIMIZER = {"lr": 1e-3}


def write_judge(name: str, folder: Path) -> tuple[CompositeModel, dict[str, Tensor]]:
    """Write the judge's model of random values; what lies in the folder and its tensors."""
    quiet()
    model = _make(FOLDERS[name]).double()
    randomize(model)
    config, tensors = stored(model, folder)
    return composite_of(config), tensors


def _make(config: Config) -> Any:
    around = {"qwen2_5_vl_vision": QWEN2_5_VL, "qwen3_vl_vision": QWEN3_VL}.get(config["model_type"])
    return make_judge(config) if around is None else make_judge(around).model.visual


def config_of(whole: CompositeModel, folder: Path, ranks: Mapping[str, int]) -> RunConfig:
    """A run whose modules have the sizes of those in a folder and start from it, each on a rank."""
    modules, edges = {}, []
    for name, one in whole.modules.items():
        fresh = ["projector.*"] if one.adds_projector else []
        modules[name] = {
            "model": model_of(one),
            "init_from": {"path": str(folder), "fresh": fresh},
            "optimizer": _OPTIMIZER,
        }
        if name != LANGUAGE:
            depths = [{"after": after, "into": into} for after, into in whole.depths] if name == VISION else []
            edges.append({"source": name, "target": LANGUAGE, "depths": depths or _taps(one.model.ends)})
    if LANGUAGE not in modules:
        (one,) = whole.modules.values()
        width = 24 if one.adds_projector else one.model.ends.leaving
        decoder = {"kind": "decoder", "pattern": "*-*-*-", "hidden": width, "heads": 2, "ffn": 8, "vocab": 30}
        modules[LANGUAGE] = {"model": decoder, "optimizer": _OPTIMIZER}
    for name, module in modules.items():
        module["layout"] = {"ranks": [ranks.get(name, 0)]}
    synthetic = {"documents": 16, "text_tokens": {"kind": "uniform", "low": 2, "high": 9}}
    if VISION in modules:
        side = 8 * (whole.modules[VISION].model.section.patch // 2)
        constant = {"kind": "constant", "value": side}
        synthetic |= {"images_per_document": {"kind": "uniform", "low": 0, "high": 2}}
        synthetic |= {"image_height": constant, "image_width": constant}
    if AUDIO in modules:
        synthetic |= {"audio_per_document": {"kind": "uniform", "low": 0, "high": 1}}
        synthetic |= {"audio_milliseconds": {"kind": "uniform", "low": 100, "high": 700}}
    data = {"train": [{"synthetic": synthetic}], "sequence_tokens": 128}
    config = {
        "run": {"dir": str(folder.parent / "run"), "device": "cpu"},
        "world": {"size": 1 + max(ranks.values(), default=0)},
        "modules": modules,
        "edges": edges,
        "schedule": {"microbatches": 2},
        "data": data,
        "training": {"steps": 2, "global_batch_samples": 4},
    }
    return as_verified(load_config(config), "float64")


def _taps(ends: Ends) -> list[dict[str, int]]:
    """Depths of a tower that lies alone in a folder: into layers in the same order."""
    return [{"after": after, "into": into} for into, after in enumerate(ends.taps)]


def model_of(stored: Stored) -> dict[str, Any]:
    """The section `model` of a config that is that of a stored module, with an MLP where it has no projector."""
    section = stored.model.section
    keys: dict[str, Any] = section.model_dump()
    if isinstance(section, DecoderConfig):
        return {**keys, "ffn": section.ffn if "-" in section.pattern else None}
    if stored.adds_projector:
        keys["projector"] = {"kind": "mlp", "hidden": 12}
    return {**keys, "image": {"max_patches": 16}} if "image" in type(section).model_fields else keys
