"""The loss of an evaluation split is the mean over its loss tokens, however they fall into batches."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from counterpoint.data.feed.reader import Reader, StepInputs
from counterpoint.execute.tree import ALONE
from counterpoint.models.batch import TextBatch
from counterpoint.setup.run import prepare_run
from counterpoint.train.active_rank import ActiveRank
from counterpoint.train.engine import Evaluated
from counterpoint.train.evaluation import Evaluator
from counterpoint.train.loop import _due
from tests.parity.layouts import documents, language_only

FURTHER = {"depths": 1, "pattern": "*-"}


@pytest.mark.parametrize("samples", [1, 3, 4, 7, 40])
def test_a_split_is_averaged_over_its_tokens(samples: int) -> None:
    """Batches differ in loss tokens, some have none, and the last one is smaller."""
    few = documents(documents=17, without_loss=0.3, images_per_document={"kind": "constant", "value": 0})
    keys = {"evaluation.batch_samples": samples, "schedule.microbatches": 1, "modules.language.model.mtp": FURTHER}
    config = language_only({"ranks": [0]}, 1, **{"data.evaluation": few * 2, **keys})
    plan, _models, corpus = prepare_run(config)
    losses: dict[str, float] = {}
    engine: Any = _Engine(plan)
    recorder: Any = _Recorder(losses)
    idle: Any = SimpleNamespace(
        control=ALONE, startup_limit=None, watchdog=SimpleNamespace(enter=lambda *_arguments, **_named: None)
    )
    reader = Reader(plan, 0, corpus.sources, torch.float64)
    rank = ActiveRank(Path(config.run.dir), idle, idle, engine, reader, recorder, saver=idle)
    Evaluator(rank).run(3, corpus.evaluation, lambda: False)
    for split in corpus.evaluation:
        (source,) = split.sources
        all_documents = [source.document(index) for index in range(len(source))]
        tokens = sum(document.loss_tokens for document in all_documents)
        expected = sum(_loss(document) * document.loss_tokens for document in all_documents) / tokens
        assert losses[split.name] == pytest.approx(expected, rel=1e-12)
    assert len(losses) == 2


def test_an_evaluation_or_a_checkpoint_is_due_every_so_many_steps() -> None:
    assert [step for step in range(1, 13) if _due(step, 4)] == [4, 8, 12]
    assert [step for step in range(1, 4) if _due(step, 1)] == [1, 2, 3]
    assert not any(_due(step, None) for step in range(1, 13))


def _loss(document: Any) -> float:
    """A mean loss of a document's tokens, another for each."""
    return 1.0 + float(document.index) ** 2


class _Engine:
    """Says of a batch the mean over its loss tokens, 0 if it has none, as the real one does."""

    def __init__(self, plan: Any) -> None:
        self.plan = plan

    def evaluate_step(self, inputs: StepInputs) -> Evaluated:
        # An evaluation is of the next token alone.
        assert [batch.mtp for batch in inputs.batches.values() if isinstance(batch, TextBatch)] == [()]
        total = sum(_loss(document) * document.loss_tokens for document in inputs.batch.documents)
        return Evaluated(total / max(inputs.batch.loss_tokens, 1), {})


class _Recorder:
    def __init__(self, losses: dict[str, float]) -> None:
        self._losses = losses

    def step(self, *_arguments: Any) -> None:
        raise AssertionError("nothing is trained")

    def bad(self, _step: int, payloads: Any) -> None:
        assert not payloads

    def evaluation(self, step: int, split: str, loss: float, further: Mapping[str, float]) -> None:
        assert step == 3
        assert not further
        self._losses[split] = loss
