"""The loss in pieces against a product and a cross entropy in float64."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from counterpoint.models import linear_loss
from counterpoint.models.chain import Part, build_chain
from counterpoint.models.linear_loss import LinearLoss, WordShare
from counterpoint.parallelize.compile import apply_compile
from counterpoint.plan.samples import NO_LABEL

from .rows import BF16_OUT, FLOAT32, Case, Row, Values, compare, left_out, relative

LOSS = 1e-3
"""Of bfloat16 scores: their roundings are as often up as down and average out over rows."""

MEMORY = 0.5
"""Of what all scores in float32 would be; pieces are smaller by far, a plain one has some wide copies of itself."""

PADDING = 64
"""Rows of the matrix that are no words."""


@dataclass(frozen=True)
class Sizes:
    """Rows, words and width, and a smaller piece than usual where given."""

    rows: int
    words: int
    hidden: int
    dtype: torch.dtype = torch.bfloat16
    piece: int | None = None


LARGE = (
    Sizes(32768 + 37, 131072, 1024),
    Sizes(131072 + 37, 32768, 1024),
    Sizes(4096 + 5, 32768, 512, torch.float32, 2**25),
)
SMALL = (Sizes(70, 96, 16, piece=16 * 96), Sizes(70, 96, 16, torch.float32, 16 * 96))

Given = tuple[Tensor, Tensor, Tensor, float]
Compared = tuple[Tensor, Tensor, Tensor]
"""The loss, and the gradients of rows and words."""


def rows(device: torch.device) -> Iterator[Row]:
    """Both vocabularies, plain and with compiled pieces."""
    for sizes in LARGE if device.type == "cuda" else SMALL:
        yield from compare(_cases(device, sizes))
    if device.type != "cuda":
        yield left_out("loss in pieces, memory", "needs a GPU")


def _cases(device: torch.device, sizes: Sizes) -> Iterator[Case]:
    given = _inputs(device, sizes)
    reference: list[Compared] = []
    pieces = -(-sizes.rows // ((sizes.piece or linear_loss._SCORES_AT_ONCE) // sizes.words))
    dtype = str(sizes.dtype).removeprefix("torch.")
    for name, is_compiled in (("plain", False), ("compiled", True)):

        def work(is_compiled: bool = is_compiled) -> tuple[str, Values]:
            if not reference:
                reference.append(_float64(given, sizes))
            return "", _values(given, sizes, reference[0], is_compiled)

        shape = f"{sizes.rows} x {sizes.hidden}, {sizes.words} words, {pieces} pieces"
        yield f"loss in pieces, {dtype}, {name}", shape, work


def _inputs(device: torch.device, sizes: Sizes) -> Given:
    generator = torch.Generator(device).manual_seed(0)
    x = torch.randn(sizes.rows, sizes.hidden, generator=generator, device=device)
    w = torch.randn(sizes.words + PADDING, sizes.hidden, generator=generator, device=device) * sizes.hidden**-0.5
    labels = torch.randint(0, sizes.words, (sizes.rows,), generator=generator, device=device)
    labels[::4] = NO_LABEL
    return x.to(sizes.dtype), w.to(sizes.dtype), labels, float((labels != NO_LABEL).sum())


def _values(given: Given, sizes: Sizes, reference: Compared, is_compiled: bool) -> Values:
    loss = LinearLoss(WordShare(words=sizes.words))
    if is_compiled:
        apply_compile(build_chain([Part("loss", lambda _earlier: loss)]))
    x, w, labels, denominator = given
    with nullcontext() if sizes.piece is None else patch.object(linear_loss, "_SCORES_AT_ONCE", sizes.piece):

        def step() -> Compared:
            leaves = [x.detach().requires_grad_(), w.detach().requires_grad_()]
            value = loss(leaves[0], leaves[1], labels, denominator).loss
            of_rows, of_words = torch.autograd.grad(value, leaves)
            return value.detach(), of_rows, of_words

        if x.is_cuda:
            step()  # What the compiler needs to find out about shapes is not the loss's memory.
        (value, of_rows, of_words), peak = _peak(step, x.device)
    is_narrow = sizes.dtype == torch.bfloat16
    gradient = BF16_OUT if is_narrow else FLOAT32
    values: Values = {
        "loss": (relative(value, reference[0]), LOSS if is_narrow else FLOAT32),
        "rows": (relative(of_rows, reference[1]), gradient),
        "words": (relative(of_words[: sizes.words], reference[2]), gradient),
        "without a label": (float(of_rows[labels == NO_LABEL].double().norm()), 0.0),
        "padding": (float(of_words[sizes.words :].double().norm()), 0.0),
    }
    if peak is not None and sizes.piece is None:
        values["memory of all scores"] = (peak / (sizes.rows * sizes.words * 4), MEMORY)
    return values


def _peak(step: Callable[[], Compared], device: torch.device) -> tuple[Compared, int | None]:
    """What a step returns, and the bytes that it needs at most."""
    if device.type != "cuda":
        return step(), None
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    found = step()
    return found, torch.cuda.max_memory_allocated(device) - before


def _float64(given: Given, sizes: Sizes) -> Compared:
    """Some rows at a time as well, since all scores in float64 are too many, but by torch's own loss and autograd."""
    x, labels, denominator = given[0], given[2], given[3]
    words = given[1][: sizes.words].double().requires_grad_()
    total = torch.zeros((), dtype=torch.float64, device=x.device)
    of_rows = []
    for some, own in zip(x.split(4096), labels.split(4096), strict=True):
        leaf = some.double().requires_grad_()
        term = F.cross_entropy(leaf @ words.t(), own, ignore_index=NO_LABEL, reduction="sum") / denominator
        term.backward()
        total += term.detach()
        assert leaf.grad is not None, "rows have a gradient"
        of_rows.append(leaf.grad)
    assert words.grad is not None, "words have a gradient"
    return total, torch.cat(of_rows), words.grad
