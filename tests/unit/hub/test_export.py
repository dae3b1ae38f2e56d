"""An exported folder holds every tensor of its base's names: ours as the links make them, all others bit for bit."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from counterpoint.config.load import load_config
from counterpoint.convert.composite import LANGUAGE, CompositeModel, composite_of
from counterpoint.data.text.tokenizer import train_tokenizer
from counterpoint.setup.export import ExportRequest
from tests.unit.convert.test_modules_round_trip import case
from tests.unit.hub.runs import Modules, export_here, write_run
from tests.unit.judge.converted import modules_from_ours
from tests.unit.judge.folders import write_folder, write_tensors
from tests.unit.judge.whole_configs import FOLDERS, config_of
from tests.unit.judge.wholes import OMNI


def _carried(whole: CompositeModel) -> dict[str, Tensor]:
    """Tensors that a folder may have and no module of ours holds, one of each pattern."""
    names = [pattern.replace("*", "1.weight") for pattern in whole.unused]
    return {name: torch.randint(0, 99, (3, 2)) if "idx" in name else torch.randn(3, 2) for name in names}


def _loaded(folder: Path) -> dict[str, Tensor]:
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def _trained(ours: Modules) -> dict[str, dict[str, Tensor]]:
    """Other values than the base's, but for every third tensor."""
    return {
        module: {name: tensor + 1 if number % 3 else tensor for number, (name, tensor) in enumerate(tensors.items())}
        for module, tensors in ours.items()
    }


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name == "llava" else pytest.mark.more) for name in FOLDERS],
)
def test_every_tensor_is_ours_or_the_bases(name: str, tmp_path: Path) -> None:
    whole, ours, theirs = case(name)
    carried = _carried(whole)
    write_tensors(tmp_path / "model", FOLDERS[name], {**theirs, **carried}, shards=2)
    (tmp_path / "model" / "tokenizer.json").write_text("{}")
    trained = _trained(ours)
    run = write_run(config_of(whole, tmp_path / "model", {}), trained)
    module = None if LANGUAGE in whole.modules else next(iter(whole.modules))
    out = export_here(ExportRequest(run=run, out=tmp_path / "out", module=module), processes=3)
    found, expected = _loaded(out), {**modules_from_ours(whole, trained), **carried}
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        assert (found[key].dtype, torch.equal(found[key], tensor)) == (tensor.dtype, True), key
    assert (out / "tokenizer.json").read_text() == "{}"
    assert sorted(file.name for file in out.iterdir()) == sorted(file.name for file in (tmp_path / "model").iterdir())
    config = json.loads((out / "config.json").read_text())
    assert {key: config[key] for key in FOLDERS[name] if not key.endswith("_config")}.items() <= config.items()


def test_another_vocabulary_is_said_in_the_config(tmp_path: Path) -> None:
    """A run that began its words anew has more of them than the base."""
    config = {
        "model_type": "llama", "vocab_size": 23, "hidden_size": 16, "intermediate_size": 8, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
        "rope_theta": 500.0, "torch_dtype": "bfloat16",
    }  # fmt: skip
    ours = write_folder(tmp_path / "model", config, torch.bfloat16)
    whole = composite_of(config)
    init = {"path": str(tmp_path / "model"), "fresh": ["embed.weight", "head.weight"]}
    changed = config_of(whole, tmp_path / "model", {}).resolved()
    changed["modules"][LANGUAGE] |= {"init_from": init}
    changed["modules"][LANGUAGE]["model"]["vocab"] = 29
    words = {name: torch.randn(29, 16) for name in ("embed.weight", "head.weight")}
    run = write_run(load_config(changed), {LANGUAGE: {**{n: t.float() for n, t in ours.items()}, **words}})
    out = export_here(ExportRequest(run=run, out=tmp_path / "out"))
    found = _loaded(out)
    assert json.loads((out / "config.json").read_text()) == {
        **config, "vocab_size": 29, "dtype": "bfloat16",
        "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
    }  # fmt: skip
    assert torch.equal(found["model.embed_tokens.weight"], words["embed.weight"].bfloat16())
    assert torch.equal(found["lm_head.weight"], words["head.weight"].bfloat16())
    assert torch.equal(found["model.norm.weight"], ours["norm.weight"])


@pytest.mark.parametrize("are_others", [False, True])
def test_words_are_those_of_the_run(tmp_path: Path, are_others: bool) -> None:
    """With other words than the base's, none of its files about words is carried over."""
    config = {**FOLDERS["llava"]["text_config"], "model_type": "llama"}
    model = tmp_path / "model"
    write_folder(model, config)
    own = tmp_path / "own.json"
    train_tokenizer(["Quite other words, in another order, of which none was seen."], 300, model / "tokenizer.json")
    train_tokenizer(["A red square."], 300, own)
    about = {"tokenizer_config.json", "chat_template.jinja", "generation_config.json", "merges.txt"}
    for name in (*about, "preprocessor_config.json"):
        (model / name).write_text("{}")
    changed = config_of(composite_of(config), model, {}).resolved()
    tokenizer = own if are_others else model / "tokenizer.json"
    run = write_run(load_config(changed, [f"data.tokenizer={tokenizer}"]), {})
    out = export_here(ExportRequest(run=run, out=tmp_path / "out"))
    assert (out / "tokenizer.json").read_bytes() == tokenizer.read_bytes()
    assert {name for name in about if (out / name).exists()} == (set() if are_others else about)
    assert (out / "preprocessor_config.json").exists()


def test_another_vocabulary_is_said_in_the_section_that_the_base_has(tmp_path: Path) -> None:
    """Nemotron-Omni is published with `llm_config` in place of `text_config`."""
    config = {("llm_config" if key == "text_config" else key): value for key, value in OMNI.items()}
    whole, _ours, theirs = case("nemotron_h_omni")
    write_tensors(tmp_path / "model", config, theirs)
    changed = config_of(whole, tmp_path / "model", {}).resolved()
    init = {"path": str(tmp_path / "model"), "fresh": ["embed.weight", "head.weight"]}
    changed["modules"][LANGUAGE] |= {"init_from": init}
    changed["modules"][LANGUAGE]["model"]["vocab"] = 29
    out = export_here(ExportRequest(run=write_run(load_config(changed), {}), out=tmp_path / "out"))
    found = json.loads((out / "config.json").read_text())
    assert found["llm_config"]["vocab_size"] == 29
    assert "vocab_size" not in found
    assert composite_of(found).modules[LANGUAGE].model.ends.vocab == 29
