"""Compiled layers against the same layers, uncompiled and in float64, with the same weights."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from counterpoint.families.decoder.spec import DecoderConfig
from counterpoint.families.parts import parts_of
from counterpoint.families.vit.spec import VitConfig
from counterpoint.kinds.family import Ends, Model
from counterpoint.layers.mamba.spec import MambaConfig
from counterpoint.modalities.images.spec import ImageConfig
from counterpoint.models.batch import Batch, PatchBatch, TextBatch
from counterpoint.models.chain import build_chain
from counterpoint.models.seams import Wide
from counterpoint.models.segments import Segments
from counterpoint.parallelize.compile import apply_compile
from counterpoint.plan.samples import NO_LABEL
from counterpoint.projectors.mlp.spec import MlpProjectorConfig

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

MERGED = 4
"""Rows that the projector lays side by side: all counts are multiples, but for 1, which it never sees."""

FUNCTIONS = 12
"""Compiled ones: two kinds of layer, whole or before and after attention, MLP and projector, and four of Mamba-2."""

_ROUNDINGS = 2
"""A layer in bfloat16 is at most so many times as far from float64 as one in float64 that rounds what leaves each of
its modules. Mamba-2 with random weights makes more of roundings than others: terms of the gradients of its gated norm
and of B and C cancel."""

VARIANTS = 3
"""Of one function: for the sizes that come first, for any number of rows, and one to spare."""


@dataclass(frozen=True)
class _Pair:
    """A module with compiled functions, its twin in float64, and what it reads."""

    name: str
    compiled: nn.Module
    reference: nn.Module
    batch: Callable[[int, torch.device], Batch]
    hidden: int


def rows(device: torch.device, dtype: torch.dtype) -> Iterator[Row]:
    """The row counts that come first, then others, one by one; then how often anything was compiled."""
    scale = 32 if device.type == "cuda" else 1
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    pairs = _pairs(device, dtype, scale)
    first, *others = (rows * scale for rows in (128, 96))
    yield from compare(_cases(pairs, device, dtype, first, "first sizes"))
    for count in others:
        yield from compare(_cases(pairs, device, dtype, count, "other sizes"))
    for count in (1, 0):
        yield from compare(_cases(pairs, device, dtype, count, "run as they are"))
    yield from compare(_counted(pairs, device, dtype, scale))


def _counted(pairs: list[_Pair], device: torch.device, dtype: torch.dtype, scale: int) -> Iterator[Case]:
    """20 row counts, the first two among them: the worst of all, and compilations."""
    # Also counts that equal a width of the layers, and that no power of two divides.
    step = 12 * max(scale // 4, 1)
    counts = [32 * scale, 8, 4, 60, *(step * n + MERGED * (1 + n % 2) for n in range(1, 15))]
    assert len(set(counts)) == 18, "the others of 20"

    def work() -> tuple[str, Values]:
        values: Values = {}
        halfway = 0
        for number, count in enumerate(counts):
            if number == len(counts) // 2:
                halfway = _compilations()
            for pair in pairs:
                for key, found in _values(pair, device, dtype, count).items():
                    values[key] = max(found, values.get(key, (0.0, found[1])), key=_size)
        done = _compilations()
        values["compilations"] = (float(done), float(FUNCTIONS * VARIANTS))
        values["of the last 9"] = (float(done - halfway), 0.0)
        return "", values

    yield f"compiled layers, {_name(dtype)}, 20 row counts", f"{min(counts)} to {max(counts)}", work


def _size(found: tuple[float, float]) -> tuple[bool, float]:
    """How bad a value is by its bound; nothing is worse than NaN."""
    value, bound = found
    return value != value, value / bound if bound else value


def _compilations() -> int:
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def _cases(pairs: list[_Pair], device: torch.device, dtype: torch.dtype, count: int, words: str) -> Iterator[Case]:
    for pair in pairs:
        if count == 1 and pair.name == "Projector":
            continue

        def work(pair: _Pair = pair) -> tuple[str, Values]:
            return "", _values(pair, device, dtype, count)

        yield f"compiled {pair.name}, {_name(dtype)}, {words}", f"{count} x {pair.hidden}", work


def _values(pair: _Pair, device: torch.device, dtype: torch.dtype, count: int) -> Values:
    generator = torch.Generator(device).manual_seed(count)
    drawn = torch.randn(count, pair.hidden, generator=generator, device=device).to(dtype)
    with torch.no_grad():
        shape = pair.reference(drawn.double(), pair.batch(count, device)).shape
    gradient = torch.randn(shape, generator=generator, device=device).to(dtype)
    # Padding has no loss behind it, and what comes out there is nobody's: packed kernels see it as a document.
    used = shape[0] - padding_of(count) // (count // max(shape[0], 1) or 1)
    gradient[used:] = 0
    found = _run(pair.compiled, drawn, pair.batch(count, device), gradient)
    expected = _run(pair.reference, drawn.double(), pair.batch(count, device), gradient.double())
    bounds = [FLOAT32] * 3
    if dtype == torch.bfloat16:
        with _rounding(pair.reference):
            rounded = _run(pair.reference, drawn.double(), pair.batch(count, device), gradient.double())
        least = _distances(rounded, expected, used)
        narrow = (BF16_OUT, BF16_GRADIENT, BF16_WEIGHTS)
        bounds = [max(bound, _ROUNDINGS * of_rounding) for bound, of_rounding in zip(narrow, least, strict=True)]
    distances = zip(
        ("out", "rows", "weights"), zip(_distances(found, expected, used), bounds, strict=True), strict=True
    )
    return {"not finite": (not_finite(found), 0.0), **dict(distances)}


def _distances(found: list[Tensor], expected: list[Tensor], used: int) -> tuple[float, float, float]:
    """Of the output, the gradient of the rows, and the worst gradient of a weight."""
    out = relative(found[0][:used], expected[0][:used])
    return out, relative(found[1], expected[1]), worst(found[2:], expected[2:])


@contextmanager
def _rounding(module: nn.Module) -> Iterator[None]:
    """Round what leaves each module, and the gradient of it, to bfloat16, and nothing in between."""

    def rounded(_module: nn.Module, _inputs: object, out: Any) -> Any:
        return out.bfloat16().to(out.dtype) if isinstance(out, Tensor) else out

    narrow = [inner for inner in module.modules() if not isinstance(inner, Wide)]
    hooks = [inner.register_forward_hook(rounded) for inner in narrow]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _run(module: nn.Module, drawn: Tensor, batch: Batch, gradient: Tensor) -> list[Tensor]:
    """What leaves a layer, and the gradients of its rows and of every parameter."""
    rows = drawn.detach().requires_grad_()
    out = module(rows, batch)
    return [out.detach(), *torch.autograd.grad(out, [rows, *module.parameters()], gradient)]


def _pairs(device: torch.device, dtype: torch.dtype, scale: int) -> list[_Pair]:
    hidden = 32 * scale
    heads = 16 if scale > 1 else 4
    dim = hidden // heads
    vocabulary = 8
    decoder = DecoderConfig(
        kind="decoder", pattern="*-M", hidden=hidden, heads=heads, kv_heads=heads // 2, head_dim=dim, ffn=3 * hidden,
        vocab=vocabulary, qk_norm=True,
        mamba=MambaConfig(heads=heads, head_dim=dim, groups=heads // 2, state=dim, chunk=16),
    )  # fmt: skip
    tower = VitConfig(
        kind="vit", image=ImageConfig(max_patches=MERGED), layers=1, hidden=hidden, heads=heads, ffn=4 * hidden,
        patch=2, positions=0, rotary_theta=100.0, key_bias=False, merge=2, layer_scale=True,
        projector=MlpProjectorConfig(kind="mlp", hidden=2 * hidden, norm="layer"),
    )  # fmt: skip
    ends = Ends(leaving=hidden, vocab=vocabulary)
    wanted: list[tuple[DecoderConfig | VitConfig, str, Callable[[int, torch.device], Batch]]] = [
        (decoder, "layers.0", _text),
        (decoder, "layers.1", _text),
        (decoder, "layers.2", _text),
        (tower, "layers.0", _patches),
        (tower, "projector", _patches),
    ]
    pairs = []
    for section, name, batch in wanted:
        with torch.device("meta"):
            chain = build_chain([part for part in parts_of(Model(section, ends)) if part.name == name])
        chain.to_empty(device=device)
        _fill(chain, dtype)
        reference = copy.deepcopy(chain).double()
        chain.to(dtype)
        # As under FSDP2, where such modules compute in the dtype that parameters are stored in.
        for module in chain.modules():
            if isinstance(module, Wide) and dtype == torch.bfloat16:
                module.float()
        apply_compile(chain)
        module = chain.get_submodule(name)
        pairs.append(_Pair(type(module).__name__, module, reference.get_submodule(name), batch, hidden))
    return pairs


def _fill(chain: nn.Module, dtype: torch.dtype) -> None:
    """Values for which every term of a layer counts, as the dtype has them."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in chain.named_parameters():
        values: Any = torch.randn(parameter.shape, generator=generator)
        values = values * parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else values * 0.1
        # Gains of norms and of what a sublayer adds.
        values = values + 1 if parameter.ndim == 1 and name.endswith("weight") else values
        parameter.detach().copy_(values.to(dtype))


def padding_of(count: int) -> int:
    """Rows of padding behind the documents of a batch."""
    return min(count // 3 // MERGED * MERGED, MERGED)


def _segments(count: int, device: torch.device) -> Segments:
    """Three documents, in groups of MERGED, and rows of padding behind them."""
    third = count // 3 // MERGED * MERGED
    return Segments.build((third, 0, count - 2 * third - padding_of(count), third), count, device)


def _text(count: int, device: torch.device) -> TextBatch:
    places = torch.arange(count, device=device)
    labels = torch.full_like(places, NO_LABEL)
    return TextBatch(torch.zeros_like(places), places, labels, _segments(count, device), 1.0)


def _patches(count: int, device: torch.device) -> PatchBatch:
    places = torch.arange(count, device=device)
    grid = torch.stack((places // 16, places % 16), dim=1)
    patches = torch.zeros(count, 1, device=device)
    return PatchBatch(patches, grid, grid, torch.full_like(places, -1), grid, segments=_segments(count, device))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
