"""What lies in a folder of each kind is told from its headers, and so is what is damaged or missing."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

import counterpoint
from counterpoint.config.load import dump_config, load_config
from counterpoint.errors import CheckpointError
from counterpoint.train.state import archive
from counterpoint.train.state.checkpoint import checkpoint_folder
from tests.unit.judge.folders import write_folder
from tests.unit.judge.hub_folders import write_hub_folder
from tests.unit.train.state.checkpoints import blocks, state_of, values, write_older, writer
from tests.unit.train.warm.megatron_folders import as_megatron, random_encoder, write_torch_dist, write_whole

LLAMA: dict[str, Any] = {
    "model_type": "llama", "vocab_size": 300, "hidden_size": 8, "intermediate_size": 12, "num_attention_heads": 4,
    "num_key_value_heads": 2, "num_hidden_layers": 2, "hidden_act": "silu", "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}  # fmt: skip
EXAMPLE = Path(__file__).parents[3] / "examples" / "language_only.yaml"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with checkpoints of steps 5 and 6."""
    saving = writer(tmp_path / "run")
    for step in (5, 6):
        saving.write(blocks(values(step)), state_of(step))
    (tmp_path / "run" / "config.yaml").write_text(dump_config(load_config(EXAMPLE)))
    return tmp_path / "run"


def test_a_run_is_its_newest_checkpoint(run: Path) -> None:
    found = counterpoint.inspect(run)
    assert (found.kind, found.step, found.steps) == ("a run", 6, (5, 6))
    assert found.folder == str(checkpoint_folder(run, 6))
    assert {one.name: (one.tensors, one.parameters, one.size_bytes) for one in found.modules} == {
        "language": (2, 29, 29 * 4), "language optimizer": (1, 24, 24 * 4),
    }  # fmt: skip
    language, optimizer = found.modules
    assert (language.kind, language.dtypes) == ("decoder", ("float32",))
    assert language.layout is not None
    assert language.start == f"init_from: {{path: {run}, module: language}}"
    assert optimizer.start is None
    assert found.problems == ()
    assert found.size_bytes == sum(file.stat().st_size for file in checkpoint_folder(run, 6).glob("*.distcp"))
    assert counterpoint.inspect(checkpoint_folder(run, 5)).step == 5


def test_no_plugin_is_imported(run: Path) -> None:
    content = yaml.safe_load((run / "config.yaml").read_text())
    content["run"]["plugins"] = ["not-installed-anywhere"]
    (run / "config.yaml").write_text(yaml.safe_dump(content))
    assert counterpoint.inspect(run).problems == ()


def test_cut_and_lost_files_of_a_run_are_told(run: Path) -> None:
    first, *_others = sorted(checkpoint_folder(run, 5).glob("*.distcp"))
    first.write_bytes(first.read_bytes()[:-1])
    damaged = counterpoint.inspect(run)
    assert [f"{first.name} has " in one for one in damaged.problems] == [True]
    next(checkpoint_folder(run, 6).glob("*.distcp")).unlink()
    assert len(counterpoint.inspect(run).problems) == 2


def test_a_flipped_bit_is_told_where_digests_are_compared(run: Path) -> None:
    file = next(checkpoint_folder(run, 6).glob("*.distcp"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert counterpoint.inspect(run).problems == ()
    (said,) = counterpoint.inspect(run, verify=True).problems
    assert "is not what was written" in said
    assert counterpoint.inspect(checkpoint_folder(run, 5), verify=True).problems == ()


def test_a_checkpoint_without_digests_says_so(tmp_path: Path) -> None:
    folder = checkpoint_folder(tmp_path, 3)
    write_older(folder, {"model/language.norm": torch.ones(4)}, {"seed": 0, "data_step": 3, "optimizer_step": 3})
    found = counterpoint.inspect(folder, verify=True)
    assert "without checksums of its own" in found.notes[0]
    assert found.problems == ()
    file = next(folder.glob("*.distcp"))
    file.write_bytes(file.read_bytes().replace(torch.ones(4).numpy().tobytes(), torch.zeros(4).numpy().tobytes()))
    assert (
        "a block of model/language.norm cannot be read (BadZipFile"
        in counterpoint.inspect(folder, verify=True).problems[0]
    )


def test_a_hub_folder_has_modules_of_ours(tmp_path: Path) -> None:
    write_folder(tmp_path, LLAMA, shards=3)
    found = counterpoint.inspect(tmp_path)
    (language,) = found.modules
    assert (found.kind, found.files, language.kind) == ("a Hugging Face folder", 3, "a decoder of a llama")
    assert language.tensors == len(found.tensors) == 3 + 2 * 9
    assert language.start == f"init_from: {{path: {tmp_path}}}"
    assert found.problems == ()


def test_a_hub_folder_of_experts_in_stacks_has_all_of_them_in_its_module(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    write_hub_folder("qwen3_moe", 0, "memory", tmp_path)
    assert [module.name for module in counterpoint.inspect(tmp_path).modules] == ["language"]


def test_damaged_and_missing_shards_are_told(tmp_path: Path) -> None:
    write_folder(tmp_path, LLAMA, shards=3)
    first, second, third = sorted(tmp_path.glob("*.safetensors"))
    first.unlink()
    second.write_bytes(second.read_bytes()[:-8])
    third.write_bytes(b"junk")
    found = counterpoint.inspect(tmp_path)
    assert [module.start for module in found.modules if module.start is not None] == []
    assert "init_from takes nothing of it while it is damaged" in found.notes
    missing, cut, junk = found.problems
    assert missing == f"{first}: missing"
    assert cut.startswith(f"{second}: has ")
    assert junk.startswith(f"{third}: cannot be read (")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape": [8, 3]}, "cannot be read (ValueError: model.norm.weight of shape (8, 3) and type F64 has 64 bytes)"),
        ({"shape": [1e400]}, "cannot be read (OverflowError: "),
        ({"shape": None}, "cannot be read (TypeError: "),
        ({"data_offsets": [1]}, "cannot be read (ValueError: "),
        ({"data_offsets": [-64, 0]}, "the bytes of its tensors do not follow each other"),
        ({"data_offsets": [0, 64]}, "the bytes of its tensors do not follow each other"),
    ],
)
def test_headers_that_contradict_themselves_are_told(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    """safetensors takes none of these files."""
    write_folder(tmp_path, LLAMA)
    file = tmp_path / "model.safetensors"
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    header["model.norm.weight"] |= change
    written = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(written)) + written + content[8 + length :])
    (said,) = counterpoint.inspect(tmp_path).problems
    assert said.startswith(f"{file}: {words}")
    with pytest.raises(SafetensorError, match="header"):
        load_file(file)


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64, torch.float8_e8m0fnu])
def test_a_dtype_that_no_family_has_is_no_damage(tmp_path: Path, dtype: torch.dtype) -> None:
    write_folder(tmp_path, LLAMA)
    file = tmp_path / "model.safetensors"
    save_file(load_file(file) | {"scales": torch.ones(3).to(dtype)}, file)
    found = counterpoint.inspect(tmp_path)
    assert found.problems == ()
    assert str(dtype).removeprefix("torch.") in {one.dtype for one in found.tensors}


def test_tensors_that_an_index_names_and_no_file_has_are_told(tmp_path: Path) -> None:
    write_folder(tmp_path, LLAMA, shards=2)
    index = tmp_path / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["more"] = next(iter(content["weight_map"].values()))
    del content["weight_map"]["model.norm.weight"]
    index.write_text(json.dumps(content))
    lost, more = counterpoint.inspect(tmp_path).problems
    assert "names 1 tensors that its files lack, such as more" in lost
    assert "1 tensors are in files but not in model.safetensors.index.json, such as model.norm.weight" in more


def test_a_model_that_is_unknown_here_is_told_with_its_sizes(tmp_path: Path) -> None:
    write_folder(tmp_path, LLAMA)
    (tmp_path / "config.json").write_text(json.dumps(LLAMA | {"model_type": "mamba"}))
    found = counterpoint.inspect(tmp_path)
    (module,) = found.modules
    assert (module.name, module.start) == ("mamba", None)
    assert "init_from takes nothing of it: Model type 'mamba'" in found.notes[0]


def test_a_checkpoint_of_megatron_has_an_encoder(tmp_path: Path) -> None:
    write_whole(tmp_path / "flat", as_megatron(random_encoder()))
    found = counterpoint.inspect(tmp_path / "flat")
    by_name = {one.name: one for one in found.modules}
    assert by_name["model.vision_model."].start == (
        f"init_from: {{path: {tmp_path / 'flat'}, prefix: model.vision_model., fresh: [projector.*]}}"
    )
    assert {"model.language_model.", "model.vision_projection.", "optimizer."} <= by_name.keys()
    assert found.others == 8
    folder = write_torch_dist(tmp_path / "root", as_megatron(random_encoder()))
    nested = counterpoint.inspect(tmp_path / "root", verify=True)
    assert (nested.step, nested.folder, nested.problems) == (42, str(folder), ())
    file = next(folder.glob("*.distcp"))
    file.write_bytes(file.read_bytes()[:-9])
    cut = counterpoint.inspect(tmp_path / "root")
    assert len(cut.problems) == 1
    assert "init_from takes nothing of it while it is damaged" in cut.notes
    assert [module.start for module in cut.modules if module.start is not None] == []


def test_a_folder_of_100_gb_is_read_by_its_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files with holes: what is read of them is their beginnings."""
    shards, size, weights = 20, 5 * 10**9, {}
    for number in range(shards):
        name = f"model-{number:05d}.safetensors"
        described = {"dtype": "BF16", "shape": [size // 2], "data_offsets": [0, size]}
        header = json.dumps({f"tensor.{number}": described}).encode()
        with (tmp_path / name).open("wb") as file:
            file.write(struct.pack("<Q", len(header)) + header)
            file.truncate(8 + len(header) + size)
        weights[f"tensor.{number}"] = name
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    monkeypatch.setattr(archive, "read_into", lambda *_arguments: pytest.fail("elements are read"))
    found = counterpoint.inspect(tmp_path)
    assert found.problems == ()
    assert found.modules[0].size_bytes == shards * size


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is no Hugging Face folder with a config\.json, no run"):
        counterpoint.inspect(tmp_path)
