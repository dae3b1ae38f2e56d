"""What cannot be exported is refused in one sentence before anything is written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from counterpoint.api import export
from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.data.text.tokenizer import Tokenizer, train_tokenizer
from counterpoint.errors import InputError
from counterpoint.setup.export import ExportRequest
from counterpoint.setup.run import build_models
from counterpoint.setup.warm_starts import check_values
from tests.unit.convert.test_modules_round_trip import case
from tests.unit.hub.runs import export_here, write_run
from tests.unit.judge.folders import write_tensors
from tests.unit.judge.whole_configs import FOLDERS, config_of

Given = tuple[Path, Path]
"""The run folder and the base that it began with."""


@pytest.fixture
def given(tmp_path: Path) -> Given:
    """A run of a tower and a decoder that began with a LLaVA."""
    whole, ours, theirs = case("llava")
    write_tensors(tmp_path / "model", FOLDERS["llava"], theirs)
    return write_run(config_of(whole, tmp_path / "model", {}), ours), tmp_path / "model"


def _exists(run: Path, _base: Path) -> dict[str, Any]:
    (run.parent / "out").mkdir()
    return {}


def _flipped(run: Path, _base: Path) -> dict[str, Any]:
    file = next((run / "checkpoints").rglob("__0_0.distcp"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    return {}


def _cut(run: Path, _base: Path) -> dict[str, Any]:
    file = next((run / "checkpoints").rglob("__1_0.distcp"))
    file.write_bytes(file.read_bytes()[:-5])
    return {}


def _other_config(_run: Path, base: Path) -> dict[str, Any]:
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "image_token_index": 3}))
    return {}


def _written_again(_run: Path, base: Path) -> dict[str, Any]:
    file = next(base.glob("*.safetensors"))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    return {}


def _in_the_base(_run: Path, base: Path) -> dict[str, Any]:
    return {"out": base / "out"}


def _under_a_file(run: Path, _base: Path) -> dict[str, Any]:
    return {"out": run / "config.yaml" / "out"}


def _gone(_run: Path, base: Path) -> dict[str, Any]:
    base.rename(base.with_name("elsewhere"))
    return {}


def _other_base(run: Path, _base: Path) -> dict[str, Any]:
    _whole, _ours, theirs = case("qwen2_5_vl")
    write_tensors(run.parent / "other", FOLDERS["qwen2_5_vl"], theirs)
    return {"base": str(run.parent / "other")}


def _without_record(run: Path, _base: Path) -> dict[str, Any]:
    (run / "bases.json").write_text("{}")
    return {}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_exists, "out exists, expected a folder to create"),
        (lambda _run, _base: {"step": 7}, "has no checkpoint of step 7, found steps \\[2\\]"),
        (_flipped, "is not what was written"),
        (_cut, "bytes, expected a complete checkpoint; choose another checkpoint with --step"),
        (_other_config, "got another model than the run began with"),
        (_written_again, "files of tensors that were written again since the run began with them"),
        (_in_the_base, "is in the base .*, expected a folder outside of it"),
        (_under_a_file, "config.yaml is a file, expected a folder for"),
        (_gone, "expected the one that the run began with; restore it, or name another with --base"),
        (_other_base, "modules\\.vision\\.model\\..*; name a folder of the same model with --base"),
        (_without_record, "its modules began with no folder, expected one that holds vision and language"),
        (lambda _run, _base: {"module": "visoin"}, '--module: got "visoin", expected vision'),
        (lambda _run, _base: {"dtype": "bf16"}, '--dtype: got "bf16", expected one of float64'),
        (lambda run, _base: {"base": str(run)}, "--base: .*has no config.json"),
    ],
)
def test_wrong_input_is_one_sentence(given: Given, change: Callable[[Path, Path], dict[str, Any]], words: str) -> None:
    run, base = given
    options = change(run, base)
    with pytest.raises(InputError, match=words) as raised:
        export(run, options.pop("out", run.parent / "out"), **options)
    assert raised.value.exit_code == 2
    assert len(str(raised.value).splitlines()) == 1
    left = sorted(path.name for path in run.parent.iterdir() if path.name.startswith("out"))
    assert left == (["out"] if change is _exists else [])


_YARN = {"kind": "yarn", "factor": 4.0, "original_positions": 16, "attention_factor": 1.138629436111989}
_TEXT = {"documents": 4, "text_tokens": {"kind": "uniform", "low": 2, "high": 9}}


def _decoder(tmp_path: Path, **model: object) -> Config:
    section = {"kind": "decoder", "pattern": "*-*-", "hidden": 16, "heads": 4, "kv_heads": 2, "ffn": 8, "vocab": 30}
    config = {
        "run": {"dir": str(tmp_path / "run"), "device": "cpu"},
        "world": {"size": 1},
        "modules": {"language": {"model": {**section, **model}, "optimizer": {"lr": 1e-3}, "layout": {"ranks": [0]}}},
        "data": {"train": [{"synthetic": _TEXT}], "sequence_tokens": 64},
        "training": {"steps": 2, "global_batch_samples": 4},
    }
    return load_config(config)


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ({"norm_eps": 1e-5}, "llama"),
        ({"bias": True, "rope_scaling": _YARN}, "llama"),
        ({"rope_scaling": {"kind": "dynamic", "factor": 2.0, "original_positions": 16}}, "llama"),
        ({"rope_scaling": {"kind": "linear", "factor": 2.0}}, "llama"),
        ({"qkv_bias": True, "tied": False}, "qwen2"),
        ({"qk_norm": True, "head_dim": 8}, "qwen3"),
        (
            {"qk_norm": True, "pattern": "*E*-", "moe": {"experts": 4, "top_k": 2, "ffn": 6, "router": "softmax"}},
            "qwen3_moe",
        ),
        (
            {
                "pattern": "M*-", "activation": "relu2", "rope_theta": None, "tied": False,
                "mamba": {"heads": 4, "head_dim": 8, "groups": 2, "state": 4, "conv": 4, "chunk": 8},
            },
            "nemotron_h",
        ),
        (
            {
                "pattern": "W-*-", "post_norm": True, "qk_norm": True, "activation": "geglu_tanh", "norm_eps": 1e-6,
                "embedding_scale": 4.0, "score_scale": 0.5, "rope_theta": 1e6,
                "layers": {"W": {"kind": "attention", "window": 4, "rope_theta": 1e4}},
            },
            "gemma3_text",
        ),
    ],
)  # fmt: skip
def test_a_decoder_without_a_base_is_of_the_family_that_reads_it_so(
    tmp_path: Path, model: dict[str, object], family: str
) -> None:
    run = write_run(_decoder(tmp_path, **model), {})
    out = export_here(ExportRequest(run=run, out=tmp_path / "out", dtype="bfloat16"))
    config = json.loads((out / "config.json").read_text())
    assert (config["model_type"], config["torch_dtype"], config["dtype"]) == (family, "bfloat16", "bfloat16")
    again = load_config(_decoder(tmp_path, **model), [f"modules.language.init_from={out}", f"run.dir={tmp_path}/again"])
    check_values(again, build_models(again))


@pytest.mark.parametrize("has_base", [False, True])
def test_a_vocabulary_that_the_tokenizer_says_is_exported_as_its_number(tmp_path: Path, has_base: bool) -> None:
    file = tmp_path / "tokenizer.json"
    train_tokenizer(["A red square."], 270, file)
    count = Tokenizer.load(file).vocabulary
    base = None
    if has_base:
        base = export_here(ExportRequest(run=write_run(_decoder(tmp_path, vocab=count), {}), out=tmp_path / "base"))
    config = load_config(_decoder(tmp_path), [f"data.tokenizer={file}", "modules.language.model.vocab=tokenizer"])
    run = write_run(config, {})
    out = export_here(ExportRequest(run=run, out=tmp_path / "out", base=base))
    assert json.loads((out / "config.json").read_text())["vocab_size"] == count


def test_a_decoder_of_no_family_is_refused_by_the_key(tmp_path: Path) -> None:
    run = write_run(_decoder(tmp_path, score_scale=0.3), {})
    with pytest.raises(InputError, match=r"got a decoder that is none of llama.*score_scale is 0.3"):
        export(run, tmp_path / "out")
