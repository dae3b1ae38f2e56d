"""Multi-token prediction against the equations of its paper, token by token; without documents; without depths."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from counterpoint.families.decoder.depth import MtpDepth
from counterpoint.families.parts import parts_of
from counterpoint.kinds.family import Model
from counterpoint.models.batch import TextBatch
from counterpoint.models.chain import MAIN, Chain
from counterpoint.models.seams import run
from counterpoint.models.segments import Segments
from counterpoint.plan.samples import NO_TOKEN
from tests.gradients import gradient_of
from tests.unit.models.model_samples import DECODERS, build, changed, empty_batch, text_batch

MODEL = DECODERS["further"]
CASES = pytest.mark.parametrize("model", [MODEL, DECODERS["further experts"]], ids=["further", "further experts"])


def _rms(rows: Tensor, weight: Tensor, eps: float) -> Tensor:
    return rows / (rows.square().mean(dim=-1, keepdim=True) + eps).sqrt() * weight


def _document(batch: TextBatch, first: int, length: int) -> TextBatch:
    rows = slice(first, first + length)
    return replace(batch, positions=batch.positions[rows], segments=Segments.build([length], length))


def _by_equations(
    chain: Chain, model: Model, batch: TextBatch, lengths: tuple[int, ...]
) -> tuple[Tensor, list[Tensor]]:
    """The main loss and that of each depth, each divided by its denominator, document by document, row by row."""
    section = model.section
    weights = dict(chain.named_parameters())
    words = weights["embed.weight"] * section.embedding_scale
    scores = weights.get("head.weight", weights["embed.weight"])
    losses = [words.new_zeros(()) for _ in range(1 + section.mtp.depths)]
    first = 0
    for length in lengths:
        ids, labels = batch.ids[first : first + length], batch.labels[first : first + length]
        alone = _document(batch, first, length)
        rows = words[ids]
        for layer in range(len(section.pattern)):
            rows = run(chain.get_submodule(f"layers.{layer}"), rows, alone).rows
        rows = _rms(rows, weights["norm.weight"], section.norm_eps)
        for depth in range(1 + section.mtp.depths):
            if depth:
                part = f"mtp.{depth - 1}"
                blank = words.new_zeros(section.hidden)
                ahead = [words[ids[i + depth]] if i + depth < length else blank for i in range(length)]
                pairs = [
                    torch.cat(
                        (
                            _rms(rows[i], weights[f"{part}.rows_norm.weight"], section.norm_eps),
                            _rms(ahead[i], weights[f"{part}.words_norm.weight"], section.norm_eps),
                        )
                    )
                    for i in range(length)
                ]
                rows = torch.stack(pairs) @ weights[f"{part}.join.weight"].T
                for layer in range(len(section.mtp.pattern)):
                    rows = run(chain.get_submodule(f"{part}.layers.{layer}"), rows, alone).rows
                rows = _rms(rows, weights[f"{part}.norm.weight"], section.norm_eps)
            denominator = batch.mtp[depth - 1].loss_denominator if depth else batch.loss_denominator
            for i in range(length - depth):
                if labels[i + depth] >= 0:
                    losses[depth] = (
                        losses[depth] - F.log_softmax(scores @ rows[i], dim=0)[labels[i + depth]] / denominator
                    )
        first += length
    return losses[0], losses[1:]


def _lively(model: Model) -> Chain:
    """A model whose depths matter: values of deviation 0.3 instead of 0.02, and no layer at its start."""
    chain = build(model)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in chain.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return chain


def test_losses_and_gradients_are_those_of_the_equations() -> None:
    lengths = (6, 1, 2, 3)
    batch, chain, plain = text_batch(MODEL, lengths), _lively(MODEL), _lively(MODEL)
    outputs = chain(None, batch)
    loss = outputs[MAIN]
    loss.backward()
    main, further = _by_equations(plain, MODEL, batch, lengths)
    (main + MODEL.section.mtp.weight * torch.stack(further).mean()).backward()
    assert loss.item() == pytest.approx(main.item(), rel=1e-13)
    assert outputs["head.further"].tolist() == pytest.approx([one.item() for one in further], rel=1e-13)
    assert min(one.item() for one in further) > 0.1
    for (name, ours), (_name, theirs) in zip(chain.named_parameters(), plain.named_parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert theirs.grad.abs().max() > 1e-6, name
        assert (ours.grad - theirs.grad).abs().max() <= 1e-12 * theirs.grad.abs().max(), name


def test_documents_that_end_before_a_depth_have_no_loss_there() -> None:
    batch = text_batch(MODEL, (2, 1, 2))
    assert build(MODEL)(None, batch)["head.further"].tolist() == [0.0, 0.0]


@CASES
@pytest.mark.parametrize("padding", [0, 4])
def test_no_documents_give_a_loss_and_gradients_of_zero(model: Model, padding: int) -> None:
    chain, batch = build(model), empty_batch(model, padding)
    assert isinstance(batch, TextBatch)
    outputs = chain(None, batch)
    loss = outputs[MAIN]
    loss.backward()
    assert loss.item() == 0.0
    assert not outputs["head.further"].any()
    for name, parameter in chain.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name


@CASES
def test_without_further_tokens_the_model_is_the_plain_one(model: Model) -> None:
    batch = text_batch(model, (5, 3))
    plain = build(changed(model, mtp=None))(None, replace(batch, mtp=()))[MAIN]
    assert torch.equal(build(model)(None, replace(batch, mtp=()))[MAIN], plain)
    assert torch.equal(build(model)(None, batch)[MAIN], plain)


def test_a_placeholder_ahead_is_read_as_zeros_and_teaches_no_word() -> None:
    batch = text_batch(MODEL, (4,))
    blank = replace(batch.mtp[0], ids=torch.full_like(batch.ids, NO_TOKEN))
    chain = build(MODEL)
    depth = chain.get_submodule("mtp.0")
    assert isinstance(depth, MtpDepth)
    rows = torch.ones(4, MODEL.section.hidden, dtype=torch.float64)
    depth(rows, replace(batch, mtp=(blank,))).rows.sum().backward()
    assert not gradient_of(chain.get_parameter("embed.weight")).any()
    assert not gradient_of(depth.words_norm.weight).any()
    assert gradient_of(depth.rows_norm.weight).any()


@pytest.mark.parametrize("tied", [False, True])
def test_a_last_stage_has_one_copy_of_the_words(tied: bool) -> None:
    model = changed(MODEL, tied=tied)
    last = build(model, parts_of(model)[3:])
    names = dict(last.named_parameters())
    assert "words.weight" in names
    assert ("head.weight" in names) is not tied
    assert last.shared == {"words"}
    assert build(model).shared == {"embed", "words"}
    assert "words.weight" not in dict(build(model).named_parameters())
