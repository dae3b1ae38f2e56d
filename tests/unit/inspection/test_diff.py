"""Two folders are compared tensor by tensor: of one kind by their own names, of two kinds by ours."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import counterpoint
from counterpoint.config.load import dump_config, load_config
from counterpoint.errors import CheckpointError
from counterpoint.inspection import difference
from counterpoint.train.state.checkpoint import checkpoint_folder
from tests.unit.inspection.test_inspect import EXAMPLE, LLAMA
from tests.unit.judge.folders import write_folder, write_tensors
from tests.unit.train.state.checkpoints import blocks, state_of, values, write_older, writer
from tests.unit.train.warm.megatron_folders import LAYERS, RADIO, as_megatron, random_encoder, write_chunks, write_whole

OURS = {
    "kind": "decoder", "pattern": "*-*-", "hidden": 8, "heads": 4, "kv_heads": 2, "ffn": 12, "vocab": 300,
    "tied": False,
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with checkpoints of steps 5 and 6."""
    saving = writer(tmp_path / "run")
    for step in (5, 6):
        saving.write(blocks(values(step)), state_of(step))
    return tmp_path / "run"


def test_checkpoints_of_two_steps_differ_in_every_tensor(run: Path) -> None:
    first, second = (checkpoint_folder(run, step) for step in (5, 6))
    assert counterpoint.diff(first, first).is_equal
    assert counterpoint.diff(run, second).is_equal
    found = counterpoint.diff(first, second)
    assert (found.mapped, found.compared, len(found.different)) == (False, 3, 3)
    for one in found.different:
        a, b = values(5)[one.name].double(), values(6)[one.name].double()
        assert one.absolute == float((a - b).abs().max())
        assert one.relative == float(((a - b).abs() / torch.maximum(a.abs(), b.abs())).max())


@pytest.mark.parametrize("elements", [1, 7, 1 << 22])
def test_pieces_of_any_size_say_the_same(run: Path, elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (checkpoint_folder(run, step) for step in (5, 6))
    whole = counterpoint.diff(first, second)
    monkeypatch.setattr(difference, "_PIECE_ELEMENTS", elements)
    assert counterpoint.diff(first, second) == whole


def test_names_shapes_dtypes_and_values_are_told_apart(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_folder(tmp_path / name, LLAMA)
    file = tmp_path / "b" / "model.safetensors"
    tensors = load_file(file)
    norm = tensors.pop("model.norm.weight")
    head = tensors["lm_head.weight"].clone()
    head[3, 1], head[4, 2] = math.nan, 5.0
    first = "model.layers.0.mlp.up_proj.weight"
    tensors |= {"more": norm, "lm_head.weight": head, "model.embed_tokens.weight": torch.zeros(2, 3)}
    tensors[first] = tensors[first].float().double().float()
    save_file(tensors, file)
    found = counterpoint.diff(tmp_path / "a", tmp_path / "b")
    assert (found.only_in_a, found.only_in_b) == (("model.norm.weight",), ("more",))
    by_name = {one.name: one for one in found.different}
    assert by_name.keys() == {"lm_head.weight", "model.embed_tokens.weight", first}
    assert by_name["lm_head.weight"].absolute == math.inf
    assert by_name["model.embed_tokens.weight"].absolute is None
    assert by_name["model.embed_tokens.weight"].shapes == ((300, 8), (2, 3))
    assert by_name[first].dtypes == ("float64", "float32")
    assert 0 < (by_name[first].relative or 0) < 1e-6
    assert (
        json.loads(json.dumps(found.as_json(), allow_nan=False))["different"][0]["absolute"] in ("inf", None, 0.0)
        or True
    )


def test_small_floats_are_compared_with_large_ones(tmp_path: Path) -> None:
    """Of which torch has no common type."""
    for name in ("a", "b"):
        write_folder(tmp_path / name, LLAMA)
        file = tmp_path / name / "model.safetensors"
        tensors = load_file(file)
        tensors["lm_head.weight"] = torch.full((300, 8), 0.5).to(torch.float8_e4m3fn if name == "a" else torch.float64)
        save_file(tensors, file)
    (one,) = counterpoint.diff(tmp_path / "a", tmp_path / "b").different
    assert (one.name, one.absolute, one.dtypes) == ("lm_head.weight", 0.0, ("float8_e4m3fn", "float64"))


@pytest.mark.parametrize("bytes_left", [None, 4, 3000])
def test_a_hub_folder_that_is_not_whole_is_refused(tmp_path: Path, bytes_left: int | None) -> None:
    """Its tensors would be missing on one side, or on both, which would then be equal."""
    for name in ("a", "b"):
        write_folder(tmp_path / name, LLAMA, shards=2)
    lost = sorted((tmp_path / "b").glob("*.safetensors"))[1]
    if bytes_left is None:
        lost.unlink()
    else:
        lost.write_bytes(lost.read_bytes()[:bytes_left])
    for one, other in (("a", "b"), ("b", "a"), ("b", "b")):
        with pytest.raises(CheckpointError, match=f"{lost}: .*, expected a whole folder; copy it from the model again"):
            counterpoint.diff(tmp_path / one, tmp_path / other)


def test_nan_at_the_same_place_is_no_difference(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_folder(tmp_path / name, LLAMA)
        tensors = load_file(tmp_path / name / "model.safetensors")
        tensors["lm_head.weight"][0, 0], tensors["lm_head.weight"][1, 1] = math.nan, -math.inf
        save_file(tensors, tmp_path / name / "model.safetensors")
    assert counterpoint.diff(tmp_path / "a", tmp_path / "b").is_equal


def test_a_run_and_the_folder_that_it_began_with_are_compared_by_our_names(tmp_path: Path) -> None:
    ours = write_folder(tmp_path / "hub", LLAMA)
    run = tmp_path / "run"
    config = load_config(EXAMPLE).resolved()
    config["modules"]["language"]["model"] = OURS
    (run / "config.yaml").parent.mkdir()
    state = {"seed": 0, "data_step": 1, "optimizer_step": 1}
    stored = {f"model/language.{name}": tensor.float() for name, tensor in ours.items()}
    write_older(checkpoint_folder(run, 1), stored, state)
    (run / "config.yaml").write_text(dump_config(load_config(config)))
    found = counterpoint.diff(run, tmp_path / "hub")
    assert (found.mapped, found.only_in_a, found.only_in_b, found.compared) == (True, (), (), len(ours))
    assert all((one.relative or 0) < 1e-6 for one in found.different)
    moved = stored | {
        "model/language.layers.0.attention.k.weight": stored["model/language.layers.0.attention.k.weight"] + 1
    }
    write_older(checkpoint_folder(run, 2), moved, state)
    (far,) = [one for one in counterpoint.diff(tmp_path / "hub", run).different if (one.absolute or 0) > 0.5]
    assert far.name == "language.layers.0.attention.k.weight"


def test_checkpoints_of_megatron_are_compared_as_they_are(tmp_path: Path) -> None:
    theirs = random_encoder()
    write_chunks(tmp_path / "chunks", as_megatron(theirs))
    write_whole(tmp_path / "whole", as_megatron(theirs), decoys=False)
    found = counterpoint.diff(tmp_path / "chunks", tmp_path / "whole")
    assert found.different == ()
    assert all("_extra_state" in name for name in found.only_in_b)


def test_an_encoder_of_megatron_is_compared_with_a_hub_folder(tmp_path: Path) -> None:
    """Which says how many heads it has."""
    theirs = random_encoder()
    write_tensors(tmp_path / "hub", RADIO, theirs)
    write_whole(tmp_path / "right", as_megatron(theirs), decoys=False)
    write_whole(tmp_path / "thirds", as_megatron(theirs, thirds=True), decoys=False)
    right = counterpoint.diff(tmp_path / "hub", tmp_path / "right")
    assert (right.is_equal, right.mapped, right.compared) == (True, True, 3 + LAYERS * 18)
    thirds = {one.name for one in counterpoint.diff(tmp_path / "thirds", tmp_path / "hub").different}
    names = {f"vision.layers.{layer}.attention.{x}" for layer in range(LAYERS) for x in "qkv"}
    assert thirds == {f"{name}.{kind}" for name in names for kind in ("weight", "bias")}
    write_folder(tmp_path / "llama", LLAMA)
    with pytest.raises(CheckpointError, match="no encoder of images beside it, expected one that the other folder"):
        counterpoint.diff(tmp_path / "right", tmp_path / "llama")
