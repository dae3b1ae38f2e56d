"""Warm starts on many layouts: every value is the file's, to the last bit, and no rank reads what it does not hold."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from counterpoint.config.load import dump_config
from counterpoint.config.schema import Config
from counterpoint.convert.folder import ModelFolder
from counterpoint.convert.links import Place
from counterpoint.errors import CheckpointError
from counterpoint.setup import build_plan, prepare_run
from counterpoint.train.engine import Engine
from counterpoint.train.saving import Saver
from counterpoint.train.warm import check_warm_starts, warm_start
from counterpoint.verify.case import CaseResult, verify_task
from counterpoint.verify.member import Member
from counterpoint.verify.pool import Pool
from tests.distributed.spare import is_spare
from tests.parity.layouts import hybrid_config, named_config, override
from tests.unit.judge.folders import write_folder

QWEN: dict[str, Any] = {
    "model_type": "qwen3", "vocab_size": 37, "hidden_size": 24, "intermediate_size": 24, "num_attention_heads": 12,
    "num_key_value_heads": 12, "head_dim": 6, "num_hidden_layers": 4, "hidden_act": "silu", "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}  # fmt: skip
NEMOTRON: dict[str, Any] = {
    "model_type": "nemotron_h", "vocab_size": 37, "hidden_size": 24, "intermediate_size": 24,
    "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 2, "mamba_num_heads": 16, "mamba_head_dim": 3,
    "n_groups": 4, "ssm_state_size": 5, "conv_kernel": 4, "chunk_size": 8, "n_routed_experts": 8,
    "num_experts_per_tok": 2, "moe_intermediate_size": 8, "moe_shared_expert_intermediate_size": 24,
    "routed_scaling_factor": 2.5, "hybrid_override_pattern": "MEMEM*E",
}  # fmt: skip
BLOCKS = {"modules.language.model.pattern": "*-*-*-*-", "modules.language.model.tied": True}
FLOAT32 = {"parameters": "float32", "compute": "float32", "reduce": "float32"}


def dense(name: str, path: Path, **more: Any) -> Config:
    """A named layout whose language model is a Qwen3 from a folder."""
    return override(named_config(name), {**BLOCKS, "modules.language.init_from": str(path), **more})


def hybrid(name: str, path: Path) -> Config:
    """A named layout of the hybrid, whose language model is a Nemotron-H from a folder."""
    return override(hybrid_config(name), {"modules.language.init_from": str(path)})


@pytest.mark.parametrize(
    "name", ["dp2_to_tp2", "colocated_dp4_to_tp2_dp2", "tied_over_pp3_tp2", "replicate_x_shard", "no_sequence_parallel"]
)
def test_a_dense_model_is_the_files(pool: Pool, tmp_path: Path, name: str) -> None:
    expected = write_folder(tmp_path / "model", QWEN, shards=3)
    _demand_equal(pool.run(_loaded_task, dense(name, tmp_path / "model")), expected)


@pytest.mark.parametrize("name", ["ep2_etp2", "tp2_dp2_to_tp2_dp2_ep4", "tp2_pp3", "experts_on_few_shards"])
def test_a_hybrid_with_experts_is_the_files(pool: Pool, tmp_path: Path, name: str) -> None:
    expected = write_folder(tmp_path / "model", NEMOTRON)
    _demand_equal(pool.run(_loaded_task, hybrid(name, tmp_path / "model")), expected)


def test_float32_masters_hold_a_bfloat16_file_exactly(pool: Pool, tmp_path: Path) -> None:
    expected = write_folder(tmp_path / "model", QWEN, torch.bfloat16)
    precision = {"training.precision": FLOAT32 | {"compute": "bfloat16"}}
    loaded = pool.run(_loaded_task, dense("dp2_to_tp2", tmp_path / "model", **precision))
    assert {tensor.dtype for tensor in loaded.values()} == {torch.float32}
    _demand_equal(loaded, {name: tensor.float() for name, tensor in expected.items()})


def test_what_is_fresh_begins_as_without_a_warm_start(pool: Pool, tmp_path: Path) -> None:
    expected = write_folder(tmp_path / "model", QWEN)
    init = {"path": str(tmp_path / "model"), "fresh": ["norm.weight", "layers.1.*"]}
    config = dense("dp2_to_tp2", tmp_path / "model", **{"modules.language.init_from": init})
    fresh = pool.run(_loaded_task, override(config, {"modules.language.init_from": None}))
    names = {name for name in expected if name == "norm.weight" or name.startswith("layers.1.")}
    assert len(names) == 5
    mixed = {name: fresh[name] if name in names else tensor for name, tensor in expected.items()}
    _demand_equal(pool.run(_loaded_task, config), mixed)


def test_another_run_on_another_layout_under_another_name(pool: Pool, tmp_path: Path) -> None:
    """From a tied pipeline to tensor parallelism, with a projector that begins anew."""
    write_folder(tmp_path / "model", QWEN)
    source = dense("tied_over_pp3_tp2", tmp_path / "model", **{"run.dir": str(tmp_path / "run")})
    saved = pool.run(_save_task, source)
    (tmp_path / "run" / "config.yaml").write_text(dump_config(source))
    language = {"path": str(tmp_path / "run"), "module": "language"}
    vision = {"path": str(tmp_path / "run/checkpoints/step-00000003"), "fresh": ["projector.*"]}
    inits = {"modules.language.init_from": language, "modules.vision.init_from": vision, "run.seed": 9}
    config = dense("colocated_dp4_to_tp2_dp2", tmp_path / "model", **inits)
    projector = {"modules.vision.model.projector.activation": "relu2"}
    check_warm_starts(override(config, projector), build_plan(config))
    loads_it = {"modules.vision.init_from.fresh": []}
    with pytest.raises(CheckpointError, match=r"model.projector.activation was 'gelu_tanh' there, got 'relu2'"):
        check_warm_starts(override(config, projector | loads_it), build_plan(config))
    _demand_equal(pool.run(_loaded_task, config), _of(saved, "language"))
    loaded, anew = pool.run(_loaded_task, config, "vision"), _of(saved, "vision")
    kept = {name for name in loaded if not name.startswith("projector.")}
    _demand_equal({name: loaded[name] for name in kept}, {name: anew[name] for name in kept})
    assert not torch.equal(loaded["projector.mlp.up.weight"], anew["projector.mlp.up.weight"])


def test_a_run_goes_on_from_its_own_checkpoint(pool: Pool, tmp_path: Path) -> None:
    """Its values are neither those that it began with nor looked for again: the folder is gone."""
    began = write_folder(tmp_path / "model", QWEN)
    config = dense("dp2_to_tp2", tmp_path / "model", **{"run.dir": str(tmp_path / "run")})
    saved = _of(pool.run(_save_task, config), "language")
    assert not torch.equal(saved["norm.weight"], began["norm.weight"])
    (tmp_path / "model").rename(tmp_path / "gone")
    _demand_equal(pool.run(_resumed_task, config), saved)


@pytest.mark.parametrize("train", ["all", "none"])
def test_training_from_a_model_equals_one_process(pool: Pool, tmp_path: Path, train: str) -> None:
    write_folder(tmp_path / "model", QWEN)
    config = dense("dp2_to_tp2", tmp_path / "model", **{"modules.language.train": train})
    result: CaseResult = pool.run(verify_task, config)
    assert result.holds, result.worst
    cold: CaseResult = pool.run(verify_task, override(config, {"modules.language.init_from": None}))
    assert cold.loss != pytest.approx(result.loss, rel=1e-3)


def test_training_from_a_hybrid_equals_one_process(pool: Pool, tmp_path: Path) -> None:
    write_folder(tmp_path / "model", NEMOTRON)
    result: CaseResult = pool.run(verify_task, hybrid("ep2_etp2", tmp_path / "model"))
    assert result.holds, result.worst


def _demand_equal(loaded: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert loaded.keys() == expected.keys()
    assert [name for name, tensor in expected.items() if not torch.equal(loaded[name], tensor)] == []


def _of(tensors: Mapping[str, Tensor], module: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{module}."): t for key, t in tensors.items() if key.startswith(f"{module}.")}


def _engine(member: Member, config: Config) -> Engine:
    plan, _corpus = prepare_run(config)
    return Engine(config, plan, member.groups(plan), observers=(member.observe,))


def _gathered(member: Member, engine: Engine) -> dict[str, Tensor] | None:
    """Whole tensors of all modules on rank 0; every rank that holds an element must hold the same value."""
    mine = [(one.key, one.block, one.value[one.block.local_slices].clone()) for one in engine.held if one.block.numel]
    group = member.groups(engine.plan).control
    assert group is not None
    gathered: list[Any] = [None] * group.size()
    dist.all_gather_object(gathered, mine, group=group)
    engine.close()
    whole: dict[str, Tensor] = {}
    for key, block, value in (one for held in gathered for one in held):
        target = whole.setdefault(key, torch.full(block.global_shape, torch.nan, dtype=value.dtype))
        place = target[block.global_slices]
        assert bool((place.isnan() | (place == value)).all()), key
        place.copy_(value)
    return whole if member.world.rank == 0 else None


@contextmanager
def _counted() -> Iterator[list[int]]:
    """Counts the elements that are read of safetensors files."""
    read, counts = ModelFolder.read, [0]

    def counting(folder: ModelFolder, name: str, place: Place | None) -> Tensor:
        tensor = read(folder, name, place)
        counts[0] += tensor.numel()
        return tensor

    ModelFolder.read = counting  # type: ignore[method-assign]
    try:
        yield counts
    finally:
        ModelFolder.read = read  # type: ignore[method-assign]


def _loaded_task(member: Member, config: Config, module: str = "language") -> dict[str, Tensor] | None:
    if is_spare(member, config):
        return None
    engine = _engine(member, config)
    with _counted() as counts:
        warm_start(config, engine.plan, engine.held)
    assert counts[0] <= sum(one.block.numel for one in engine.held), "a rank reads no more than it holds"
    whole = _gathered(member, engine)
    return None if whole is None else _of(whole, module)


def _save_task(member: Member, config: Config) -> dict[str, Tensor] | None:
    """Begin warm, move every value a little, save as of step 3; returns what was saved."""
    if is_spare(member, config):
        return None
    engine = _engine(member, config)
    saver = Saver(config, member.groups(engine.plan), Path(config.run.dir))
    assert saver.resume(engine).data_step == 0
    for one in engine.held:
        one.value[one.block.local_slices].add_(0.25)
    engine.optimizer_step = 3
    saver.save(engine, 3, ())
    saver.finish()
    return _gathered(member, engine)


def _resumed_task(member: Member, config: Config) -> dict[str, Tensor] | None:
    if is_spare(member, config):
        return None
    engine = _engine(member, config)
    assert Saver(config, member.groups(engine.plan), Path(config.run.dir)).resume(engine).data_step == 3
    whole = _gathered(member, engine)
    return None if whole is None else _of(whole, "language")
