"""The last product and the loss in one: equal to both one after the other, however the rows are cut."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from counterpoint.models import linear_loss
from counterpoint.models.linear_loss import LinearLoss, Term, WordShare
from counterpoint.plan.samples import NO_LABEL

HIDDEN, WORDS = 6, 11


@pytest.fixture(params=(1, 3 * WORDS, 10**6), ids=("row by row", "three rows", "at once"))
def at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_loss, "_SCORES_AT_ONCE", request.param)


def _inputs(rows: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = (torch.randn(n, HIDDEN, generator=generator, dtype=torch.float64) for n in (rows, WORDS))
    labels = torch.randint(0, WORDS, (rows,), generator=generator)
    labels[::4] = NO_LABEL
    x, w = (tensor.requires_grad_() for tensor in made)
    return x, w, labels


def _plain(x: Tensor, w: Tensor, labels: Tensor, denominator: float) -> Tensor:
    return F.cross_entropy(x @ w.t(), labels, ignore_index=NO_LABEL, reduction="sum") / denominator


def _close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.usefixtures("at_once")
def test_it_equals_a_product_and_a_cross_entropy() -> None:
    x, w, labels = _inputs(10)
    expected = _plain(x, w, labels, 7.0)
    found = LinearLoss()(x, w, labels, 7.0).loss
    _close(found, expected)
    for a, b in zip(torch.autograd.grad(found * 3, (x, w)), torch.autograd.grad(expected * 3, (x, w))):
        _close(a, b)


@pytest.mark.usefixtures("at_once")
def test_shares_of_the_words_give_the_same_on_each_and_parts_of_a_sum() -> None:
    x, w, labels = _inputs(10)
    expected = _plain(x, w, labels, 7.0)
    of_x, of_w = torch.autograd.grad(expected, (x, w))
    # The last share holds padding only, the one before it some.
    cuts, width = ((0, 4), (4, 4), (8, 3), (12, 0)), 4
    padded = F.pad(w.detach(), (0, 0, 0, 16 - WORDS), value=7.0)
    gather = _gatherer(x.detach(), padded, labels, cuts, width)
    total = torch.zeros_like(x)
    for first, words in cuts:
        own, rows = padded[first : first + width].clone().requires_grad_(), x.detach().clone().requires_grad_()
        found = LinearLoss(WordShare(first, words, gather))(rows, own, labels, 7.0).loss
        _close(found, expected)
        of_rows, of_own = torch.autograd.grad(found, (rows, own))
        total += of_rows
        _close(of_own[:words], of_w[first : first + words])
        assert not of_own[words:].any()
    _close(total, of_x)


def _gatherer(
    x: Tensor, padded: Tensor, labels: Tensor, cuts: tuple[tuple[int, int], ...], width: int
) -> Callable[[Tensor], Tensor]:
    """What all ranks hold of the rows whose statistics are given: found by the rows' number, piece after piece."""
    done = 0

    def gather(own: Tensor) -> Tensor:
        nonlocal done
        piece = slice(done, done + own.shape[1])
        done = 0 if piece.stop == x.shape[0] else piece.stop
        every = []
        for first, words in cuts:
            scores = x[piece] @ padded[first : first + words].t()
            none = torch.tensor([torch.finfo(torch.float64).min, 0, 0], dtype=torch.float64)[:, None]
            has_words = words > 0
            every.append(
                linear_loss.statistics(scores, labels[piece] - first) if has_words else none.expand(3, own.shape[1])
            )
        return torch.stack(every)

    return gather


@pytest.mark.parametrize("denominator", [0.0, 5.0])
def test_without_rows_or_loss_tokens_all_is_zero(denominator: float) -> None:
    for rows in (0, 4):
        x, w, _labels = _inputs(rows)
        found = LinearLoss()(x, w, torch.full((rows,), NO_LABEL), denominator).loss
        of_x, of_w = torch.autograd.grad(found, (x, w))
        assert found == 0
        assert not of_x.any()
        assert not of_w.any()


def test_the_gradient_of_a_frozen_matrix_is_not_made() -> None:
    x, w, labels = _inputs(5)
    loss = LinearLoss()
    loss.offer = lambda _weight, _gradient: pytest.fail("nobody wants it")
    (of_x,) = torch.autograd.grad(loss(x, w.detach(), labels, 4.0).loss, (x,))
    _close(of_x, torch.autograd.grad(_plain(x, w, labels, 4.0), (x,))[0])


def test_scores_of_all_rows_never_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_loss, "_SCORES_AT_ONCE", 4 * WORDS)
    seen: list[int] = []
    loss = LinearLoss()
    plain = loss.statistics

    def statistics(scores: Tensor, labels: Tensor) -> Tensor:
        seen.append(len(scores))
        return plain(scores, labels)

    loss.statistics = statistics
    x, w, labels = _inputs(10)
    loss(x, w, labels, 4.0).loss.backward()
    assert seen == [4, 4, 2]


def test_bfloat16_is_summed_in_float32() -> None:
    x, w, labels = (tensor.detach() for tensor in _inputs(10))
    narrow = [tensor.bfloat16().requires_grad_() for tensor in (x, w)]
    found = LinearLoss()(*narrow, labels, 7.0).loss
    assert found.dtype == torch.float32
    wide = rows, matrix = [tensor.detach().double().requires_grad_() for tensor in narrow]
    expected = _plain(rows, matrix, labels, 7.0)
    torch.testing.assert_close(found.double(), expected, rtol=1e-2, atol=0)
    for a, b in zip(torch.autograd.grad(found, narrow), torch.autograd.grad(expected, wide)):
        assert a.dtype == torch.bfloat16
        assert (a.double() - b).norm() / b.norm() < 1e-2


TERMS = (Term(0.3, lambda whole, _target: whole.square()), Term(0.7, lambda whole, target: (whole * target).sin()))
"""One of the normaliser alone, and one of the label's score as well."""


def _plain_terms(x: Tensor, w: Tensor, labels: Tensor, denominator: float) -> list[Tensor]:
    counted = labels != NO_LABEL
    scores = (x @ w.t())[counted]
    whole, target = scores.logsumexp(dim=1), scores.gather(1, labels[counted, None])[:, 0]
    return [term.of(whole, target).sum() / denominator for term in TERMS]


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("cuts", [((0, 11),), ((0, 4), (4, 4), (8, 3), (12, 0))], ids=("whole", "shares"))
def test_terms_join_the_gradient_and_are_reported_beside_the_loss(cuts: tuple[tuple[int, int], ...]) -> None:
    x, w, labels = _inputs(10)
    parts = _plain_terms(x, w, labels, 7.0)
    expected = _plain(x, w, labels, 7.0) + sum(term.weight * part for term, part in zip(TERMS, parts))
    of_x, of_w = torch.autograd.grad(expected * 3, (x, w))
    width = cuts[0][1]
    padded = F.pad(w.detach(), (0, 0, 0, width * len(cuts) - WORDS), value=7.0)
    gather = _gatherer(x.detach(), padded, labels, cuts, width)
    total = torch.zeros_like(x)
    for first, words in cuts:
        own, rows = padded[first : first + width].clone().requires_grad_(), x.detach().clone().requires_grad_()
        loss = LinearLoss(WordShare(first, words, gather))
        loss.terms = TERMS
        found = loss(rows, own, labels, 7.0)
        _close(found.loss, _plain(x, w, labels, 7.0))
        _close(found.terms, torch.stack(parts))
        assert not found.terms.requires_grad
        of_rows, of_own = torch.autograd.grad(found.loss * 3, (rows, own))
        total += of_rows
        _close(of_own[:words], of_w[first : first + words])
    _close(total, of_x)


@pytest.mark.parametrize("denominator", [0.0, 5.0])
def test_terms_without_rows_or_loss_tokens_are_zero(denominator: float) -> None:
    for rows in (0, 4):
        x, w, _labels = _inputs(rows)
        loss = LinearLoss()
        loss.terms = TERMS
        found = loss(x, w, torch.full((rows,), NO_LABEL), denominator)
        assert found.terms.tolist() == [0.0, 0.0]
        assert not any(gradient.any() for gradient in torch.autograd.grad(found.loss, (x, w)))
