"""Mixtures of experts against float64: sorted slots, copies and sums of rows, the choice of experts, whole layers."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from counterpoint.families.decoder.spec import DecoderConfig
from counterpoint.families.parts import parts_of
from counterpoint.kinds.family import Ends, Model
from counterpoint.layers.mlp.spec import DecoderActivation
from counterpoint.layers.moe.router import Router
from counterpoint.layers.moe.spec import MoeConfig
from counterpoint.models.batch import TextBatch
from counterpoint.models.chain import build_chain
from counterpoint.models.permute import Order, copied, sort_slots, summed
from counterpoint.models.seams import Wide
from counterpoint.models.segments import Segments
from counterpoint.parallelize.compile import apply_compile
from counterpoint.plan.samples import NO_LABEL

from .rows import (
    BF16_GRADIENT,
    BF16_OUT,
    BF16_WEIGHTS,
    FLOAT32,
    Case,
    Row,
    Values,
    compare,
    not_finite,
    relative,
    worst,
)

LARGE = 1e30
"""What lies in rows that nobody chose: finite in bfloat16, and its square is not in float32."""

SUMS = {torch.bfloat16: 2**-8, torch.float32: 1e-6, torch.float64: 1e-14}
"""Of a few values added up in at least float32, and rounded once."""

DTYPES = tuple(SUMS)

ACTIVATIONS: tuple[DecoderActivation, ...] = ("relu2", "swiglu")


@dataclass(frozen=True)
class Slots:
    """Choices of rows: keys in range(count) are local, others are not."""

    name: str
    rows: int
    slots: int
    count: int
    width: int
    first: int = 0
    last: int | None = None

    def keys(self, device: torch.device) -> Tensor:
        """Different keys for a row, drawn from first to last."""
        last = self.count if self.last is None else self.last
        drawn = torch.rand(self.rows, last - self.first, generator=torch.Generator().manual_seed(self.rows + last))
        return (drawn.argsort(dim=1)[:, : self.slots] + self.first).to(torch.int32).to(device)


def rows(device: torch.device) -> Iterator[Row]:
    """All of it; on a CPU small."""
    scale = 1 if device.type == "cuda" else 64
    for slots in _slots(scale):
        yield from compare(_permuted(slots, device))
    yield from compare(_choices(device, scale))
    for dtype in (torch.bfloat16, torch.float32):
        for activation in ACTIVATIONS:
            yield from compare(_layers(device, dtype, activation, scale))


def _slots(scale: int) -> Iterator[Slots]:
    rows, width = 8192 // scale, 2688 // scale
    yield Slots("all experts are local", rows, 6, 32, width)
    yield Slots("128 experts", rows, 6, 128, width)
    yield Slots("half of the experts are local", 2 * rows - 37, 6, 16, width, -16)
    yield Slots("of some rows none is local", rows + 5, 6, 8, width, -40, 24)
    yield Slots("no row has a local one", 77, 6, 8, width, -20, 0)
    yield Slots("experts without rows", 3, 4, 64, width)
    yield Slots("no rows", 0, 6, 16, width)
    yield Slots("a row", 1, 2, 2, width)
    yield Slots("ranks", rows, 2, 2, width)
    yield Slots("22 of 512", rows // 4, 22, 512, 1000 // scale + 1)
    yield Slots("weights", 6 * rows, 1, 32, 1)


def _permuted(slots: Slots, device: torch.device) -> Iterator[Case]:
    shape = f"{slots.rows} x {slots.slots} of {slots.count}, {slots.width} wide"
    for dtype in DTYPES:

        def work(dtype: torch.dtype = dtype) -> tuple[str, Values]:
            return "", _permutation(slots, device, dtype)

        yield f"rows to experts, {_name(dtype)}, {slots.name}", shape, work


def _permutation(slots: Slots, device: torch.device, dtype: torch.dtype) -> Values:
    keys = slots.keys(device)
    flat = keys.flatten().tolist()
    slot = [slot for _key, slot in sorted((key, slot) for slot, key in enumerate(flat) if 0 <= key < slots.count)]
    expected = torch.tensor(slot, dtype=torch.int64, device=device)
    order: Order = sort_slots(keys, slots.count).of(len(slot), slots.rows)
    places = torch.full((len(flat),), -1, device=device)
    places[expected] = torch.arange(len(slot), device=device)
    generator = torch.Generator(device).manual_seed(slots.rows)
    given = torch.randn(slots.rows, slots.width, generator=generator, device=device).to(dtype)
    # Rows without a local expert, of which nothing may be read.
    given[(order.places < 0).all(dim=1)] = LARGE
    entries = torch.randn(len(slot), slots.width, generator=generator, device=device).to(dtype)
    row = expected // slots.slots
    sums = torch.zeros(given.shape, dtype=torch.float64, device=device).index_add(0, row, entries.double())
    given.requires_grad_()
    leaves = entries.clone().requires_grad_()
    copies, totals = copied(given, order), summed(leaves, order)
    (of_given,) = torch.autograd.grad(copies, given, entries)
    (of_leaves,) = torch.autograd.grad(totals, leaves, given.detach())
    return {
        "not finite": (not_finite([copies, totals, of_given, of_leaves]), 0.0),
        "misplaced": (_differing(order.entries, expected) + _differing(order.places.flatten(), places), 0.0),
        "copies": (_differing(copies, given.detach()[row]) + _differing(of_leaves, given.detach()[row]), 0.0),
        "sums": (relative(totals, sums), SUMS[dtype]),
        "gradient": (relative(of_given, sums), SUMS[dtype]),
    }


def _differing(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape, f"{tuple(found.shape)} is compared with {tuple(expected.shape)}"
    return float((found != expected).sum())


def _choices(device: torch.device, scale: int) -> Iterator[Case]:
    """The choice of experts, plain and compiled, against a stable sort: many scores are equal."""
    for experts, top_k in ((32, 6), (128, 6), (64, 8)):
        for is_compiled in (False, True):

            def work(experts: int = experts, top_k: int = top_k, is_compiled: bool = is_compiled) -> tuple[str, Values]:
                return "", _choice(device, 8192 // scale, experts, top_k, is_compiled)

            yield f"choice of experts, {'compiled' if is_compiled else 'plain'}", f"{top_k} of {experts}", work


def _choice(device: torch.device, rows: int, experts: int, top_k: int, is_compiled: bool) -> Values:
    section = MoeConfig(experts=experts, top_k=top_k, ffn=1, router="sigmoid", scale=2.5, bias_rate=0.1)
    router = Router(8, section)
    choose = torch.compile(router.choose) if is_compiled else router.choose
    generator = torch.Generator(device).manual_seed(experts)
    logits = torch.randint(-3, 4, (rows, experts), generator=generator, device=device).float().requires_grad_()
    bias = torch.randint(-1, 2, (experts,), generator=generator, device=device) / 16
    choice = choose(logits, bias)
    reference = logits.detach().double().requires_grad_()
    scores = reference.sigmoid()
    wanted = logits.detach().sigmoid() + bias
    expected = wanted.sort(dim=1, descending=True, stable=True).indices[:, :top_k]
    weights = scores.gather(1, expected)
    weights = weights / weights.sum(dim=1, keepdim=True) * section.scale
    gradient = torch.randn(weights.shape, generator=generator, device=device)
    (found,) = torch.autograd.grad(choice.weights, logits, gradient)
    (exact,) = torch.autograd.grad(weights, reference, gradient.double())
    return {
        "other experts": (_differing(choice.experts, expected), 0.0),
        "counts": (_differing(choice.counts, expected.flatten().bincount(minlength=experts)), 0.0),
        "weights": (relative(choice.weights, weights.detach()), FLOAT32),
        "gradient": (relative(found, exact), FLOAT32),
    }


def _layers(device: torch.device, dtype: torch.dtype, activation: DecoderActivation, scale: int) -> Iterator[Case]:
    """A layer, plain and compiled; all choose in turn, since float32 and float64 may differ about scores that are
    nearly equal."""
    hidden = 1024 // scale
    moe = MoeConfig(
        experts=16, top_k=4, ffn=hidden // 2, shared_ffn=hidden, router="sigmoid", scale=2.5, bias_rate=0.1, balance=0.1
    )
    decoder = DecoderConfig(
        kind="decoder", pattern="E", hidden=hidden, heads=2, kv_heads=2, head_dim=8, vocab=8, activation=activation,
        moe=moe,
    )  # fmt: skip
    model = Model(decoder, Ends(leaving=hidden, vocab=8))
    chain = build_chain([part for part in parts_of(model) if part.name == "layers.0"])
    _fill(chain, dtype)
    reference = copy.deepcopy(chain).to(device).double()
    for is_compiled in (False, True):
        layer = copy.deepcopy(chain).to(device, dtype)
        for module in layer.modules():
            if isinstance(module, Wide):
                module.float()
        if is_compiled:
            torch._dynamo.reset()
            apply_compile(layer)
        for count in (2048 // scale, 1536 // scale + 5, 1, 0):

            def work(layer: nn.Module = layer, count: int = count) -> tuple[str, Values]:
                return "", _layer(layer, reference, count, hidden, device, dtype)

            how = "compiled" if is_compiled else "plain"
            yield f"layer of experts, {activation}, {_name(dtype)}, {how}", f"{count} x {hidden}", work


def _layer(
    layer: nn.Module, reference: nn.Module, count: int, hidden: int, device: torch.device, dtype: torch.dtype
) -> Values:
    padding = min(count // 3, 7)
    used = count - padding
    generator = torch.Generator(device).manual_seed(count)
    drawn, gradient = (torch.randn(count, hidden, generator=generator, device=device).to(dtype) for _ in range(2))
    drawn[used:] *= 2.0**40
    gradient[used:] = 0
    batch = _batch(used, count, device)
    found = _run(layer.get_submodule("layers.0"), drawn, batch, gradient)
    expected = _run(reference.get_submodule("layers.0"), drawn.double(), batch, gradient.double())
    is_narrow = dtype == torch.bfloat16
    return {
        "not finite": (not_finite(found), 0.0),
        "out": (relative(found[0][:used], expected[0][:used]), BF16_OUT if is_narrow else FLOAT32),
        "rows": (relative(found[1][:used], expected[1][:used]), BF16_GRADIENT if is_narrow else FLOAT32),
        "weights": (worst(found[2:], expected[2:]), BF16_WEIGHTS if is_narrow else FLOAT32),
    }


def _run(layer: nn.Module, drawn: Tensor, batch: TextBatch, gradient: Tensor) -> list[Tensor]:
    for module in layer.modules():
        if isinstance(module, Router):
            module.is_even = True
    rows = drawn.detach().requires_grad_()
    out = layer(rows, batch).rows
    return [out.detach(), *torch.autograd.grad(out, [rows, *layer.parameters()], gradient)]


def _fill(chain: nn.Module, dtype: torch.dtype) -> None:
    """Values as the dtype has them."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in chain.named_parameters():
        values = torch.randn(parameter.shape, generator=generator)
        values = 1 + values * 0.1 if parameter.ndim == 1 else values * parameter.shape[-1] ** -0.5
        stored = torch.float32 if "router" in name else dtype
        parameter.detach().copy_(values.to(stored))
    for buffer in chain.buffers():
        buffer.zero_()


def _batch(used: int, count: int, device: torch.device) -> TextBatch:
    places = torch.arange(count, device=device)
    segments = Segments.build((used // 3, 0, used - used // 3), count, device)
    labels = torch.full_like(places, NO_LABEL)
    return TextBatch(torch.zeros_like(places), places, labels, segments, 1.0, document_denominator=3.0)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
