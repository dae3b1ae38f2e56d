"""A run leaves as a folder that transformers loads: trained on four ranks, written by them, and judged."""

from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from counterpoint.config.load import dump_config
from counterpoint.config.schema import Config
from counterpoint.convert.composite import LANGUAGE, CompositeModel
from counterpoint.data.feed.reader import Reader
from counterpoint.hub.base import BaseFolder
from counterpoint.hub.write import write_export
from counterpoint.setup.bases import record_bases
from counterpoint.setup.export import ExportRequest, prepare_export
from counterpoint.setup.rank import saver_of
from counterpoint.setup.run import prepare_run
from counterpoint.verify.member import Member
from counterpoint.verify.pool import Pool
from tests.distributed.loaded import engine_of, gathered, tensors_of
from tests.distributed.spare import is_spare
from tests.parity.layouts import override
from tests.unit.judge.converted import modules_from_ours
from tests.unit.judge.hub_configs import FAMILIES, random_config
from tests.unit.judge.hub_folders import VARIANTS, write_hub_folder
from tests.unit.judge.hub_judge import load_lifted, sides, start_folder
from tests.unit.judge.judge import REASON
from tests.unit.judge.whole_configs import config_of

CLOSE = 1e-9
FOUR = {"ranks": [0, 1, 2, 3], "tp": 2}

DIVIDED = ("num_attention_heads", "num_heads", "encoder_attention_heads", "mamba_num_heads", "n_groups")


def seeds_of(family: str) -> list[int]:
    """The first three seeds of a family whose models tp of 2 can divide: numbers of heads and of groups are even."""
    found = (seed for seed in count() if all(n % 2 == 0 for n in _divided(random_config(family, seed))))
    return list(islice(found, 3))


def _divided(config: Any) -> Iterator[int]:
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _divided(value)
        elif key in DIVIDED:
            yield value


CASES = [
    pytest.param("llava", seeds_of("llava")[0], "published"),
    *(
        pytest.param(family, seeds_of(family)[which], variant, marks=pytest.mark.more)
        for family, which, variant in (
            ("llama", 0, "shards"), ("llama", 1, "again"), ("llama", 2, "published"), ("qwen2", 0, "published"),
            ("qwen3_moe", 0, "memory"), ("qwen3_moe", 1, "whole"), ("llama", 1, "dropped"),
            ("nemotron_h", 0, "whole"), ("gemma3_text", 0, "published"), ("qwen2_5_vl", 0, "published"),
            ("qwen3_vl", 0, "memory"), ("whisper", 0, "whole"), ("whisper with a head", 0, "published"),
            ("siglip_vision_model", 0, "whole"), ("clip", 0, "shards"), ("radio", 0, "dropped"),
            ("radio", 1, "whole"), ("parakeet_ctc", 0, "whole"), ("nemotron_h_omni with sound", 0, "whole"),
        )
    ),
    *(
        pytest.param(family, seed, variant, marks=pytest.mark.sweep, id=f"{family}, {variant}, {seed}")
        for family in FAMILIES
        for seed, variant in (
            *((seed, "whole") for seed in seeds_of(family)),
            *((seeds_of(family)[0], variant) for variant in VARIANTS[1:]),
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize(("family", "seed", "variant"), CASES)
def test_transformers_loads_what_was_trained(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, seed: int, variant: str
) -> None:
    pytest.importorskip("transformers", reason=REASON)
    write_hub_folder(family, seed, variant, tmp_path / "base")
    base = _tensors(tmp_path / "base")
    whole = BaseFolder(tmp_path / "base").model
    config = _on_four_ranks(config_of(whole, tmp_path / "base", {}))
    module = None if LANGUAGE in whole.modules else next(iter(whole.modules))
    request = ExportRequest(run=Path(config.run.dir), out=tmp_path / "out", module=module)
    trained = pool.run(_train_task, config, request)
    modules = {name: tensors_of(trained, name) for name in whole.modules}
    found = _tensors(tmp_path / "out")
    written = modules_from_ours(whole, {name: _known(whole, name, tensors) for name, tensors in modules.items()})
    for name, tensor in base.items():
        # transformers keeps routers in float32, whatever it is asked for.
        expected = written.get(whole.spell(name), tensor).to(tensor.dtype)
        assert (found[name].dtype, torch.equal(found[name], expected)) == (tensor.dtype, True), name
    assert {whole.spell(name) for name in found} == {whole.spell(name) for name in base} | written.keys()
    model = load_lifted(family, tmp_path / "out", monkeypatch)
    # What lies there is what was trained, so a run that starts from it answers as the trained one.
    theirs, _ours = sides(family, whole)
    said, _gradients = start_folder(family, tmp_path / "out")
    torch.testing.assert_close(theirs(model).answer, said.answer, rtol=CLOSE, atol=CLOSE)


def _known(whole: CompositeModel, module: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    linked = {name for link in whole.modules[module].links for name in link.ours}
    return {name: tensor for name, tensor in tensors.items() if name in linked}


def _tensors(folder: Path) -> dict[str, Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def _on_four_ranks(config: Config) -> Config:
    """The same modules on tp2 x dp2; a single key-value head is copied."""
    return override(config, {"world.size": 4, **{f"modules.{name}.layout": FOUR for name in config.modules}})


def _train_task(member: Member, config: Config, request: ExportRequest) -> dict[str, Tensor] | None:
    """Two steps from a folder, a checkpoint, and the export of it by the same ranks."""
    if is_spare(member, config):
        return None
    run, rank = Path(config.run.dir), member.world.rank
    if rank == 0:
        run.mkdir(parents=True, exist_ok=True)
        (run / "config.yaml").write_text(dump_config(config))
        record_bases(run, config)
    engine = engine_of(member, config)
    plan, models, corpus = prepare_run(config)
    groups = member.groups(engine.plan)
    saver = saver_of(config, models, groups)
    reader = Reader(plan, rank, corpus.sources, torch.float64)
    assert saver.resume(engine).state.data_step == 0
    for step in range(2):
        engine.train_step(reader.read(plan.batch(step, corpus.packs(step))))
    saver.save(engine, 2, ())
    saver.finish()
    write_export(prepare_export(request, config.world.size), rank, groups.storage)
    return gathered(member, engine)
