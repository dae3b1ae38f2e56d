"""A warm start that does not fit is refused in sentences, before ranks start and before anything is written."""

import json
import os
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from counterpoint.config.load import dump_config, load_config
from counterpoint.config.schema import Config
from counterpoint.data.text.tokenizer import Tokenizer, train_tokenizer
from counterpoint.families.parts import parts_of
from counterpoint.models.chain import build_chain
from counterpoint.setup.run import build_models
from counterpoint.setup.warm_starts import check_warm_starts
from counterpoint.train.state.checkpoint import checkpoint_folder
from tests.unit.cli.conftest import Command, write
from tests.unit.judge.folders import write_folder, write_tensors
from tests.unit.train.state.checkpoints import write_older

LLAMA: dict[str, Any] = {
    "model_type": "llama", "vocab_size": 300, "hidden_size": 8, "intermediate_size": 12, "num_attention_heads": 4,
    "num_key_value_heads": 2, "num_hidden_layers": 2, "hidden_act": "silu", "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}  # fmt: skip
OURS = {
    "kind": "decoder", "pattern": "*-*-", "hidden": 8, "heads": 4, "kv_heads": 2, "ffn": 12, "vocab": 300,
    "tied": False,
}  # fmt: skip
KEY = "modules.language.init_from"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny Llama."""
    write_folder(tmp_path / "model", LLAMA)
    return tmp_path / "model"


@pytest.fixture
def config(settings: dict[str, Any], tmp_path: Path) -> Path:
    """A config whose language model has that Llama's sizes."""
    settings["modules"]["language"]["model"] = OURS
    return write(settings, tmp_path / "config.yaml")


def _refused(counterpoint: Command, config: Path, tmp_path: Path, *overrides: str) -> str:
    ended = counterpoint("train", config, *overrides)
    assert ended.code == 2, ended.err
    assert ended.err.startswith("error: ")
    assert not (tmp_path / "run").exists()
    return ended.err


def _tensors(model: Path) -> dict[str, Tensor]:
    return load_file(model / "model.safetensors")


def test_a_model_that_fits_gets_as_far_as_ranks(counterpoint: Command, config: Path, model: Path) -> None:
    with pytest.raises(AssertionError, match="starting ranks"):
        counterpoint("train", config, f"{KEY}={model}")


def test_the_words_of_a_tokenizer_are_those_of_the_model(
    counterpoint: Command, config: Path, pictures: Path, tmp_path: Path
) -> None:
    words, model = "modules.language.model.vocab=tokenizer", tmp_path / "model"
    count = Tokenizer.load(pictures / "tokenizer.json").vocabulary
    write_folder(model, LLAMA)
    said = _refused(counterpoint, config, tmp_path, f"{KEY}={model}", words)
    assert f"modules.language.model.vocab: got {count}, expected 300, as " in said
    with pytest.raises(AssertionError, match="starting ranks"):
        counterpoint("train", config, f"{KEY}={{path: {model}, fresh: [embed.weight, head.weight]}}", words)
    write_folder(model, LLAMA | {"vocab_size": count})
    with pytest.raises(AssertionError, match="starting ranks"):
        counterpoint("train", config, f"{KEY}={model}", words)


def _extended(file: Path) -> str:
    """The same tokenizer, spelled otherwise, with one more word that was added."""
    values = json.loads(file.read_text())
    place = max(token["id"] for token in values["added_tokens"]) + len(values["model"]["vocab"])
    values["added_tokens"].append({**values["added_tokens"][0], "id": place, "content": "<more>"})
    return json.dumps(values)


def test_words_that_are_loaded_are_those_of_the_tokenizer(
    counterpoint: Command, config: Path, model: Path, pictures: Path, tmp_path: Path
) -> None:
    own, theirs = pictures / "tokenizer.json", model / "tokenizer.json"
    for same in (own.read_text(), _extended(own), "{}"):
        theirs.write_text(same)
        with pytest.raises(AssertionError, match="starting ranks"):
            counterpoint("train", config, f"{KEY}={model}")
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
    train_tokenizer(["Quite other words, in another order, of which none was seen."], 300, theirs)
    said = _refused(counterpoint, config, tmp_path, f"{KEY}={model}")
    assert said.startswith("error: data.tokenizer: got ")
    assert f"expected the tokenizer of {KEY}, {theirs}, in which " in said
    assert f"or name embed.weight and head.weight in {KEY}.fresh" in said
    with pytest.raises(AssertionError, match="starting ranks"):
        counterpoint("train", config, f"{KEY}={{path: {model}, fresh: [embed.weight, head.weight]}}")


@pytest.mark.parametrize(
    ("change", "key", "ours", "theirs"),
    [
        ({"hidden_size": 16, "head_dim": 2}, "hidden", "8", "16"),
        ({"num_hidden_layers": 3}, "pattern", '"*-*-"', '"*-*-*-"'),
        ({"num_key_value_heads": 4}, "kv_heads", "2", "4"),
        ({"rope_theta": 5e5}, "rope_theta", "10000.0", "500000.0"),
        ({"rms_norm_eps": 1e-6}, "norm_eps", "1e-05", "1e-06"),
        ({"intermediate_size": 20}, "ffn", "12", "20"),
        ({"tie_word_embeddings": True}, "tied", "false", "true"),
        ({"vocab_size": 301}, "vocab", "300", "301"),
        ({"attention_bias": True}, "attention_bias", "false", "true"),
        ({"mlp_bias": True}, "mlp_bias", "false", "true"),
    ],
)
def test_sizes_that_differ_are_named_with_the_value_to_set(
    counterpoint: Command, config: Path, tmp_path: Path, change: dict[str, Any], key: str, ours: str, theirs: str
) -> None:
    write_folder(tmp_path / "model", LLAMA | change)
    said = _refused(counterpoint, config, tmp_path, f"{KEY}={tmp_path / 'model'}")
    place = f"modules.language.model.{key}"
    assert f"{place}: got {ours}, expected {theirs}, as {tmp_path / 'model'}/config.json says; set {place}=" in said
    assert len(said.splitlines()) == 1


def test_all_sizes_that_differ_are_listed(counterpoint: Command, config: Path, tmp_path: Path) -> None:
    write_folder(tmp_path / "model", LLAMA | {"intermediate_size": 20, "rope_theta": 5e5})
    assert len(_refused(counterpoint, config, tmp_path, f"{KEY}={tmp_path / 'model'}").splitlines()) == 2


def test_missing_unknown_and_misshapen_tensors_are_named(
    counterpoint: Command, config: Path, model: Path, tmp_path: Path
) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    tensors = _tensors(model)
    cases: list[tuple[Mapping[str, Tensor], str]] = [
        ({key: tensor for key, tensor in tensors.items() if key != name}, f"lacks {name}: "),
        (tensors | {"model.more": torch.zeros(1)}, "has the unknown model.more: "),
        (tensors | {name: torch.zeros(8, 12)}, f"has {name} of shape (8, 12), expected (12, 8): "),
        (tensors | {name: torch.zeros(12, 8, dtype=torch.int8)}, f"{name} is of type I8, expected one of F64"),
    ]
    for changed, words in cases:
        write_tensors(model, LLAMA, changed)
        said = _refused(counterpoint, config, tmp_path, f"{KEY}={model}")
        assert words in said
        assert len(said.splitlines()) == 1


def test_a_head_that_is_not_the_embedding_is_answered_with_the_key(
    counterpoint: Command, config: Path, model: Path, tmp_path: Path
) -> None:
    write_tensors(model, LLAMA | {"tie_word_embeddings": True}, _tensors(model))
    said = _refused(counterpoint, config, tmp_path, f"{KEY}={model}", "modules.language.model.tied=true")
    assert "holds a lm_head.weight that differs from model.embed_tokens.weight, whatever its config.json says" in said
    assert "set modules.language.model.tied=false" in said
    with pytest.raises(AssertionError, match="starting ranks"):
        counterpoint("train", config, f"{KEY}={model}")


def test_what_the_file_lacks_may_be_fresh_if_it_is_named(
    counterpoint: Command, config: Path, model: Path, tmp_path: Path
) -> None:
    write_tensors(model, LLAMA, {key: tensor for key, tensor in _tensors(model).items() if key != "lm_head.weight"})
    assert "lacks lm_head.weight: choose another, or name what" in _refused(
        counterpoint, config, tmp_path, f"{KEY}={model}"
    )
    with pytest.raises(AssertionError, match="starting ranks"):
        counterpoint("train", config, f"{KEY}={{path: {model}, fresh: [head.*]}}")


def test_depths_that_no_folder_has_begin_anew(counterpoint: Command, config: Path, model: Path, tmp_path: Path) -> None:
    depths = 'modules.language.model.mtp={pattern: "*-"}'
    said = _refused(counterpoint, config, tmp_path, f"{KEY}={model}", depths)
    assert "has no place for mtp.0." in said
    assert "name what begins anew in init_from.fresh" in said
    with pytest.raises(AssertionError, match="starting ranks"):
        counterpoint("train", config, f"{KEY}={{path: {model}, fresh: [mtp.*]}}", depths)


@pytest.mark.parametrize(
    ("fresh", "words"),
    [
        ("[haed.weight]", f'{KEY}.fresh.0: got "haed.weight", expected a pattern that fits a parameter of the module'),
        ('["*"]', f"{KEY}.fresh: got all parameters, expected some that are loaded; leave init_from out"),
    ],
)
def test_patterns_mean_something(
    counterpoint: Command, config: Path, model: Path, tmp_path: Path, fresh: str, words: str
) -> None:
    assert words in _refused(counterpoint, config, tmp_path, f"{KEY}={{path: {model}, fresh: {fresh}}}")


def test_a_folder_that_is_no_whole_model(counterpoint: Command, config: Path, model: Path, tmp_path: Path) -> None:
    def said(**_why: object) -> str:
        return _refused(counterpoint, config, tmp_path, f"{KEY}={model}")

    whole = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(whole[:-8])
    assert "model.safetensors: cannot be read (" in said()
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    assert "because pickled weights are not read; save the model anew" in said()
    index = model / "model.safetensors.index.json"
    for content in ('{"weight_map": {"a": "../../secret"}}', '{"weight_map": 3}', "{}"):
        index.write_text(content)
        assert "no weight_map from tensors to files of the folder" in said()
    index.write_text('{"weight_map": {"a": "gone.safetensors"}}')
    assert "gone.safetensors: cannot be read (" in said()
    (model / "config.json").write_text("[]")
    assert "config.json: holds no object" in said()
    (model / "config.json").write_text("{")
    assert "config.json: cannot be read (" in said()
    (model / "config.json").write_text(json.dumps(LLAMA | {"model_type": "mamba"}))
    index.unlink()
    (model / "pytorch_model.bin").unlink()
    (model / "model.safetensors").write_bytes(whole)
    assert "Model type 'mamba' is none of llama" in said()
    (model / "config.json").unlink()
    assert f"{model} is no Hugging Face folder with a config.json, no run with a checkpoint" in said()


def test_an_encoder_and_a_module_name_do_not_go_with_a_decoder_folder(
    counterpoint: Command, config: Path, model: Path, tmp_path: Path
) -> None:
    assert "holds a decoder, got it for a vit; choose another" in _refused(
        counterpoint, config, tmp_path, f"modules.vision.init_from={model}"
    )
    assert f'{KEY}.module: got "language" with a Hugging Face folder, expected null' in _refused(
        counterpoint, config, tmp_path, f"{KEY}={{path: {model}, module: language}}"
    )


@pytest.fixture
def earlier(config: Path, tmp_path: Path) -> Path:
    """An earlier run of the same modules whose checkpoint holds the language model's tensors."""
    run = tmp_path / "earlier"
    _save(run, config, write_folder(tmp_path / "model", LLAMA))
    return run


def _save(run: Path, config: Path, tensors: Mapping[str, Tensor], module: str = "language") -> None:
    folder = checkpoint_folder(run, 5)
    shutil.rmtree(folder, ignore_errors=True)
    write_older(folder, {f"model/{module}.{name}": tensor for name, tensor in tensors.items()}, {})
    (run / "config.yaml").write_text(dump_config(load_config(config)))


@pytest.fixture
def tower_run(settings: dict[str, Any], tmp_path: Path) -> tuple[Path, Path]:
    """An earlier run whose tower has two layers, a final norm and an MLP, and a config of one with a linear layer."""
    config = write(settings, tmp_path / "linear.yaml")
    settings["modules"]["vision"]["model"] |= {"projector": {"kind": "mlp", "hidden": 4}}
    before = load_config(write(settings, tmp_path / "mlp.yaml"))
    run = tmp_path / "earlier"
    _save(run, tmp_path / "mlp.yaml", _empty(before, "vision"), "vision")
    return config, run


def _empty(config: Config, module: str) -> dict[str, Tensor]:
    chain = build_chain(parts_of(build_models(config)[module]))
    return {name: torch.zeros(tensor.shape) for name, tensor in chain.state_dict().items()}


TOWER = "modules.vision.init_from"


def test_a_tower_changes_its_kind_of_projector(
    counterpoint: Command, tower_run: tuple[Path, Path], tmp_path: Path
) -> None:
    config, run = tower_run
    assert "model.projector.activation was 'gelu_tanh' there, got None" in (
        _refused(counterpoint, config, tmp_path, f"{TOWER}={run}")
    )
    with pytest.raises(AssertionError, match="starting ranks"):
        counterpoint("train", config, f"{TOWER}={{path: {run}, fresh: [projector.*]}}")
    merge = "modules.vision.model.merge=2"
    with pytest.raises(AssertionError, match="starting ranks"):
        counterpoint("train", config, f"{TOWER}={{path: {run}, fresh: [projector.*]}}", merge)


def test_a_pattern_may_fit_what_only_the_run_has(
    counterpoint: Command, tower_run: tuple[Path, Path], tmp_path: Path
) -> None:
    config, run = tower_run
    fewer = "modules.vision.model.layers=2"
    assert "model.layers was 3 there, got 2" in _refused(
        counterpoint, config, tmp_path, f"{TOWER}={{path: {run}, fresh: [projector.*]}}", fewer
    )
    assert 'fresh.1: got "layers.3.*", expected a pattern that fits a parameter of the module or of what' in (
        _refused(counterpoint, config, tmp_path, f"{TOWER}={{path: {run}, fresh: [projector.*, layers.3.*]}}", fewer)
    )
    with pytest.raises(AssertionError, match="starting ranks"):
        counterpoint("train", config, f"{TOWER}={{path: {run}, fresh: [projector.*, layers.2.*]}}", fewer)


def test_a_run_that_fits_gets_as_far_as_ranks(counterpoint: Command, config: Path, earlier: Path) -> None:
    for path in (earlier, checkpoint_folder(earlier, 5)):
        with pytest.raises(AssertionError, match="starting ranks"):
            counterpoint("train", config, f"{KEY}={path}")


def test_words_of_a_run_are_those_of_the_tokenizer(
    counterpoint: Command, config: Path, earlier: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.json"
    train_tokenizer(["Quite other words, in another order, of which none was seen."], 300, other)
    (earlier / "config.yaml").write_text(dump_config(load_config(config, [f"data.tokenizer={other}"])))
    said = _refused(counterpoint, config, tmp_path, f"{KEY}={earlier}")
    assert f"expected the tokenizer of {KEY}, {other}, in which " in said
    other.unlink()
    with pytest.raises(AssertionError, match="starting ranks"):
        counterpoint("train", config, f"{KEY}={earlier}")


def test_names_and_models_of_a_run_must_fit(counterpoint: Command, config: Path, earlier: Path, tmp_path: Path) -> None:
    def said(*overrides: str) -> str:
        return _refused(counterpoint, config, tmp_path, f"{KEY}={earlier}", *overrides)

    assert "has no module 'vision', expected one of language; name it in modules.vision.init_from.module" in (
        said(f"modules.vision.init_from={earlier}")
    )
    assert "is of another model: model.heads was 4 there, got 2; restore it" in said(
        "modules.language.model.heads=2", "modules.language.model.head_dim=2"
    )
    assert "is of another model: model.rope_theta was 10000.0 there, got 5.0; restore it" in said(
        "modules.language.model.rope_theta=5.0"
    )
    assert "has embed.weight of shape (300, 8), expected (301, 8); give" in said("modules.language.model.vocab=301")
    tensors = write_folder(tmp_path / "model", LLAMA)
    _save(earlier, config, {name: tensor for name, tensor in tensors.items() if name != "norm.weight"})
    assert "lacks norm.weight, expected all parameters of the module" in said()
    _save(earlier, config, tensors | {"more": torch.zeros(2)})
    assert "has the unknown more, expected parameters of the module only" in said()
    _save(earlier, config, {name: tensor for name, tensor in tensors.items() if name != "norm.weight"})
    with pytest.raises(AssertionError, match="starting ranks"):
        counterpoint("train", config, f"{KEY}={{path: {earlier}, fresh: [norm.*]}}")


class _Planted:
    def __reduce__(self) -> Any:
        return os.mkdir, ("planted",)


def test_nothing_that_a_checkpoint_names_is_run(
    counterpoint: Command, config: Path, earlier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (checkpoint_folder(earlier, 5) / ".metadata").write_bytes(pickle.dumps(_Planted()))
    said = _refused(counterpoint, config, tmp_path, f"{KEY}={earlier}")
    assert "mkdir, which no tensor is made of), expected a complete checkpoint; choose another" in said
    assert not (tmp_path / "planted").exists()


def test_a_run_with_a_checkpoint_of_its_own_looks_nowhere_else(config: Path, tmp_path: Path) -> None:
    loaded = load_config(config, [f"{KEY}={tmp_path / 'nowhere'}"])
    folder = checkpoint_folder(tmp_path / "run", 2)
    folder.mkdir(parents=True)
    check_warm_starts(loaded, build_models(loaded))


def test_verify_refuses_too(counterpoint: Command, config: Path, tmp_path: Path) -> None:
    ended = counterpoint("verify", config, f"{KEY}={tmp_path / 'nowhere'}")
    assert ended.code == 2
    assert "is no Hugging Face folder" in ended.err
