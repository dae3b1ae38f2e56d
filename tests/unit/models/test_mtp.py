"""Multi-token prediction against the equations of its paper, token by token; without documents; without depths."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from model_samples import DECODERS, build, empty_batch, model, text_batch
from torch import Tensor

from counterpoint.models.batch import TextBatch
from counterpoint.models.catalog import model_parts
from counterpoint.models.chain import MAIN, Chain
from counterpoint.models.mtp import MtpDepth
from counterpoint.models.segments import Segments
from counterpoint.plan.sizes import NO_TOKEN, DecoderSizes

SIZES = DECODERS["further"]
CASES = pytest.mark.parametrize("sizes", [SIZES, DECODERS["further experts"]], ids=["further", "further experts"])


def _rms(rows: Tensor, weight: Tensor, eps: float) -> Tensor:
    return rows / (rows.square().mean(dim=-1, keepdim=True) + eps).sqrt() * weight


def _document(batch: TextBatch, first: int, length: int) -> TextBatch:
    rows = slice(first, first + length)
    return replace(batch, positions=batch.positions[rows], segments=Segments.build([length], length), routed={})


def _by_equations(
    chain: Chain, sizes: DecoderSizes, batch: TextBatch, lengths: tuple[int, ...]
) -> tuple[Tensor, list[Tensor]]:
    """The main loss and that of each depth, each divided by its denominator, document by document, row by row."""
    assert sizes.mtp is not None
    weights = dict(chain.named_parameters())
    words, scores = weights["embed.weight"], weights.get("head.weight", weights["embed.weight"])
    losses = [words.new_zeros(()) for _ in range(1 + sizes.mtp.depths)]
    first = 0
    for length in lengths:
        ids, labels = batch.ids[first : first + length], batch.labels[first : first + length]
        alone = _document(batch, first, length)
        rows = words[ids]
        for layer in range(len(sizes.pattern)):
            rows = chain.get_submodule(f"layers.{layer}")(rows, alone)
        rows = _rms(rows, weights["norm.weight"], sizes.norm_eps)
        for depth in range(1 + sizes.mtp.depths):
            if depth:
                part = f"mtp.{depth - 1}"
                blank = words.new_zeros(sizes.hidden)
                ahead = [words[ids[i + depth]] if i + depth < length else blank for i in range(length)]
                pairs = [
                    torch.cat(
                        (
                            _rms(rows[i], weights[f"{part}.rows_norm.weight"], sizes.norm_eps),
                            _rms(ahead[i], weights[f"{part}.words_norm.weight"], sizes.norm_eps),
                        )
                    )
                    for i in range(length)
                ]
                rows = torch.stack(pairs) @ weights[f"{part}.join.weight"].T
                for layer in range(len(sizes.mtp.pattern)):
                    rows = chain.get_submodule(f"{part}.layers.{layer}")(rows, alone)
                rows = _rms(rows, weights[f"{part}.norm.weight"], sizes.norm_eps)
            denominator = batch.mtp[depth - 1].loss_denominator if depth else batch.loss_denominator
            for i in range(length - depth):
                if labels[i + depth] >= 0:
                    losses[depth] = (
                        losses[depth] - F.log_softmax(scores @ rows[i], dim=0)[labels[i + depth]] / denominator
                    )
        first += length
    return losses[0], losses[1:]


def _lively(sizes: DecoderSizes) -> Chain:
    """A model whose depths matter: values of deviation 0.3 instead of 0.02, and no layer at its start."""
    chain = model(sizes)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in chain.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return chain


def test_losses_and_gradients_are_those_of_the_equations() -> None:
    lengths = (6, 1, 2, 3)
    batch, chain, plain = text_batch(SIZES, lengths), _lively(SIZES), _lively(SIZES)
    loss = chain(None, batch)[MAIN]
    loss.backward()
    main, further = _by_equations(plain, SIZES, batch, lengths)
    assert SIZES.mtp is not None
    (main + SIZES.mtp.weight * torch.stack(further).mean()).backward()
    assert loss.item() == pytest.approx(main.item(), rel=1e-13)
    assert [batch.mtp_losses[depth].item() for depth in range(2)] == pytest.approx(
        [one.item() for one in further], rel=1e-13
    )
    assert min(one.item() for one in further) > 0.1
    for (name, ours), (_name, theirs) in zip(chain.named_parameters(), plain.named_parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert theirs.grad.abs().max() > 1e-6, name
        assert (ours.grad - theirs.grad).abs().max() <= 1e-12 * theirs.grad.abs().max(), name


def test_documents_that_end_before_a_depth_have_no_loss_there() -> None:
    batch = text_batch(SIZES, (2, 1, 2))
    model(SIZES)(None, batch)
    assert [batch.mtp_losses[depth].item() for depth in range(2)] == [0.0, 0.0]


@CASES
@pytest.mark.parametrize("padding", [0, 4])
def test_no_documents_give_a_loss_and_gradients_of_zero(sizes: DecoderSizes, padding: int) -> None:
    chain, batch = model(sizes), empty_batch(sizes, padding)
    assert isinstance(batch, TextBatch)
    loss = chain(None, batch)[MAIN]
    loss.backward()
    assert loss.item() == 0.0
    assert all(term.item() == 0.0 for term in batch.mtp_losses.values())
    for name, parameter in chain.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name


@CASES
def test_without_further_tokens_the_model_is_the_plain_one(sizes: DecoderSizes) -> None:
    batch = text_batch(sizes, (5, 3))
    plain = model(replace(sizes, mtp=None))(None, replace(batch, mtp=()))[MAIN]
    assert torch.equal(model(sizes)(None, replace(batch, mtp=()))[MAIN], plain)
    assert torch.equal(model(sizes)(None, batch)[MAIN], plain)


def test_a_placeholder_ahead_is_read_as_zeros_and_teaches_no_word() -> None:
    batch = text_batch(SIZES, (4,))
    blank = replace(batch.mtp[0], ids=torch.full_like(batch.ids, NO_TOKEN))
    chain = model(SIZES)
    depth = chain.get_submodule("mtp.0")
    assert isinstance(depth, MtpDepth)
    rows = torch.ones(4, SIZES.hidden, dtype=torch.float64)
    depth(rows, replace(batch, mtp=(blank,))).sum().backward()
    assert not chain.get_parameter("embed.weight").grad.any()
    assert not depth.words_norm.weight.grad.any()
    assert depth.rows_norm.weight.grad.any()


@pytest.mark.parametrize("tied", [False, True])
def test_a_last_stage_has_one_copy_of_the_words(tied: bool) -> None:
    parts = model_parts(replace(SIZES, tied=tied))
    last = build(parts[3:])
    names = dict(last.named_parameters())
    assert "words.weight" in names
    assert ("head.weight" in names) is not tied
    assert last.shared == {"words"}
    assert build(parts).shared == {"embed", "words"}
    assert "words.weight" not in dict(build(parts).named_parameters())
