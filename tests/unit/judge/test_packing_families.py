"""Packed documents equal the same documents one by one, for every family, with and without padding."""

from dataclasses import replace

import pytest
import torch

from counterpoint.families.decoder.spec import DecoderConfig
from counterpoint.models.batch import TextBatch
from counterpoint.models.chain import MAIN
from counterpoint.models.segments import Segments
from tests.unit.judge.models import CONFIGS, decoder_of, gradients_of, logits_of, our_model, random_tensors, text_batch
from tests.unit.judge.test_judge import changed

TOLERANCE = 1e-12
LENGTHS = (11, 1, 8, 19, 2, 3)
"""Documents that end inside a chunk of Mamba-2, at its end, and that span three; one row alone among them."""


def with_balance(name: str) -> DecoderConfig:
    """The section of a case, its experts with a balance loss, which is per document."""
    section = decoder_of(CONFIGS[name])
    return section if section.moe is None else changed(section, "moe", {"balance": 0.1})


def document(batch: TextBatch, number: int) -> TextBatch:
    """One document of a batch as a batch."""
    length, start = LENGTHS[number], sum(LENGTHS[:number])
    rows = slice(start, start + length)
    return replace(
        batch,
        ids=batch.ids[rows],
        positions=batch.positions[rows],
        labels=batch.labels[rows],
        segments=Segments.build([length], length),
    )


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("name", CONFIGS)
def test_packed_documents_equal_documents_one_by_one(name: str, padding: int) -> None:
    section = with_balance(name)
    tensors = random_tensors(section)
    packed, alone = our_model(section, tensors), our_model(section, tensors)
    batch = text_batch(section, LENGTHS, padding)
    loss = packed(None, batch)[MAIN]
    loss.backward()
    logits = logits_of(packed, batch).split([*LENGTHS, padding])
    total = torch.zeros((), dtype=torch.float64)
    for number in range(len(LENGTHS)):
        one = document(batch, number)
        part = alone(None, one)[MAIN]
        part.backward()
        total += part.detach()
        found = logits[number] - logits_of(alone, one)
        assert found.abs().max().item() <= TOLERANCE * logits[number].abs().max().item()
    assert abs(loss.item() - total.item()) <= TOLERANCE * total.item()
    expected = gradients_of(alone)
    for key, gradient in gradients_of(packed).items():
        assert (gradient - expected[key]).norm() <= TOLERANCE * expected[key].norm(), key
