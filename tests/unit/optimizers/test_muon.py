"""Muon of whole and of cut matrices: what it updates, how, and what ranks send each other."""

from itertools import product
from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.optimizers.muon.matrices import (
    Matrix,
    matrices_of,
    rounds_of,
    to_holders,
    to_owners,
    travels,
    with_owners,
)
from counterpoint.optimizers.muon.orthogonal import orthogonalized
from counterpoint.optimizers.muon.spec import MuonSection, is_hidden_matrix
from counterpoint.optimizers.muon.update import MuonUpdate
from counterpoint.optimizers.pieces import Piece
from counterpoint.optimizers.shard import Shard, Spread, Team
from counterpoint.parallelize.blocks import Cut, cut_block
from counterpoint.verify.muon import is_hidden, plain_muon

SECTION = MuonSection(kind="muon", lr=0.1)


@pytest.mark.parametrize(
    ("name", "shape", "hidden"),
    [
        ("layers.0.attention.q.weight", (6, 4), True),
        ("layers.0.mamba.b.weight", (6, 4), True),
        ("layers.0.moe.experts.up", (3, 6, 4), True),
        ("layers.0.moe.shared.up.weight", (6, 4), True),
        ("projector.mlp.up.weight", (6, 4), True),
        ("mtp.0.join.weight", (6, 12), True),
        ("layers.0.moe.router.weight", (3, 4), False),
        ("layers.0.mamba.x_conv.weight", (6, 4), False),
        ("layers.0.norm.weight", (6,), False),
        ("layers.0.mlp.up.bias", (6,), False),
        ("embed.patch.weight", (6, 4), False),
        ("embed.weight", (6, 4), False),
        ("head.weight", (6, 4), False),
        ("layers.0.conv.weight", (6, 1, 7), False),
    ],
)
def test_what_muon_updates(name: str, shape: tuple[int, ...], hidden: bool) -> None:
    assert is_hidden_matrix(SECTION, name, shape) is hidden
    assert is_hidden(SECTION, name, len(shape)) is hidden


def test_patterns_choose_but_words_and_vectors_stay() -> None:
    every = MuonSection(kind="muon", lr=0.1, adamw_for=())
    assert is_hidden_matrix(every, "layers.0.moe.router.weight", (3, 4))
    assert not any(is_hidden_matrix(every, name, (6, 4)) for name in ("embed.weight", "head.weight"))
    assert not is_hidden_matrix(MuonSection(kind="muon", lr=0.1, adamw_for=("*.q.*",)), "layers.0.q.weight", (6, 4))


@pytest.mark.parametrize("shape", [(1, 5, 5), (2, 3, 7), (3, 7, 3), (1, 1, 4)])
def test_singular_values_pass_through_the_polynomial(shape: tuple[int, ...]) -> None:
    given_matrices = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    made = orthogonalized(given_matrices, 5, 1e-9)
    for before, after in zip(given_matrices, made, strict=True):
        left, values, right = torch.linalg.svd(before, full_matrices=False)
        values = values / (values.norm() + 1e-9)
        for _iteration in range(5):
            values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
        torch.testing.assert_close(after, (left * values) @ right, rtol=0, atol=1e-13)
        assert torch.linalg.svdvals(after).max() < 1.3


def test_lost_rows_and_zeros_stay_lost() -> None:
    """What has no singular value gets none: noise below rounding is not made large."""
    low = torch.outer(torch.arange(1.0, 6.0, dtype=torch.float64), torch.arange(1.0, 5.0, dtype=torch.float64))
    assert torch.linalg.svdvals(orthogonalized(low[None], 5, 1e-9)[0])[1] < 1e-12
    assert not orthogonalized(torch.zeros(1, 3, 4, dtype=torch.float64), 5, 1e-9).any()


def alone(section: MuonSection, whole: dict[str, torch.Tensor]) -> MuonUpdate:
    """The update of a process that holds whole parameters."""
    pieces = {name: Piece((0,) * one.dim(), tuple(one.shape)) for name, one in whole.items()}
    spreads = {name: Spread(tuple(one.shape), (pieces[name],)) for name, one in whole.items() if one.dim() > 1}
    shards = [Shard(name, tuple(one.shape), pieces[name], one) for name, one in whole.items()]
    return MuonUpdate(section, shards, Team(None, 0, spreads, shards[0].values.dtype, torch.device("cpu")))


SHAPES = {"layers.0.o.weight": (5, 8), "layers.0.up.bias": (8,), "layers.0.moe.experts.up": (3, 4, 6),
          "head.weight": (7, 5)}  # fmt: skip


def values(seed: int, dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, dtype=dtype, generator=generator) for name, shape in SHAPES.items()}


@pytest.mark.parametrize("nesterov", [True, False])
def test_it_updates_as_the_reference(nesterov: bool) -> None:
    section = MuonSection(kind="muon", lr=0.1, weight_decay=0.2, nesterov=nesterov, momentum=0.8)
    ours, theirs = values(0), {name: torch.nn.Parameter(one) for name, one in values(0).items()}
    update, plain = alone(section, ours), plain_muon(section, theirs)
    for step in range(3):
        gradients = values(10 + step)
        update.step(list(gradients.values()), 0.1 / (step + 1), torch.tensor(False))
        for name, gradient in gradients.items():
            theirs[name].grad = gradient
        for optimizer in plain:
            for group in optimizer.param_groups:
                group["lr"] = 0.1 / (step + 1)
            optimizer.step()
    for name, one in ours.items():
        torch.testing.assert_close(one, theirs[name].detach(), rtol=1e-11, atol=1e-12, msg=name)


def test_it_updates_as_torchs_muon() -> None:
    """Torch's iterates in bfloat16; how far that leads is measured by the float32 of ours."""
    name, shape = "layers.0.o.weight", (24, 40)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(shape, generator=generator)
    ours, theirs = {name: start.clone()}, torch.nn.Parameter(start.clone())
    update = alone(MuonSection(kind="muon", lr=0.1, weight_decay=0.2), ours)
    plain = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.2, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    for _step in range(3):
        gradient = torch.randn(shape, generator=generator)
        theirs.grad = gradient.clone()
        update.step([gradient], 0.1, torch.tensor(False))
        plain.step()
    moved, expected = ours[name] - start, theirs.detach() - start
    assert (moved - expected).norm() < 0.02 * expected.norm()


def test_a_broken_step_changes_nothing() -> None:
    ours, untouched = values(0), values(0)
    update = alone(SECTION, ours)
    update.step(list(values(1).values()), 0.1, torch.tensor(False))
    before = {name: one.clone() for name, one in ours.items()}
    moments = [{key: one.clone() for key, one in kept.items()} for kept in update.moments()]
    update.step([one * torch.nan for one in values(2).values()], 0.1, torch.tensor(True))
    assert all(torch.equal(ours[name], before[name]) and not torch.equal(ours[name], untouched[name]) for name in ours)
    assert [set(kept) for kept in moments] == [{"momentum"}, {"exp_avg", "exp_avg_sq"}, {"momentum"},
                                               {"exp_avg", "exp_avg_sq"}]  # fmt: skip
    for kept, now in zip(moments, update.moments(), strict=True):
        assert all(torch.equal(kept[key], now[key]) for key in kept)


def pieces_of(shape: tuple[int, ...], cuts: list[list[Cut]]) -> tuple[Piece, ...]:
    blocks = [cut_block("x", shape, cut, "shard") for cut in cuts]
    return tuple(Piece(block.offset, block.shape) for block in blocks)


@st.composite
def spreads(draw: st.DrawFn) -> tuple[int, list[tuple[str, tuple[int, ...], tuple[Piece, ...]]]]:
    """Parameters over the ranks of a stage: replicas x shards x tp, and experts over edp x ep x etp of the same."""
    replicas, shards, tp = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    size = replicas * shards * tp
    found: list[tuple[str, tuple[int, ...], tuple[Piece, ...]]] = []
    for number in range(draw(st.integers(1, 4))):
        shape = (draw(st.integers(1, 7)), draw(st.integers(1, 4)) * tp)
        dim = draw(st.sampled_from([None, 1]))
        places = list(product(range(replicas), range(shards), range(tp)))
        cuts = [[*([] if dim is None else [Cut(dim, t, tp)]), Cut(0, s, shards)] for _r, s, t in places]
        found.append((f"layers.{number}.o.weight", shape, pieces_of(shape, cuts)))
    ep = draw(st.sampled_from([n for n in range(1, size + 1) if size % n == 0]))
    etp = draw(st.sampled_from([n for n in range(1, size // ep + 1) if size // ep % n == 0]))
    edp = size // ep // etp
    stack = (ep * draw(st.integers(1, 2)), etp * draw(st.integers(1, 2)), draw(st.integers(1, 3)))
    last = draw(st.sampled_from([0, 1, 2]))
    views = list(product(range(edp), range(ep), range(etp)))
    cuts = [[Cut(0, e, ep), Cut(1, t, etp), Cut(last, d, edp)] for d, e, t in views]
    found.append(("layers.9.moe.experts.up", stack, pieces_of(stack, cuts)))
    return size, found


@given(spreads(), st.integers(1, 60))
def test_every_element_meets_at_its_owner_and_comes_back(
    drawn: tuple[int, list[tuple[str, tuple[int, ...], tuple[Piece, ...]]]], most: int
) -> None:
    size, parameters = drawn
    matrices = with_owners(m for name, shape, pieces in parameters for m in matrices_of(name, shape, pieces))
    assert sum(m.elements for m in matrices) == sum(prod(shape) for _name, shape, _pieces in parameters)
    for rank in range(size):
        held = sum(piece.elements for m in matrices if (piece := m.pieces[rank]) is not None)
        assert held == sum(pieces[rank].elements for _name, _shape, pieces in parameters)
    rounds = rounds_of(matrices, most)
    assert sorted(m.key for one in rounds for m in one) == sorted(m.key for m in matrices)
    assert all(m.owner in m.givers for m in matrices)
    for one in rounds:
        for rank in range(size):
            owned = [m for m in one if m.owner == rank]
            assert sum(m.elements for m in owned) <= max(most, max((m.elements for m in owned), default=0))
        filled = {m.key: np.zeros(m.shape, dtype=int) for m in one}
        outward = {rank: to_owners(one, rank) for rank in range(size)}
        homeward = {rank: to_holders(one, rank) for rank in range(size)}
        for rank in range(size):
            for parcel in outward[rank][1]:
                filled[parcel.matrix.key][box(parcel.piece)] += 1
            wanted = [(m.key, piece) for m in one if (piece := m.pieces[rank]) is not None]
            back = [(parcel.matrix.key, parcel.piece) for parcel in homeward[rank][1]]
            assert sorted(back, key=str) == sorted(wanted, key=str)
            for peer in range(size):
                for trip in (outward, homeward):
                    sent = [(p.matrix.key, p.piece) for p in trip[rank][0] if p.peer == peer]
                    assert sent == [(p.matrix.key, p.piece) for p in trip[peer][1] if p.peer == rank]
        assert all((counts == 1).all() for counts in filled.values())
        moved = any(p.peer != rank for rank in range(size) for p in (*outward[rank][0], *homeward[rank][0]))
        assert travels(one) is moved


def box(piece: Piece) -> tuple[slice, ...]:
    return tuple(slice(start, start + n) for start, n in zip(piece.offset, piece.shape, strict=True))


def test_work_is_shared_out_and_what_is_whole_stays() -> None:
    whole = [Piece((0, 0), (4, 4)), Piece((4, 0), (0, 4))]
    here = Matrix("a", None, (4, 4), (None, whole[0]))
    shared = [Matrix(name, None, (4, 4), (whole[0], whole[0])) for name in "bcd"]
    owned = with_owners([here, *shared])
    assert [(m.name, m.owner) for m in owned] == [("a", 1), ("b", 0), ("c", 0), ("d", 1)]
    assert not travels((owned[0],))
    assert travels((owned[1],))
