"""A step that is not finite: skipped on all ranks alike, its document named and left out, also by the next start."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.data.corpus import Corpus
from counterpoint.errors import RunError
from counterpoint.modalities.images.patches import PatchPayload
from counterpoint.plan.samples import Document
from counterpoint.setup.rank import saver_of, settings_of
from counterpoint.setup.run import build_models, prepare_run
from counterpoint.sources.synthetic.source import SyntheticSource
from counterpoint.train.engine import Engine
from counterpoint.train.state.exclusions import EXCLUSIONS_FILE
from counterpoint.verify.command import as_verified
from counterpoint.verify.member import Member
from counterpoint.verify.pool import Pool
from counterpoint.verify.reference import Reference
from tests.distributed.optimizers import MUON, adamw_states
from tests.distributed.spare import is_spare
from tests.distributed.trained import train
from tests.parity.layouts import TINY, override, pair

BROKEN_STEP, STEPS = 1, 5
LAYOUT = pair(4, {"ranks": [0, 1]}, {"ranks": [2, 3], "tp": 2})


def config_of(folder: Path, **keys: Any) -> Config:
    """Few steps of the dense pair, which go on from a checkpoint in a folder."""
    changed = {"run.dir": str(folder), "training.steps": STEPS, "training.global_batch_samples": 6}
    changed |= {"checkpoint.asynchronous": False, "log.tensorboard": False} | keys
    return as_verified(override(load_config(TINY), LAYOUT | changed), "float64")


def bad_document(corpus: Corpus) -> Document:
    """One of the step that is to break, with an image and tokens after it that have a loss."""
    documents = [document for pack in corpus.packs(BROKEN_STEP) for document in pack]
    return next(d for d in documents if d.items and d.loss_tokens and d.items[0].position < d.tokens - d.items[0].rows)


@contextmanager
def poisoned(index: int) -> Iterator[None]:
    """The images of one document have pixels that are not numbers."""
    plain = SyntheticSource.item

    def item(source: SyntheticSource, number: int, which: int) -> Any:
        payload = plain(source, number, which)
        if number == index and isinstance(payload, PatchPayload):
            return replace(payload, patches=np.full_like(payload.patches, np.nan))
        return payload

    with patch.object(SyntheticSource, "item", item):
        yield


def _skip_task(member: Member, config: Config) -> object:
    """What is not as in one process that never meets the step that breaks, in words."""
    if is_spare(member, config):
        return None
    bad = bad_document(prepare_run(config).corpus)
    with poisoned(bad.index):
        heard, engine, corpus = train(member, config)
    resumed = Engine(
        settings_of(config), engine.plan, build_models(config), member.groups(engine.plan), (member.observe,)
    )
    saver_of(config, build_models(config), member.groups(engine.plan)).resume(resumed)
    counts = {float(state["step"]) for optimizer in resumed.optimizers.values() for state in adamw_states(optimizer)}
    kept = [torch.equal(a.value, b.value) for a, b in zip(engine.held, resumed.held, strict=True)]
    resumed.close()
    if member.world.rank != engine.plan.placement.active[0]:
        return None
    reference = Reference(config, corpus.sources, member.world.device, torch.float64)
    differences = []
    for result, documents in heard.steps:
        expected = reference.step(documents)
        pairs = ((result.loss, expected.loss), (result.norm, expected.norm))
        differences += [abs(ours - theirs) / abs(theirs) for ours, theirs in pairs]
    return {
        "skipped": [(f.step, f.excluded == (bad,), f.is_model, f.names) for f in heard.findings],
        "compared": len(heard.steps),
        "worst": max(differences),
        "updates": counts,
        "kept": all(kept),
        "bad": bad.index,
    }


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_skipped_step_leaves_training_as_without_it(pool: Pool, tmp_path: Path, kind: str) -> None:
    """Losses and norms of all other steps equal one process without it; the checkpoint knows of it."""
    config = config_of(tmp_path, **{"training.skip_nonfinite": 1})
    found = pool.run(_skip_task, override(config, MUON) if kind == "muon" else config)
    bad = found["bad"]
    assert found["skipped"] == [(BROKEN_STEP, True, False, (f"document {bad} of synthetic dataset 0",))]
    assert found["compared"] == STEPS - 1
    assert found["worst"] < 1e-9
    assert found["updates"] == {STEPS - 1.0}
    assert found["kept"]
    state = json.loads((tmp_path / "checkpoints" / f"step-{STEPS:08d}" / "state.json").read_text())
    assert state["skipped"] == 1
    assert [entry[:2] for entry in state["exclusions"]] == [[0, bad]]


def _refused_task(member: Member, config: Config) -> object:
    """What the run ends with, and what the next start of it meets."""
    if is_spare(member, config):
        return None
    bad = bad_document(prepare_run(config).corpus)
    with poisoned(bad.index):
        with pytest.raises(RunError) as caught:
            train(member, config)
        heard, engine, _corpus = train(member, config)
    met = [bad.index in {document.index for document in documents} for _result, documents in heard.steps]
    if member.world.rank != engine.plan.placement.active[0]:
        return None
    return bad.index, str(caught.value), met, len(heard.findings)


def test_a_run_that_ends_names_the_document_and_goes_on_without_it(pool: Pool, tmp_path: Path) -> None:
    bad, said, met, skipped = pool.run(_refused_task, config_of(tmp_path))
    broken = "the loss and the gradient of vision and the gradient of language are not finite"
    assert said.startswith(f"step {BROKEN_STEP}: {broken}, nothing was updated; ")
    assert f"left out from now on, is document {bad} of synthetic dataset 0; look at its files and resume" in said
    assert (met, skipped) == ([False] * STEPS, 0)
    assert (tmp_path / EXCLUSIONS_FILE).is_file()
