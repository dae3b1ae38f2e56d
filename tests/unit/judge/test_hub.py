"""A run that starts from a folder of any family, in any of its forms, computes what transformers computes with it."""

from pathlib import Path

import pytest

from tests.unit.judge.hub_folders import cases_of, write_hub_folder
from tests.unit.judge.hub_judge import assert_same, judge_folder, start_folder
from tests.unit.judge.judge import REASON

pytest.importorskip("transformers", reason=REASON)

IN_SUITE = {
    ("llama", "published"), ("qwen3_moe", "memory"), ("nemotron_h", "dropped"), ("radio", "dropped"),
    ("radio", "memory"), ("llava", "memory"), ("qwen2_5_vl", "published"),
    ("whisper with a head", "again"), ("parakeet_ctc", "shards"),
}  # fmt: skip


@pytest.mark.parametrize(("family", "seed", "variant"), cases_of(IN_SUITE))
def test_a_start_from_any_folder_equals_transformers_in_float64(
    family: str, seed: int, variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    write_hub_folder(family, seed, variant, folder)
    verdict = judge_folder(family, folder, tmp_path / "gradients", monkeypatch)
    said, gradients = start_folder(family, folder)
    assert_same(verdict, said, gradients)
