"""Warm starts on many layouts: every value is the file's, to the last bit, and no rank reads what it does not hold."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from counterpoint.config.load import dump_config
from counterpoint.config.schema import Config
from counterpoint.convert.composite import VISION
from counterpoint.convert.folder import ModelFolder
from counterpoint.convert.links import Place
from counterpoint.errors import CheckpointError
from counterpoint.setup.rank import saver_of
from counterpoint.setup.run import build_models
from counterpoint.setup.warm_starts import check_warm_starts, warm_starts_of
from counterpoint.train.warm.start import warm_start
from counterpoint.verify.case import CaseResult, verify_task
from counterpoint.verify.member import Member
from counterpoint.verify.pool import Pool
from tests.distributed.loaded import demand_equal, engine_of, gathered, tensors_of
from tests.distributed.spare import is_spare
from tests.parity.layouts import hybrid_config, named_config, override
from tests.parity.often import often
from tests.unit.judge.converted import modules_to_ours
from tests.unit.judge.folders import write_folder
from tests.unit.judge.judge import REASON
from tests.unit.judge.whole_configs import config_of, write_judge

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
    least_step = {"modules.language.model.mamba.dt_min": 0.001}  # what a Nemotron-H that names none has
    return override(hybrid_config(name), {"modules.language.init_from": str(path), **least_step})


@pytest.mark.parametrize(
    "name", ["dp2_to_tp2", "colocated_dp4_to_tp2_dp2", "tied_over_pp3_tp2", "replicate_x_shard", "no_sequence_parallel"]
)
def test_a_dense_model_is_the_files(pool: Pool, tmp_path: Path, name: str) -> None:
    expected = write_folder(tmp_path / "model", QWEN, shards=3)
    demand_equal(pool.run(_loaded_task, dense(name, tmp_path / "model")), expected)


@pytest.mark.parametrize("name", often(["tp2_dp2_to_tp2_dp2_ep4", "ep2_etp2", "experts_on_few_shards", "tp2_pp3"], 2))
def test_a_hybrid_with_experts_is_the_files(pool: Pool, tmp_path: Path, name: str) -> None:
    expected = write_folder(tmp_path / "model", NEMOTRON)
    demand_equal(pool.run(_loaded_task, hybrid(name, tmp_path / "model")), expected)


def test_float32_masters_hold_a_bfloat16_file_exactly(pool: Pool, tmp_path: Path) -> None:
    expected = write_folder(tmp_path / "model", QWEN, torch.bfloat16)
    precision = {"training.precision": FLOAT32 | {"compute": "bfloat16"}}
    loaded = pool.run(_loaded_task, dense("dp2_to_tp2", tmp_path / "model", **precision))
    assert {tensor.dtype for tensor in loaded.values()} == {torch.float32}
    demand_equal(loaded, {name: tensor.float() for name, tensor in expected.items()})


def test_what_is_fresh_begins_as_without_a_warm_start(pool: Pool, tmp_path: Path) -> None:
    expected = write_folder(tmp_path / "model", QWEN)
    init = {"path": str(tmp_path / "model"), "fresh": ["norm.weight", "layers.1.*"]}
    config = dense("dp2_to_tp2", tmp_path / "model", **{"modules.language.init_from": init})
    fresh = pool.run(_loaded_task, override(config, {"modules.language.init_from": None}))
    names = {name for name in expected if name == "norm.weight" or name.startswith("layers.1.")}
    assert len(names) == 5
    mixed = {name: fresh[name] if name in names else tensor for name, tensor in expected.items()}
    demand_equal(pool.run(_loaded_task, config), mixed)


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
    other = override(config, {"modules.vision.model.projector.activation": "relu2"})
    check_warm_starts(other, build_models(other))
    loads_it = override(other, {"modules.vision.init_from.fresh": []})
    with pytest.raises(CheckpointError, match=r"model.projector.activation was 'gelu_tanh' there, got 'relu2'"):
        check_warm_starts(loads_it, build_models(loads_it))
    demand_equal(pool.run(_loaded_task, config), tensors_of(saved, "language"))
    loaded, anew = pool.run(_loaded_task, config, "vision"), tensors_of(saved, "vision")
    kept = {name for name in loaded if not name.startswith("projector.")}
    demand_equal({name: loaded[name] for name in kept}, {name: anew[name] for name in kept})
    assert not torch.equal(loaded["projector.mlp.up.weight"], anew["projector.mlp.up.weight"])


def test_a_run_goes_on_from_its_own_checkpoint(pool: Pool, tmp_path: Path) -> None:
    """Its values are neither those that it began with nor looked for again: the folder is gone."""
    began = write_folder(tmp_path / "model", QWEN)
    config = dense("dp2_to_tp2", tmp_path / "model", **{"run.dir": str(tmp_path / "run")})
    saved = tensors_of(pool.run(_save_task, config), "language")
    assert not torch.equal(saved["norm.weight"], began["norm.weight"])
    (tmp_path / "model").rename(tmp_path / "gone")
    demand_equal(pool.run(_resumed_task, config), saved)


@pytest.mark.parametrize("train", ["all", "none"])
def test_training_from_a_model_equals_one_process(pool: Pool, tmp_path: Path, train: str) -> None:
    write_folder(tmp_path / "model", QWEN)
    config = dense("dp2_to_tp2", tmp_path / "model", **{"modules.language.train": train})
    result: CaseResult = pool.run(verify_task, config)
    assert result.holds, str(result.first)
    cold: CaseResult = pool.run(verify_task, override(config, {"modules.language.init_from": None}))
    assert cold.loss != pytest.approx(result.loss, rel=1e-3)


@pytest.mark.parametrize("ranks", [{}, {"language": 1}])
def test_a_whole_llava_starts_both_of_its_modules(pool: Pool, tmp_path: Path, ranks: dict[str, int]) -> None:
    """On two ranks, each module on one or both on both: the values are the file's and training equals one process."""
    pytest.importorskip("transformers", reason=REASON)
    whole, tensors = write_judge("llava", tmp_path / "llava")
    config = config_of(whole, tmp_path / "llava", ranks)
    if not ranks:
        layouts = {"modules.vision.layout": {"ranks": [0, 1]}, "modules.language.layout": {"ranks": [0, 1], "pp": 2}}
        config = override(config, {"world.size": 2} | layouts)
    for module, expected in modules_to_ours(whole, tensors).items():
        # The row that a class token begins with is a sum of two.
        demand_equal(pool.run(_loaded_task, config, module, whole.modules[VISION].model.section.hidden), expected)
    result: CaseResult = pool.run(verify_task, config)
    assert result.holds, str(result.first)


def test_training_from_a_hybrid_equals_one_process(pool: Pool, tmp_path: Path) -> None:
    write_folder(tmp_path / "model", NEMOTRON)
    result: CaseResult = pool.run(verify_task, hybrid("ep2_etp2", tmp_path / "model"))
    assert result.holds, str(result.first)


@contextmanager
def _counted() -> Iterator[list[int]]:
    """Counts the elements that are read of safetensors files."""
    read, counts = ModelFolder.read, [0]

    def counting(folder: ModelFolder, name: str, place: Place | None) -> Tensor:
        tensor = read(folder, name, place)
        counts[0] += tensor.numel()
        return tensor

    with patch.object(ModelFolder, "read", counting):
        yield counts


def _loaded_task(member: Member, config: Config, module: str = "language", summed: int = 0) -> dict[str, Tensor] | None:
    if is_spare(member, config):
        return None
    engine = engine_of(member, config)
    with _counted() as counts:
        warm_start(warm_starts_of(config, build_models(config)), engine.held)
    assert counts[0] <= sum(one.block.numel for one in engine.held) + summed, "a rank reads no more than it holds"
    whole = gathered(member, engine)
    return None if whole is None else tensors_of(whole, module)


def _save_task(member: Member, config: Config) -> dict[str, Tensor] | None:
    """Begin warm, move every value a little, save as of step 3; returns what was saved."""
    if is_spare(member, config):
        return None
    engine = engine_of(member, config)
    saver = saver_of(config, build_models(config), member.groups(engine.plan))
    assert saver.resume(engine).state.data_step == 0
    for one in engine.held:
        one.value[one.block.local_slices].add_(0.25)
    engine.optimizer_step = 3
    saver.save(engine, 3, ())
    saver.finish()
    return gathered(member, engine)


def _resumed_task(member: Member, config: Config) -> dict[str, Tensor] | None:
    if is_spare(member, config):
        return None
    engine = engine_of(member, config)
    assert saver_of(config, build_models(config), member.groups(engine.plan)).resume(engine).state.data_step == 3
    whole = gathered(member, engine)
    return None if whole is None else tensors_of(whole, "language")
