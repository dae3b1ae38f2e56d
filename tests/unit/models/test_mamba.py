"""Mamba-2 against its recurrence, row by row."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from counterpoint.layers.mamba.conv import causal_conv
from counterpoint.layers.mamba.scan import scan

LENGTHS = st.lists(st.integers(1, 11), min_size=1, max_size=5)


def recurrence(x: Tensor, b: Tensor, c: Tensor, step: Tensor, decay: Tensor, document: Tensor) -> Tensor:
    """y = S C with S = exp(decay) S + step x B^T, from zero in each document."""
    rows, heads, head_dim = x.shape
    out = torch.zeros_like(x)
    for head in range(heads):
        group = head * b.shape[1] // heads
        state = x.new_zeros(head_dim, b.shape[2])
        for row in range(rows):
            if row and document[row] != document[row - 1]:
                state = torch.zeros_like(state)
            state = decay[row, head].exp() * state + step[row, head] * torch.outer(x[row, head], b[row, group])
            out[row, head] = state @ c[row, group]
    return out


@settings(deadline=None, max_examples=30)
@given(lengths=LENGTHS, chunk=st.integers(1, 9), seed=st.integers(0, 99))
def test_scan_is_the_recurrence_wherever_documents_and_chunks_begin(lengths: list[int], chunk: int, seed: int) -> None:
    generator, rows = torch.Generator().manual_seed(seed), sum(lengths)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1

    x, b, c = draw(rows, 4, 3), draw(rows, 2, 5), draw(rows, 2, 5)
    step, decay = draw(rows, 4).abs(), -20 * draw(rows, 4).abs()
    document = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    inputs = [tensor.requires_grad_() for tensor in (x, b, c, step, decay)]
    found, expected = scan(x, b, c, step, decay, document, chunk), recurrence(x, b, c, step, decay, document)
    assert (found - expected).abs().max() <= 1e-12
    gradient = draw(rows, 4, 3)
    pairs = zip(
        torch.autograd.grad(found, inputs, gradient), torch.autograd.grad(expected, inputs, gradient), strict=True
    )
    assert all((ours - theirs).abs().max() <= 1e-12 for ours, theirs in pairs)


@settings(deadline=None, max_examples=30)
@given(lengths=LENGTHS, chunk=st.integers(1, 9), seed=st.integers(0, 99), data=st.data())
def test_no_gradient_reaches_rows_behind_a_loss_or_of_other_documents(
    lengths: list[int], chunk: int, seed: int, data: st.DataObject
) -> None:
    """None at all: an encoder that no loss reaches has a gradient of zero, and not of what rounding left over."""
    generator, rows = torch.Generator().manual_seed(seed), sum(lengths)
    scored = data.draw(st.integers(0, rows - 1))
    document = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    shapes = (rows, 4, 3), (rows, 2, 5), (rows, 2, 5), (rows, 4), (rows, 4)
    inputs = [torch.rand(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]
    x, b, c, step, decay = inputs
    scan(x, b, c, step, -decay, document, chunk)[scored].square().sum().backward()
    apart = (document != document[scored]) | (torch.arange(rows) > scored)
    assert [int(tensor.grad[apart].count_nonzero()) for tensor in inputs if tensor.grad is not None] == [0] * 5


def test_a_fast_decay_gives_finite_gradients() -> None:
    x = torch.ones(8, 1, 2, dtype=torch.float32)
    b = c = torch.ones(8, 1, 2)
    decay = torch.full((8, 1), -1e4, requires_grad=True)
    scan(x, b, c, torch.ones(8, 1), decay, torch.zeros(8, dtype=torch.int64), 4).sum().backward()
    assert decay.grad is not None
    assert decay.grad.isfinite().all()


def test_a_document_is_as_precise_behind_a_long_one_as_alone() -> None:
    generator, fast, slow = torch.Generator().manual_seed(0), 4096, 128
    x, b, c = (torch.rand(fast + slow, 1, 4, generator=generator) for _ in range(3))
    step = torch.ones(fast + slow, 1)
    decay = torch.cat([torch.full((fast, 1), -1.6), torch.full((slow, 1), -1e-3)])
    document = torch.tensor([0, 1]).repeat_interleave(torch.tensor([fast, slow]))
    found = scan(x, b, c, step, decay, document, 16)[fast:]
    x, b, c, step, decay = (tensor[fast:].double() for tensor in (x, b, c, step, decay))
    expected = scan(x, b, c, step, decay, document[fast:], 16)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("lengths", [(5, 1, 7), (2, 2), (1,)])
def test_convolution_reads_its_own_document_only(lengths: tuple[int, ...]) -> None:
    generator, rows = torch.Generator().manual_seed(0), sum(lengths)
    inputs = torch.rand(rows, 3, generator=generator, dtype=torch.float64)
    weight, bias = (torch.rand(3, n, generator=generator, dtype=torch.float64) for n in (4, 1))
    document = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    found = causal_conv(inputs, weight, bias[:, 0], document)
    for piece, expected in zip(inputs.split(lengths), found.split(lengths), strict=True):
        alone = torch.nn.functional.conv1d(piece.T, weight[:, None], bias[:, 0], padding=3, groups=3)
        assert (torch.nn.functional.silu(alone[:, : len(piece)].T) - expected).abs().max() <= 1e-14
