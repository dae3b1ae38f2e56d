"""A Hugging Face folder that does not fit an encoder is refused in sentences; what fits gets as far as ranks."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from counterpoint.convert.composite import CompositeModel, composite_of
from counterpoint.families.parts import parts_of
from counterpoint.models.chain import build_chain
from tests.unit.cli.conftest import Command, write
from tests.unit.judge.converted import modules_from_ours
from tests.unit.judge.folders import write_tensors

PICTURE: dict[str, Any] = {
    "hidden_size": 8, "intermediate_size": 12, "num_attention_heads": 2, "num_hidden_layers": 3, "image_size": 8,
    "patch_size": 4,
}  # fmt: skip
CLIP: dict[str, Any] = {"model_type": "clip_vision_model", **PICTURE}
LLAVA: dict[str, Any] = {
    "model_type": "llava",
    "vision_config": {**CLIP, "num_hidden_layers": 4},
    "text_config": {
        "model_type": "llama", "vocab_size": 300, "hidden_size": 8, "intermediate_size": 12, "num_attention_heads": 4,
        "num_hidden_layers": 2,
    },
}  # fmt: skip
TOWER: dict[str, Any] = {
    "kind": "vit", "layers": 3, "hidden": 8, "heads": 2, "ffn": 12, "patch": 4, "positions": 2, "prefix": 1,
    "image": {"size": 8, "max_patches": 4},
    "embed_norm": True, "patch_bias": False, "norm_eps": 1e-5, "activation": "quick_gelu", "final_norm": False,
    "projector": {"kind": "mlp", "hidden": 8, "activation": "gelu"},
}  # fmt: skip
KEY, MODEL = "modules.vision.init_from", "modules.vision.model"


@pytest.fixture
def config(settings: dict[str, Any], tmp_path: Path) -> Path:
    """A config whose tower has that CLIP's sizes, and whose decoder the LLaVA's."""
    settings["modules"]["vision"]["model"] = TOWER
    settings["modules"]["language"]["model"] = {
        "kind": "decoder", "pattern": "*-*-", "hidden": 8, "heads": 4, "ffn": 12, "vocab": 300, "tied": False,
        "norm_eps": 1e-6,
    }  # fmt: skip
    return write(settings, tmp_path / "config.yaml")


def _write(path: Path, content: dict[str, Any], more: dict[str, Tensor] | None = None) -> Path:
    """A folder of zeros."""
    whole = composite_of(content)
    modules = {name: _zeros(whole, name) for name in whole.modules}
    write_tensors(path, content, modules_from_ours(whole, modules) | (more or {}))
    return path


def _zeros(whole: CompositeModel, name: str) -> dict[str, Tensor]:
    chain = build_chain(parts_of(whole.modules[name].model))
    return {key: torch.zeros(tensor.shape) for key, tensor in chain.state_dict().items()}


def _starts(counterpoint: Command, config: Path, *overrides: str) -> None:
    with pytest.raises(AssertionError, match="starting ranks"):
        counterpoint("train", config, *overrides)


def _refused(counterpoint: Command, config: Path, *overrides: str) -> str:
    ended = counterpoint("train", config, *overrides)
    assert ended.code == 2, ended.err
    return ended.err


def _fresh(path: Path, *patterns: str) -> str:
    return f"{KEY}={{path: {path}, fresh: [{', '.join(('projector.*', *patterns))}]}}"


def test_a_tower_and_parts_of_a_whole_model_get_as_far_as_ranks(
    counterpoint: Command, config: Path, tmp_path: Path
) -> None:
    older = {"vision_model.embeddings.position_ids": torch.arange(5)}
    clip, llava = _write(tmp_path / "clip", CLIP, older), _write(tmp_path / "llava", LLAVA)
    _starts(counterpoint, config, _fresh(clip))
    _starts(counterpoint, config, f"{KEY}={llava}", f"modules.language.init_from={llava}")
    _starts(counterpoint, config, _fresh(llava), f"{MODEL}.projector={{kind: linear}}")
    _starts(counterpoint, config, _fresh(clip), f"{MODEL}.merge=2")


def test_a_projector_that_the_folder_lacks_is_to_be_named(counterpoint: Command, config: Path, tmp_path: Path) -> None:
    said = _refused(counterpoint, config, f"{KEY}={_write(tmp_path / 'clip', CLIP)}")
    assert "has no place for projector.mlp.down.bias, projector.mlp.down.weight, " in said
    assert "or name what begins anew in init_from.fresh" in said


def test_layers_that_are_not_loaded_are_named(counterpoint: Command, config: Path, tmp_path: Path) -> None:
    clip, fewer = _write(tmp_path / "clip", CLIP), f"{MODEL}.layers=2"
    assert f"{MODEL}.layers: got 2, expected 3, as {clip}/config.json says; set {MODEL}.layers=3" in _refused(
        counterpoint, config, _fresh(clip), fewer
    )
    _starts(counterpoint, config, _fresh(clip, "layers.2.*"), fewer)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("heads=1", f"{MODEL}.heads: got 1, expected 2, "),
        ("norm_eps=1.0e-6", f"{MODEL}.norm_eps: got 1e-06, expected 1e-05, "),
        ("activation=gelu", f'{MODEL}.activation: got "gelu", expected "quick_gelu", '),
        ("positions=4", f"{MODEL}.positions: got 4, expected 2, "),
        ("fit=crop", f'{MODEL}.fit: got "crop", expected "stretch", '),
        ("final_norm=true", f"{MODEL}.final_norm: got true, expected false, "),
        ("window=2", f"{MODEL}.window: got 2, expected null, "),
        ("merge=2", f"{MODEL}.merge: got 2, expected 1, "),
        ("projector.activation=relu2", f'{MODEL}.projector.activation: got "relu2", expected "gelu", '),
        ("projector={kind: linear}", f'{MODEL}.projector.kind: got "linear", expected "mlp", '),
    ],
)
def test_sizes_that_differ_are_named_with_the_value_to_set(
    counterpoint: Command, config: Path, tmp_path: Path, override: str, words: str
) -> None:
    others = [f"{MODEL}.prefix=0"] if override.startswith("window") else []
    said = _refused(counterpoint, config, f"{KEY}={_write(tmp_path / 'llava', LLAVA)}", f"{MODEL}.{override}", *others)
    assert words in said
    assert "; set modules.vision.model." in said


def test_a_width_that_no_key_gives_is_not_advised(counterpoint: Command, config: Path, tmp_path: Path) -> None:
    said = _refused(
        counterpoint, config, f"{KEY}={_write(tmp_path / 'llava', LLAVA)}", "modules.language.model.hidden=16"
    )
    assert f"{MODEL}: got out 16, expected 8, as {tmp_path}/llava/config.json says; give what reads its rows" in said


def test_a_folder_without_a_module_of_that_kind(counterpoint: Command, config: Path, tmp_path: Path) -> None:
    clip, llava = _write(tmp_path / "clip", CLIP), _write(tmp_path / "llava", LLAVA)
    assert "holds a vit, got it for a decoder; choose another" in _refused(
        counterpoint, config, f"modules.language.init_from={clip}"
    )
    given = "given={model: {kind: features, width: 4, projector: {kind: linear}}, layout: {ranks: [0, 1]}, "
    modules = f"modules.{given}optimizer: {{lr: 1.0e-3}}, init_from: {llava}}}"
    assert "holds a vit and a decoder, got it for features" in _refused(
        counterpoint, config, modules, "edges=[{source: vision, target: language}, {source: given, target: language}]"
    )


def test_what_is_unknown_is_excused_by_its_name(counterpoint: Command, config: Path, tmp_path: Path) -> None:
    clip = _write(tmp_path / "clip", CLIP, {"more.weight": torch.zeros(1)})
    assert "has the unknown more.weight: name in init_from.fresh what is not" in _refused(
        counterpoint, config, _fresh(clip)
    )
    _starts(counterpoint, config, _fresh(clip, "more.*"))
