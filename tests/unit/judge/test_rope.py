"""Every kind of rotary positions equals transformers', in documents shorter and longer than the original ones."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from counterpoint.convert.fields import Fields
from counterpoint.convert.rope import scaling_of
from counterpoint.layers.attention.rotary import Rotary
from counterpoint.models.batch import TextBatch
from counterpoint.models.chain import MAIN
from counterpoint.models.segments import Segments
from tests.unit.judge.judge import REASON, judge
from tests.unit.judge.lifted import lift_casts
from tests.unit.judge.models import BLOCKS, Config, decoder_of, gradients_of, logits_of, our_model, text_batch
from tests.unit.judge.ropes import ORIGINAL, ROPES, YARN
from tests.unit.judge.test_judge import LIFTED, relative

transformers = pytest.importorskip("transformers", reason=REASON)
modeling_nemotron = pytest.importorskip("transformers.models.nemotron.modeling_nemotron", reason=REASON)

SHORT, LONG = 13, 29
OFTEN = ("dynamic", "yarn with every key", "yarn of three axes", "longrope", "linear as before")


@pytest.fixture(autouse=True)
def wide() -> Iterator[None]:
    """A float times a whole number is float64: transformers computes the base of dynamic positions so."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.parametrize("rows", [SHORT, LONG])
@pytest.mark.parametrize("name", [n if n in OFTEN else pytest.param(n, marks=pytest.mark.more) for n in ROPES])
def test_logits_and_gradients_are_equal(name: str, rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = text_batch(decoder_of(ROPES[name]), [rows])
    verdict = judge(ROPES[name], batch, tmp_path, monkeypatch, has_own_start=True)
    chain = our_model(verdict.section, verdict.weights)
    chain(None, batch)[MAIN].backward()
    logits, gradients = logits_of(chain, batch).detach(), gradients_of(chain)
    assert relative(logits - verdict.logits, verdict.logits) <= LIFTED
    different = {n: relative(g - verdict.gradients[n], verdict.gradients[n]) for n, g in gradients.items()}
    assert {n: value for n, value in different.items() if value > LIFTED} == {}


PARTIAL: dict[str, Config] = {
    "default": {"rope_type": "default"},
    "linear": {"rope_type": "linear", "factor": 3.0},
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
    "yarn": {**YARN, "original_max_position_embeddings": ORIGINAL},
    "llama3": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": ORIGINAL,
    },
    "longrope": {
        "rope_type": "longrope", "short_factor": [1.0, 1.5, 2.0], "long_factor": [2.0, 3.5, 5.0],
        "original_max_position_embeddings": ORIGINAL,
    },
}  # fmt: skip
"""Kinds of heads of width 12 of which the first 6 columns rotate."""


@pytest.mark.parametrize("rows", [SHORT, LONG])
@pytest.mark.parametrize("kind", PARTIAL)
def test_a_part_of_a_head_rotates_as_in_nemotron(kind: str, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Queries, keys and their gradients; none of our families has such heads, so the judge is another one's code."""
    for module in (modeling_nemotron, transformers.modeling_rope_utils):
        lift_casts(monkeypatch, module)
    parameters: Config = {"rope_theta": 50.0, **PARTIAL[kind], "partial_rotary_factor": 0.5}
    config = transformers.NemotronConfig(
        **{**BLOCKS, "hidden_size": 48}, max_position_embeddings=ORIGINAL, rope_parameters=parameters
    )
    positions = torch.arange(rows)
    queries, keys = (torch.randn(rows, heads, 12, generator=torch.Generator().manual_seed(heads)) for heads in (4, 2))
    leaves = [[tensor.clone().requires_grad_() for tensor in (queries, keys)] for _side in range(2)]
    theirs = modeling_nemotron.NemotronRotaryEmbedding(config)(queries[None], positions[None])
    rotated = modeling_nemotron.apply_rotary_pos_emb(*(leaf.transpose(0, 1)[None] for leaf in leaves[0]), *theirs)
    expected = [tensor[0].transpose(0, 1) for tensor in rotated]
    found = _ours(config, parameters, positions, leaves[1])
    for ours, judged in zip(found, expected, strict=True):
        assert relative(ours.detach() - judged.detach(), judged.detach()) <= LIFTED
    for side in (expected, found):
        torch.stack([tensor.sin().sum() for tensor in side]).sum().backward()
    for one, other in zip(*leaves, strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert relative(other.grad - one.grad, one.grad) <= LIFTED


def _ours(config: Any, parameters: Config, positions: Tensor, leaves: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Queries and keys rotated by ours, as the section of a config.json says."""
    around = Fields({"max_position_embeddings": config.max_position_embeddings})
    rows = len(positions)
    batch = TextBatch(
        positions, positions, positions, Segments.build([rows], rows), 1.0, extents=torch.full((rows,), rows)
    )
    rotary = Rotary(6, parameters["rope_theta"], scaling=scaling_of(Fields(parameters), around, pairs=3))
    queries, keys = rotary(leaves[0], leaves[1], rotary.cos_sin(batch, torch.float64))
    return queries, keys
