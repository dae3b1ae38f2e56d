"""AdamW in one pass: against torch's, and its kernel against plain torch."""

from collections.abc import Sequence
from importlib.util import find_spec

import pytest
import torch

from counterpoint.optimizers.adamw.one_pass import OnePassAdamW, Pass, PlainPass, Scalars, State
from counterpoint.optimizers.adamw.rounding import key_of, places_of
from counterpoint.optimizers.adamw.spec import AdamWSection
from counterpoint.optimizers.pieces import Piece
from counterpoint.optimizers.shard import Shard, Team
from counterpoint.verify.adamw import plain_adamw

SECTION = AdamWSection(lr=1e-2, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.3)
ROUNDED = SECTION.model_copy(update={"moments": "bfloat16"})
TEAM = Team(None, 0, {}, torch.float32, torch.device("cpu"))
RIGHT, BROKEN = torch.tensor(False), torch.tensor(True)

WHOLES = {"layers.0.mlp.up.weight": (5, 3), "layers.0.mlp.up.bias": (5,), "experts.up": (4, 6, 5), "scale": ()}
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
"""Where the kernel runs: on a CPU Triton interprets it."""


@pytest.mark.parametrize("section", [SECTION, ROUNDED], ids=["full", "bfloat16"])
def test_it_updates_as_the_reference(section: AdamWSection) -> None:
    shards = [_shard(name, shape, seed) for seed, (name, shape) in enumerate(WHOLES.items())]
    plain = {shard.name: torch.nn.Parameter(shard.values.clone()) for shard in shards}
    moments = torch.bfloat16 if section is ROUNDED else torch.float64
    ours, (reference,) = OnePassAdamW(section, shards, TEAM, moments), plain_adamw(section, plain)
    for step in range(6):
        gradients = _like(shards, 100 + step)
        scale = 0.5 if step % 2 else 1.0
        for shard, gradient in zip(shards, gradients, strict=True):
            plain[shard.name].grad = gradient * scale
        for group in reference.param_groups:
            group["lr"] = 1e-2 / (step + 1)
        ours.step_scaled(gradients, torch.tensor(scale, dtype=torch.float64), 1e-2 / (step + 1), RIGHT)
        reference.step()
    for shard in shards:
        torch.testing.assert_close(shard.values, plain[shard.name].data, rtol=1e-13, atol=1e-15, msg=shard.name)


def test_pieces_are_updated_as_the_whole() -> None:
    whole = _shard("experts.up", (4, 6, 5), 0)
    boxes = [Piece((a, 0, b), (2, 6, 2 + b // 2)) for a in (0, 2) for b in (0, 2)]
    pieces = [Shard(whole.name, whole.whole, box, whole.values[_inside(box)].clone()) for box in boxes]
    one = OnePassAdamW(ROUNDED, [whole], TEAM, torch.bfloat16)
    others = [OnePassAdamW(ROUNDED, [piece], TEAM, torch.bfloat16) for piece in pieces]
    for step in range(4):
        (gradient,) = _like([whole], step)
        one.step([gradient], 1e-2, RIGHT)
        for box, other in zip(boxes, others, strict=True):
            other.step([gradient[_inside(box)]], 1e-2, RIGHT)
    for box, piece, other in zip(boxes, pieces, others, strict=True):
        assert torch.equal(piece.values, whole.values[_inside(box)])
        for (kept,), (alone,) in [(one.moments(), other.moments())]:
            assert all(torch.equal(alone[name], kept[name][_inside(box)]) for name in kept)


def test_a_broken_step_changes_nothing_and_does_not_count() -> None:
    shards, others = ([_shard("layers.0.mlp.up.weight", (5, 3), 0)] for _ in range(2))
    ours, other = (OnePassAdamW(ROUNDED, some, TEAM, torch.bfloat16) for some in (shards, others))
    ours.step([torch.full((5, 3), torch.nan, dtype=torch.float64)], 1e-2, BROKEN)
    assert torch.equal(shards[0].values, others[0].values)
    assert not any(moment.any() for moment in ours.moments()[0].values())
    for update in (ours, other):
        update.step(_like(shards, 1), 1e-2, RIGHT)
    assert torch.equal(shards[0].values, others[0].values)


@pytest.mark.skipif(find_spec("triton") is None, reason="torch for CPUs comes without Triton")
@pytest.mark.parametrize("moments", ["full", "bfloat16"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_kernel_equals_plain_torch(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, moments: str) -> None:
    if DEVICE.type == "cpu":
        monkeypatch.setenv("TRITON_INTERPRET", "1")
    from counterpoint.optimizers.adamw.kernel import KernelPass

    kept = torch.bfloat16 if moments == "bfloat16" else dtype
    plain, ours = _states(dtype, kept, torch.device("cpu")), _states(dtype, kept, DEVICE)
    passes: list[Pass] = [PlainPass(SECTION, plain), KernelPass(SECTION, ours)]
    for step in (1, 2, 3):
        # Where layers compute in bfloat16, some gradients come in it; which ones may change from step to step.
        dtypes = [torch.bfloat16 if (number + step) % 2 else dtype for number in range(len(plain))]
        gradients = [torch.randn(state.values.shape).to(one) for state, one in zip(plain, dtypes, strict=True)]
        for one, device in zip(passes, (torch.device("cpu"), DEVICE), strict=True):
            # An odd address: what comes before a gradient in a buffer may have any size.
            moved = [torch.cat((g.new_zeros(step), g.reshape(-1))).to(device)[step:].view(g.shape) for g in gradients]
            one(moved, _scalars(step, device))
    tolerance = 1e-6 if dtype == torch.float32 else 1e-14
    for expected, found in zip(plain, ours, strict=True):
        torch.testing.assert_close(found.values.cpu(), expected.values, rtol=tolerance, atol=tolerance)
        for state in (expected, found) if dtype == torch.float32 else ():
            assert state.rounded is not None
            # Triton's interpreter cuts bits off where a GPU rounds.
            cut = 2**-7 if state is found and DEVICE.type == "cpu" else 0.0
            torch.testing.assert_close(state.rounded, state.values.to(torch.bfloat16), rtol=cut, atol=0.0)
        for name in ("mean", "square"):
            pair = getattr(found, name).cpu(), getattr(expected, name)
            # In which of two neighbours a mean ends is decided by bits that both have: all but a few are equal.
            differing = (pair[0] != pair[1]).sum() if moments == "bfloat16" else 0
            assert differing <= pair[0].numel() // 1000 + 1
            torch.testing.assert_close(*pair, rtol=2**-7 if moments == "bfloat16" else tolerance, atol=tolerance)
    before = [state.values.clone() for state in ours]
    passes[1]([torch.full_like(state.values, torch.nan) for state in ours], _scalars(4, DEVICE, is_broken=1.0))
    assert all(torch.equal(state.values, values) for state, values in zip(ours, before, strict=True))


def _states(dtype: torch.dtype, kept: torch.dtype, device: torch.device) -> list[State]:
    """Shards of several blocks and of none that is whole, contiguous in the whole parameter or not."""
    cuts = {
        "long": ((9000,), Piece((100,), (8200,))),
        "columns": ((70, 90), Piece((10, 30), (50, 60))),
        "experts": ((8, 30, 20), Piece((4, 10, 5), (2, 7, 5))),
        "scale": ((), Piece((), ())),
        "far": ((2**20, 2**14), Piece((2**19, 5), (3, 5))),
    }
    states = []
    for seed, (name, (whole, piece)) in enumerate(cuts.items()):
        values = _random(piece.shape, seed).to(device, dtype)
        shard = Shard(name, whole, piece, values)
        moments = (
            _random(piece.shape, seed + 50).to(device, kept),
            _random(piece.shape, seed + 90).abs().to(device, kept),
        )
        rounded = torch.empty_like(values, dtype=torch.bfloat16) if dtype == torch.float32 else None
        states.append(State(values, *moments, 0.1 * len(whole), key_of(name), places_of(shard), rounded))
    return states


def _scalars(step: int, device: torch.device, is_broken: float = 0.0) -> Scalars:
    (beta, of_square), lr = SECTION.betas, 1e-2
    numbers = (is_broken, 0.5, lr, lr / (1 - beta**step), (1 - of_square**step) ** -0.5, float(step))
    return Scalars(*torch.tensor(numbers, dtype=torch.float64, device=device).unbind())


def _shard(name: str, shape: tuple[int, ...], seed: int) -> Shard:
    return Shard(name, shape, Piece((0,) * len(shape), shape), _random(shape, seed))


def _like(shards: Sequence[Shard], seed: int) -> list[torch.Tensor]:
    return [_random(tuple(shard.values.shape), seed + number) for number, shard in enumerate(shards)]


def _random(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _inside(box: Piece) -> tuple[slice, ...]:
    return tuple(slice(start, start + n) for start, n in zip(box.offset, box.shape, strict=True))
