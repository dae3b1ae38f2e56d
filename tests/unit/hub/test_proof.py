"""Plans of exports: every row once, shares that are even, and no fault that the proof does not see."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.errors import ProofError
from counterpoint.hub import plan as plans
from counterpoint.hub.plan import BYTES_OF, ExportPlan, Piece, Tensor, plan_export, sharded
from counterpoint.hub.proof import prove_export

TENSORS = (
    Tensor("embed", "BF16", (40, 6), "written"),
    Tensor("norm", "F32", (6,), "written"),
    Tensor("positions", "BF16", (1, 9, 4), "carried"),
    Tensor("count", "I64", (), "carried"),
    Tensor("nothing", "F32", (0, 3), "carried"),
)
INDEX = {tensor.name: tensor.shape for tensor in TENSORS}
WRITTEN = {"embed", "norm"}
PLAN = plan_export({"a": TENSORS[:2], "b": TENSORS[2:]}, 3)


def _sound(plan: ExportPlan) -> None:
    prove_export(plan, INDEX, WRITTEN)


def _with_tensor(number: int, **changes: object) -> ExportPlan:
    one = PLAN.placed[number]
    changed = replace(one, tensor=replace(one.tensor, **changes))  # type: ignore[arg-type]
    return replace(PLAN, placed=(*PLAN.placed[:number], changed, *PLAN.placed[number + 1 :]))


def _with_share(process: int, share: tuple[Piece, ...]) -> ExportPlan:
    return replace(PLAN, shares=tuple(share if p == process else old for p, old in enumerate(PLAN.shares)))


FIRST, LAST = PLAN.shares[0], PLAN.shares[-1]
FAULTS = {
    "a name of another model": (_with_tensor(0, name="embedding"), "is missing"),
    "a tensor lost": (replace(PLAN, placed=PLAN.placed[:-1]), "is missing"),
    "a tensor twice": (replace(PLAN, placed=(*PLAN.placed, PLAN.placed[0])), "is planned twice"),
    "ours carried": (_with_tensor(0, origin="carried"), "is held here, but would be carried"),
    "theirs written": (_with_tensor(2, origin="written"), "is carried, but no base has it"),
    "another shape": (_with_tensor(1, shape=(20, 12)), "has the shape"),
    "a wider type": (_with_tensor(1, dtype="F32"), "one after another"),
    "a type of the same width": (_with_tensor(1, dtype="F16"), "header of a"),
    "an overlap": (replace(PLAN, placed=(replace(PLAN.placed[0], begin=2), *PLAN.placed[1:])), "one after another"),
    "a longer file": (
        replace(PLAN, files=(replace(PLAN.files[0], data_bytes=999), PLAN.files[1])),
        "one after another",
    ),
    "another header": (
        replace(PLAN, files=(replace(PLAN.files[0], header=PLAN.files[1].header), PLAN.files[1])),
        "header of a",
    ),
    "a header of another length": (
        replace(PLAN, files=(replace(PLAN.files[0], header=b"\x01" + PLAN.files[0].header[1:]), PLAN.files[1])),
        "another length",
    ),
    "a process lost": (replace(PLAN, shares=PLAN.shares[1:]), "no process writes rows 0"),
    "a piece lost": (_with_share(2, LAST[:-1]), "no process writes"),
    "a piece twice": (_with_share(1, (*PLAN.shares[1], FIRST[0])), "two write row"),
    "a row twice": (
        _with_share(0, (*FIRST[:-1], replace(FIRST[-1], stop=FIRST[-1].stop + 1))),
        "two write row",
    ),
    "a row lost": (_with_share(0, (*FIRST[:-1], replace(FIRST[-1], stop=FIRST[-1].stop - 1))), "no process writes"),
}


def test_a_sound_plan_is_proved() -> None:
    _sound(PLAN)
    assert PLAN.index == {"embed": "a", "norm": "a", "positions": "b", "count": "b", "nothing": "b"}
    assert {process for process, _start, _stop in PLAN.rows_of("embed")} == {0, 1, 2}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_named(fault: str) -> None:
    plan, words = FAULTS[fault]
    with pytest.raises(ProofError, match=words):
        _sound(plan)


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(BYTES_OF)), st.lists(st.integers(0, 7), max_size=3)), min_size=1, max_size=9
    ),
    st.integers(1, 5),
    st.integers(1, 60),
)
def test_every_row_is_written_once_and_evenly(
    drawn: list[tuple[str, list[int]]], processes: int, most_bytes: int
) -> None:
    tensors = [Tensor(f"t{n}", dtype, tuple(shape), "written") for n, (dtype, shape) in enumerate(drawn)]
    plan = plan_export(sharded(tensors, most_bytes), processes)
    prove_export(plan, {t.name: t.shape for t in tensors}, {t.name for t in tensors})
    row = max((t.row_bytes for t in tensors), default=0)
    for process in range(processes):
        assert abs(plan.share_bytes(process) - plan.size_bytes / processes) <= row + 1


def test_pieces_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "PIECE_BYTES", 30)
    plan = plan_export({"a": TENSORS}, 2)
    _sound(plan)
    sizes = [(p.stop - p.start) * plan.placed[p.number].tensor.row_bytes for share in plan.shares for p in share]
    assert max(sizes) <= 30
