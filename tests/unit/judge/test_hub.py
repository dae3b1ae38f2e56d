"""A run that starts from a folder of any family, in any of its forms, computes what transformers computes with it."""

from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from tests.unit.judge.hub_folders import FAMILIES, VARIANTS, write_hub_folder
from tests.unit.judge.hub_judge import judge_folder, start_folder
from tests.unit.judge.judge import REASON
from tests.unit.judge.test_towers import FLOOR, LIFTED, distance

pytest.importorskip("transformers", reason=REASON)

SEEDS = range(3)
IN_SUITE = {
    ("llama", "published"), ("qwen3_moe", "memory"), ("nemotron_h", "dropped"), ("radio", "dropped"),
    ("radio", "memory"), ("llava", "memory"), ("qwen2_5_vl", "published"),
    ("whisper with a head", "again"), ("parakeet_ctc", "shards"),
}  # fmt: skip


def cases() -> list[ParameterSet]:
    """Every family in every form, three times; most for whoever changes what reads them."""
    return [
        pytest.param(
            family,
            seed,
            variant,
            marks=() if seed == 0 and (family, variant) in IN_SUITE else pytest.mark.more,
            id=f"{family}-{variant}-{seed}",
        )
        for family in FAMILIES
        for variant in VARIANTS
        for seed in SEEDS
    ]


@pytest.mark.parametrize(("family", "seed", "variant"), cases())
def test_a_start_from_any_folder_equals_transformers_in_float64(
    family: str, seed: int, variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    write_hub_folder(family, seed, variant, folder)
    verdict = judge_folder(family, folder, tmp_path / "gradients", monkeypatch)
    said, gradients = start_folder(family, folder)
    assert distance(said.answer.detach(), verdict.answer) <= LIFTED
    assert abs(float(said.loss.detach()) - verdict.loss) <= LIFTED * abs(verdict.loss)
    for module, expected in verdict.gradients.items():
        found = gradients[module]
        # What has no gradient are buffers; what only we have is the projector that changes nothing.
        trained = [name for name in found if name in expected or not name.startswith("projector.")]
        floor = FLOOR * max(float(expected[name].abs().max()) for name in trained)
        different = {name: distance(found[name], expected[name], floor) for name in trained}
        assert {name: value for name, value in different.items() if value > LIFTED} == {}, module
