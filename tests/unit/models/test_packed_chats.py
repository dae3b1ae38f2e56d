"""Prepared conversations of a chat template in one pack give the gradients that they give one by one."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from counterpoint.data.prepare.command import prepare
from counterpoint.data.prepare.options import PrepareOptions
from counterpoint.models.batch import TextBatch
from counterpoint.models.chain import MAIN
from counterpoint.models.segments import Segments
from counterpoint.plan.samples import NO_LABEL
from counterpoint.sources.payload import TextPayload
from counterpoint.sources.prepared.source import PreparedSource
from tests.unit.data.chat_folders import FAMILIES, write_folder
from tests.unit.models.model_samples import DECODERS, build, changed
from tests.unit.models.test_packing import TOLERANCE, assert_same, gradients

CHATS = (
    ("What?", "A cat."),
    ("What?", "A cat.", "Why?", "3 dogs."),
    ("3", "<think>\n3\n</think>\n\nA cat.", "Why?", "3"),
)


@pytest.mark.parametrize("family", ["chatml", "qwen3", "vicuna"])
def test_packed_chats_equal_chats_one_by_one(tmp_path: Path, family: str) -> None:
    source = _source(tmp_path, family)
    texts = [source.text(number) for number in range(len(CHATS))]
    model = changed(DECODERS["grouped"], vocab=1024)
    packed, alone = build(model), build(model)
    loss = packed(None, _batch(texts, _labels(texts)))[MAIN]
    loss.backward()
    total = torch.zeros((), dtype=torch.float64)
    for text in texts:
        one = alone(None, _batch([text], _labels(texts)))[MAIN]
        one.backward()
        total += one.detach()
    assert loss.item() > 0
    assert abs(loss.item() - total.item()) <= TOLERANCE
    assert_same(gradients(packed), gradients(alone))


def _source(tmp_path: Path, family: str) -> PreparedSource:
    raw = tmp_path / "raw"
    raw.mkdir()
    records = [
        {"messages": [{"role": ("user", "assistant")[turn % 2], "content": text} for turn, text in enumerate(chat)]}
        for chat in CHATS
    ]
    (raw / "train.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    tokenizer = write_folder(tmp_path / "tokenizer", FAMILIES[family])
    prepared = prepare(str(raw), tmp_path / "index", PrepareOptions(tokenizer=tokenizer))
    return PreparedSource(prepared.out, "train", 0, {}, 256)


def _labels(texts: list[TextPayload]) -> int:
    return sum(int((text.labels != NO_LABEL).sum()) for text in texts)


def _batch(texts: list[TextPayload], labels: int) -> TextBatch:
    lengths = [len(text.ids) for text in texts]
    return TextBatch(
        torch.from_numpy(np.concatenate([text.ids for text in texts])),
        torch.cat([torch.arange(length) for length in lengths]),
        torch.from_numpy(np.concatenate([text.labels for text in texts])),
        Segments.build(lengths, sum(lengths)),
        float(labels),
    )
