"""What torchrun and Slurm leave in the environment: who is a rank of theirs, and junk in one sentence."""

from pathlib import Path

import pytest

from counterpoint.launch import adopt_slurm, check_world, is_joined
from tests.unit.cli.conftest import Command

TORCHRUN = {
    "RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29500",
}  # fmt: skip
SRUN = {
    "SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "1",
    "SLURM_JOB_ID": "40007", "SLURM_JOB_NODELIST": "gpu[003-007,9],cpu1", "SLURM_NODEID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
}  # fmt: skip


def test_ranks_of_torchrun_and_srun_are_joined() -> None:
    assert is_joined(TORCHRUN)
    assert is_joined(SRUN)
    assert not is_joined({})


@pytest.mark.parametrize(
    "environment",
    [
        {"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "7"},
        {"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "1"},
        {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"},
    ],
    ids=["batch script", "one task", "allocation"],
)
def test_no_rank_of_slurm(environment: dict[str, str]) -> None:
    assert not is_joined(environment)
    before = dict(environment)
    adopt_slurm(environment)
    assert environment == before


def test_slurm_becomes_torchrun() -> None:
    environment = dict(SRUN)
    adopt_slurm(environment)
    assert check_world(4, environment) == 3
    assert environment["LOCAL_RANK"] == "1"
    assert environment["MASTER_ADDR"] == "gpu003"
    assert environment["MASTER_PORT"] == "20007"


@pytest.mark.parametrize(
    ("tasks", "node", "local"), [("4", "0", "4"), ("2(x2)", "1", "2"), ("8(x4),3,2", "4", "3"), ("8(x4),3,2", "5", "2")]
)
def test_ranks_of_slurm_know_how_many_share_their_node(tasks: str, node: str, local: str) -> None:
    environment = SRUN | {"SLURM_STEP_TASKS_PER_NODE": tasks, "SLURM_NODEID": node}
    adopt_slurm(environment)
    assert environment["LOCAL_WORLD_SIZE"] == local


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"RANK": "one"}, "RANK: got 'one' in the environment, expected a whole number"),
        ({"RANK": "-1"}, "RANK: got '-1'"),
        ({"RANK": "4"}, "RANK: got 4 of 4 ranks, expected 0 to 3"),
        ({"WORLD_SIZE": ""}, "WORLD_SIZE: got ''"),
        ({"LOCAL_RANK": "x"}, "LOCAL_RANK: got 'x'"),
        ({"LOCAL_WORLD_SIZE": "x"}, "LOCAL_WORLD_SIZE: got 'x'"),
        ({"LOCAL_WORLD_SIZE": "0"}, "LOCAL_RANK: got 1 of LOCAL_WORLD_SIZE 0"),
        ({"LOCAL_RANK": "4"}, "LOCAL_RANK: got 4 of LOCAL_WORLD_SIZE 4, expected a lower number"),
        ({"MASTER_PORT": "http"}, "MASTER_PORT: got 'http'"),
        ({"MASTER_PORT": "65536"}, "MASTER_PORT: got 65536, expected 1 to 65535"),
        ({"MASTER_PORT": "0"}, "MASTER_PORT: got 0, expected 1 to 65535"),
        ({"MASTER_ADDR": ""}, "MASTER_ADDR: got nothing"),
    ],
)
def test_junk_of_torchrun(
    counterpoint: Command, config: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, str], words: str
) -> None:
    for name, value in (TORCHRUN | change).items():
        monkeypatch.setenv(name, value)
    ended = counterpoint("train", config)
    assert ended.code == 2, ended.err
    assert words in ended.err
    assert "start ranks with torchrun or srun" in ended.err
    assert len(ended.err.splitlines()) == 1


@pytest.mark.parametrize(
    "name",
    [
        "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_JOB_ID", "SLURM_NODEID",
        "SLURM_STEP_TASKS_PER_NODE",
    ],
)  # fmt: skip
def test_junk_of_slurm(counterpoint: Command, config: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for rank in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        # Setting it first makes the fixture take away again what the command itself sets.
        monkeypatch.setenv(rank, "0")
        monkeypatch.delenv(rank)
    for known, value in (SRUN | {name: "junk"}).items():
        monkeypatch.setenv(known, value)
    ended = counterpoint("train", config)
    assert ended.code == 2, ended.err
    assert "got 'junk' in the environment" in ended.err
    assert len(ended.err.splitlines()) == 1


def test_rank_0_keeps_other_runs_out(
    counterpoint: Command, config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from counterpoint.setup.run_folder import lock_run_folder

    with lock_run_folder(tmp_path / "run"):
        for name, value in TORCHRUN.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(AssertionError, match="as far as starting ranks"):
            counterpoint("train", config)
        monkeypatch.setenv("RANK", "0")
        ended = counterpoint("train", config)
        assert ended.code == 2
        assert "is in use by another run" in ended.err
