"""Encoders and whole models start from the folders that transformers writes: every value is the converter's."""

from pathlib import Path

import pytest
from torch import Tensor

from counterpoint.config.schema import Config
from counterpoint.setup.run import build_models
from counterpoint.setup.warm_starts import warm_starts_of
from counterpoint.train.warm.start import warm_start
from counterpoint.verify.member import Member
from counterpoint.verify.pool import Pool
from tests.distributed.loaded import demand_equal, engine_of, gathered, tensors_of
from tests.distributed.spare import is_spare
from tests.parity.often import often
from tests.unit.judge.converted import modules_to_ours
from tests.unit.judge.judge import REASON
from tests.unit.judge.whole_configs import FOLDERS, config_of, write_judge

pytest.importorskip("transformers", reason=REASON)


@pytest.mark.parametrize("name", often(FOLDERS, 3))
def test_modules_hold_what_the_converter_says(pool: Pool, tmp_path: Path, name: str) -> None:
    whole, tensors = write_judge(name, tmp_path / "folder")
    loaded = pool.run(_loaded_task, config_of(whole, tmp_path / "folder", {}))
    for module, expected in modules_to_ours(whole, tensors).items():
        found, is_added = tensors_of(loaded, module), whole.modules[module].adds_projector
        demand_equal({n: t for n, t in found.items() if not (is_added and n.startswith("projector."))}, expected)


def _loaded_task(member: Member, config: Config) -> dict[str, Tensor] | None:
    if is_spare(member, config):
        return None
    engine = engine_of(member, config)
    warm_start(warm_starts_of(config, build_models(config)), engine.held)
    return gathered(member, engine)
