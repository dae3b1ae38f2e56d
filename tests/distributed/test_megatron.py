"""An encoder of Megatron's on the ranks: its features are transformers', and training goes on as in one process."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config, InitFromConfig
from counterpoint.families import rules_of
from counterpoint.families.parts import parts_of
from counterpoint.models.chain import MAIN, build_chain
from counterpoint.parallelize.blocks import block_of
from counterpoint.parallelize.exchange import TensorGroup
from counterpoint.parallelize.tensor import apply_tensor_parallel
from counterpoint.setup.run import build_models
from counterpoint.setup.warm_starts import warm_starts_of
from counterpoint.train.state import archive
from counterpoint.train.warm.start import WarmStart, warm_start
from counterpoint.verify.case import CaseResult, verify_task
from counterpoint.verify.command import as_verified
from counterpoint.verify.member import Member
from counterpoint.verify.pool import Pool
from tests.distributed.loaded import engine_of, gathered
from tests.distributed.spare import is_spare
from tests.parity.layouts import override
from tests.unit.judge.judge import REASON, quiet, randomize
from tests.unit.judge.towers import build_lifted, grid_of, make_judge, picture_batch, picture_rows, pictures, stored
from tests.unit.train.warm.megatron_folders import (
    HIDDEN,
    PATCH,
    RADIO,
    as_megatron,
    random_encoder,
    tower,
    write_chunks,
    write_torch_dist,
    write_whole,
)

pytest.importorskip("transformers", reason=REASON)

LIFTED, NOTICED = 1e-9, 1e-4
GRIDS = ((4, 4), (2, 3), (3, 1), (1, 7))
"""With the learned rows of each, 72 rows: four ranks have as many each."""


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Tensor], Tensor]:
    """A RADIO of transformers without LayerScale: what it saves, and its features of some pictures."""
    quiet()
    with pytest.MonkeyPatch.context() as lifting:
        model = build_lifted(lambda: make_judge(RADIO), lifting)
        randomize(model)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "layer_scale" in name:
                    parameter.fill_(1.0)
        _config, tensors = stored(model, tmp_path_factory.mktemp("judge"))
        model.make_preprocessor_external()
        section = tower().section
        images = pictures(GRIDS, PATCH)
        grids = torch.tensor([grid_of(image, section) for image in images])
        with torch.no_grad():
            features = model(pixel_values=picture_rows(images, section), image_grid_hw=grids).features
    return {name: tensor for name, tensor in tensors.items() if "layer_scale" not in name}, features


def test_features_equal_those_of_transformers(
    pool: Pool, tmp_path: Path, judged: tuple[dict[str, Tensor], Tensor]
) -> None:
    """On one, two and four tensor-parallel ranks, from chunks of two; no rank reads another's rows."""
    theirs, expected = judged
    write_chunks(tmp_path / "saved", as_megatron(theirs))
    for size in (1, 2, 4):
        found = pool.run(_features_task, str(tmp_path / "saved"), size)
        assert _distance(found, expected) <= LIFTED, size
    write_whole(tmp_path / "thirds", as_megatron(theirs, thirds=True))
    assert _distance(pool.run(_features_task, str(tmp_path / "thirds"), 1), expected) > NOTICED


def _distance(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max()).item()


def _features_task(member: Member, path: str, size: int) -> Tensor | None:
    """The features of the pictures on the first `size` ranks, gathered on the first."""
    ranks = list(range(size))
    group = dist.new_group(ranks) if size > 1 else None
    rank = member.world.rank
    if rank >= size:
        return None
    model = tower()
    with torch.device("meta"):
        chain = build_chain(parts_of(model)).to(torch.float64)
    tensor_group = None if group is None else TensorGroup(group, rank, size)
    shardings = apply_tensor_parallel(chain, tensor_group, True, rules_of(model.section))
    chain.to_empty(device="cpu")
    blocks = {n: (block_of(n, shardings[n], rank, size, 0, 1), p.detach()) for n, p in chain.named_parameters()}
    projector = blocks.pop("projector.linear.weight")
    projector[1].copy_(torch.eye(HIDDEN, dtype=torch.float64)[projector[0].global_slices])
    with _counted() as counts:
        values, _fresh = WarmStart("vision", model, InitFromConfig(path=path, fresh=("projector.*",))).open()
        values.fill(blocks)
    assert counts[0] == 8 * sum(block.numel for block, _tensor in blocks.values()), "a rank reads what it holds"
    whole, kept = picture_batch(pictures(GRIDS, PATCH), model)
    own = slice(rank * len(whole.patches) // size, (rank + 1) * len(whole.patches) // size)
    cut = {name: getattr(whole, name)[own] for name in ("patches", "coordinates", "grids", "prefix")}
    with torch.no_grad():
        rows = chain(None, replace(whole, **cut))[MAIN]
    gathered = [torch.empty_like(rows) for _rank in ranks]
    if group is not None:
        dist.all_gather(gathered, rows, group=group)
        dist.destroy_process_group(group)
    return None if rank else (rows if group is None else torch.cat(gathered))[kept]


def _config(path: Path, run: Path, size: int) -> Config:
    """A run of two encoder ranks, with tensor parallelism, beside two of a decoder that reads pictures."""
    section = tower().section.model_dump(exclude={"image"})
    section |= {"image": {"max_patches": 16}, "projector": {"kind": "mlp", "hidden": 12}}
    decoder = {"kind": "decoder", "pattern": "*-*-", "hidden": 24, "heads": 2, "ffn": 8, "vocab": 30}
    side = {"kind": "constant", "value": 3 * PATCH}
    synthetic = {
        "documents": 16, "text_tokens": {"kind": "uniform", "low": 2, "high": 9}, "image_height": side,
        "image_width": side, "images_per_document": {"kind": "uniform", "low": 0, "high": 2},
    }  # fmt: skip
    optimizer = {"lr": 1e-3}
    config = {
        "run": {"dir": str(run), "device": "cpu"},
        "world": {"size": size},
        "modules": {
            "vision": {
                "model": section,
                "layout": {"ranks": [0, 1], "tp": 2},
                "init_from": {"path": str(path), "prefix": "vision_model", "fresh": ["projector.*"]},
                "optimizer": optimizer,
            },
            "language": {"model": decoder, "layout": {"ranks": [2, 3]}, "optimizer": optimizer},
        },
        "edges": [{"source": "vision", "target": "language"}],
        "schedule": {"microbatches": 2},
        "data": {"train": [{"synthetic": synthetic}], "sequence_tokens": 128},
        "training": {"steps": 2, "global_batch_samples": 4},
    }
    return as_verified(load_config(config), "float64")


def test_two_steps_on_disjoint_ranks_equal_one_process(
    pool: Pool, tmp_path: Path, judged: tuple[dict[str, Tensor], Tensor]
) -> None:
    """From an iteration of Megatron's own format, whose layers are stacked; a cold start is something else."""
    write_torch_dist(tmp_path / "saved", as_megatron(judged[0]))
    config = _config(tmp_path / "saved", tmp_path / "run", 4)
    result: CaseResult = pool.run(verify_task, config)
    assert result.holds, str(result.first)
    cold: CaseResult = pool.run(verify_task, override(config, {"modules.vision.init_from": None}))
    assert cold.loss != pytest.approx(result.loss, rel=1e-6)


@pytest.mark.more
def test_float32_masters_hold_a_bfloat16_checkpoint_exactly(pool: Pool, tmp_path: Path) -> None:
    theirs = random_encoder(torch.bfloat16)
    write_torch_dist(tmp_path / "saved", as_megatron(theirs))
    precision = {"parameters": "float32", "compute": "bfloat16", "reduce": "float32"}
    config = override(_config(tmp_path / "saved", tmp_path / "run", 4), {"training.precision": precision})
    loaded = pool.run(_loaded_task, config)
    expected = theirs["radio_model.model.blocks.2.attn.qkv.weight"].float()
    assert torch.equal(torch.cat([loaded[f"vision.layers.2.attention.{x}.weight"] for x in "qkv"]), expected)


def _loaded_task(member: Member, config: Config) -> dict[str, Tensor] | None:
    if is_spare(member, config):
        return None
    engine = engine_of(member, config)
    warm_start(warm_starts_of(config, build_models(config)), engine.held)
    return gathered(member, engine)


@contextmanager
def _counted() -> Iterator[list[int]]:
    """Counts the bytes of elements that are read of a checkpoint."""
    counts, read_into = [0], archive.read_into

    def counting(descriptor: int, view: memoryview, position: int) -> None:
        counts[0] += len(view)
        read_into(descriptor, view, position)

    with patch.object(archive, "read_into", counting):
        yield counts
