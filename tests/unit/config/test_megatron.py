"""Megatron's names are answered with keys that exist, on the command line and in the docs."""

import re
from pathlib import Path

import pytest

from counterpoint.config import is_known, known_keys, megatron_hint
from counterpoint.config.megatron import TABLE

COMMANDS = {
    "prepare",
    "plan",
    "train",
    "verify",
    "evaluate",
    "generate",
    "inspect",
    "import",
    "export",
    "search",
    "report",
}
DRAFT = [
    "HyperCommGrid", "ModuleGridSpec", "--encoder-tp", "--llm-dp", "--llm-offset",
    'register_view("expert")', "--encoder-expert-tp", "module_to_grid_map", "create_topology", "RankRole",
    "MultiModuleProcessGroupCollection", "ProcessGroupCollection", ".from_hyper_comm_grid",
    "MimoModelInfra", "parallel_state", "MimoModel", "MimoModelProvider", "ModuleSpec",
    "--model-provider", "BridgeCommunicator", "MultiModulePipelineCommunicator", "MimoOptimizer",
    "MimoSetup", "MimoRuntime", "--use-distributed-optimizer", "finalize_model_grads_multimodule",
    "multimodule_no_sync", "correct_encoder_grad_for_partial_participation", "force_all_reduce",
    "pretrain_mimo", "train_mimo", "mimo_step", "MimoDatasetProvider", "hf_provider", "mimo_collate_fn",
    "get_mimo_dp_info", "MockVLMIterator", "--image-token-id", "--image-seq-length",
    "--dynamic-resolution", "--pixel-shuffle", "--disable-vision-class-token", "--freeze-vit",
    "--freeze-lm", "--radio-force-eval-mode", "--training-stage", "--load-vision-from", "--load",
    "--dataloader-save", "--no-load-strict", "--allow-missing-vision-projection-checkpoint",
    "eval_interval", "eval_iters", "throughput_world_size", "--llm-only",
    "run_hetero_nemotron_20l_mock_train.sh",
]  # fmt: skip


@pytest.mark.parametrize("name", DRAFT)
def test_every_name_has_an_answer(name: str) -> None:
    assert megatron_hint(name) is not None


def test_no_name_stands_twice() -> None:
    names = [name for row in TABLE for name in row.theirs]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("argument", "answer"),
    [
        ("--encoder-tp=2", "here it is modules.vision.layout.tp=2 "),
        ("--encoder-tp", "here it is modules.vision.layout.tp "),
        ("llm_dp=4", "here it is modules.language.layout.dp_shard=4 "),
        ("--use-distributed-optimizer=1", "modules.*.layout.dp_shard and modules.*.layout.dp_replicate "),
        ("pretrain_mimo=1", "here it is counterpoint train "),
        ("--image-token-id", "nothing to set here"),
    ],
)
def test_the_answer_is_what_to_write(argument: str, answer: str) -> None:
    assert answer in (megatron_hint(argument) or "")


@pytest.mark.parametrize("argument", ["training.steps=3", "--html", "", "lrr=1"])
def test_other_arguments_are_not_megatrons(argument: str) -> None:
    assert megatron_hint(argument) is None


def test_every_key_of_the_docs_exists(repository: Path) -> None:
    text = (repository / "docs" / "from-megatron-mimo.md").read_text()
    assert _markdown_table() in text, "docs/from-megatron-mimo.md: its table is not _markdown_table(); paste it again"
    known = known_keys()
    named = [name for row in TABLE for name in row.ours]
    named += [name for name in re.findall(r"`([^`]+)`", text) if re.fullmatch(r"[a-z_*]+(\.[a-z_*]+)+", name)]
    commands = {name.removeprefix("counterpoint ") for name in named if name.startswith("counterpoint ")}
    keys = {name for name in named if not name.startswith("counterpoint ")} - {"run_hetero_nemotron_20l_mock_train.sh"}
    assert commands <= COMMANDS
    assert not {key for key in keys if not is_known(key, known)}


@pytest.mark.parametrize(
    "argument", ["--freeze-vit=1", "--micro-batch-size=4", "--llm-offset=2", "--bf16=true", "--load=runs/x"]
)
def test_a_value_that_means_something_else_is_not_repeated(argument: str) -> None:
    answer, value = megatron_hint(argument) or "", argument.partition("=")[2]
    assert "here it is" in answer
    assert f"={value}" not in answer


def test_what_is_not_covered_is_said() -> None:
    assert "no run of Megatron is resumed" in (megatron_hint("--load") or "")
    for name in ("--load-nemotron-checkpoint", "--audio-encoder-checkpoint"):
        assert "only the encoder of images is read" in (megatron_hint(name) or "")
    assert "Hub are read as published" in (megatron_hint("hf_provider") or "")
    assert "loading is always strict" in (megatron_hint("--no-load-strict") or "")


def test_what_loads_an_encoder_there_does_so_here() -> None:
    answer = megatron_hint("--load-vision-from=checkpoints/radio") or ""
    assert "modules.vision.init_from=checkpoints/radio" in answer
    assert "`prefix` names the encoder and `skip` what is not read" in answer


def _markdown_table() -> str:
    """The table as it stands in docs/from-megatron-mimo.md."""
    lines = ["| Megatron MIMO | counterpoint | |", "|---|---|---|"]
    for row in TABLE:
        theirs = ", ".join(f"`{name}`" for name in row.theirs)
        ours = ", ".join(f"`{name}`" for name in row.ours) or "nothing to set"
        lines.append(f"| {theirs} | {ours} | {row.remark} |")
    return "\n".join(lines) + "\n"
