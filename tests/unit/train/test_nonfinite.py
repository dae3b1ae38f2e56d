"""Which documents a step that is not finite is blamed on, and what is kept of them."""

import errno
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.data.order.order import Exclusion
from counterpoint.errors import CheckpointError, RunError
from counterpoint.plan.samples import Document
from counterpoint.setup import rank as setup_of_rank
from counterpoint.setup.rank import kept_of
from counterpoint.setup.run import prepare_run
from counterpoint.setup.run_folder import open_run_folder
from counterpoint.train import run_data
from counterpoint.train.active_rank import ActiveRank
from counterpoint.train.nonfinite import (
    MOST_CULPRITS,
    Finding,
    conclude,
    find_culprits,
)
from counterpoint.train.run_data import RunData
from counterpoint.train.state import exclusions
from counterpoint.train.state.exclusions import EXCLUSIONS_FILE
from tests.parity.layouts import TINY


@settings(max_examples=40)
@given(st.integers(0, 40), st.data())
def test_halving_finds_each_document_that_is_not_finite(count: int, data: st.DataObject) -> None:
    documents = [Document(0, number, 4, 2) for number in range(count)]
    bad = data.draw(st.sets(st.integers(0, max(count - 1, 0)))) if count else set()
    tried = 0

    def is_finite(some: Sequence[Document]) -> bool:
        nonlocal tried
        tried += 1
        return not any(document.index in bad for document in some)

    found = find_culprits(documents, is_finite)
    assert [document.index for document in found] == sorted(bad)[:MOST_CULPRITS]
    assert tried <= 1 + 2 * max(count, 1).bit_length() * len(found)


def finding(culprits: int, is_next_finite: bool) -> Finding:
    """Of a step of the dense pair, in which so many of the first documents are not finite."""
    plan, _models, corpus = prepare_run(load_config(TINY))
    batch = plan.batch(3, corpus.packs(3))
    broken = ("the loss", "the gradient of vision")
    return conclude(plan, batch, broken, batch.documents[:culprits], lambda: is_next_finite, corpus.sources)


def test_a_document_is_left_out_and_named() -> None:
    found = finding(1, is_next_finite=True)
    (document,) = found.excluded
    assert found.names == (f"document {document.index} of synthetic dataset 0",)
    assert found.sentence == (
        "step 3: the loss and the gradient of vision are not finite, nothing was updated; not finite by itself, and "
        f"left out from now on, is {found.names[0]}; look at its files and resume, or set training.skip_nonfinite to "
        "go on in such steps"
    )


@pytest.mark.parametrize(("culprits", "is_next_finite"), [(8, False), (1, False), (0, True)])
def test_nothing_is_left_out_where_documents_are_not_the_reason(culprits: int, is_next_finite: bool) -> None:
    """Every document of the step is named by the ranks that have its rows, and the remedies are those of a model."""
    found = finding(culprits, is_next_finite)
    assert found.excluded == ()
    assert len(found.names) == 8
    assert all("(microbatch " in name and name.endswith("ranks 1)") for name in found.names)
    assert found.sentence.endswith("a lower learning rate, a lower training.clip_norm or float32 precision")
    assert ("of the next step are not finite either, so it is the model" in found.said) is (culprits > 0)


def test_all_documents_of_a_step_can_be_the_reason_if_the_next_step_is_finite() -> None:
    assert len(finding(8, is_next_finite=True).excluded) == 8


def test_what_is_kept_is_for_the_same_data_and_a_run_that_goes_on(tmp_path: Path) -> None:
    config, kept = load_config(TINY, [f"run.dir={tmp_path}"]), (Exclusion(0, 7, 3), Exclusion(0, 9, 4))
    assert kept_of(config).read() == ()
    kept_of(config).write(kept)
    assert kept_of(config).read() == kept
    assert kept_of(load_config(TINY, [f"run.dir={tmp_path}", "checkpoint.resume=none"])).read() == ()
    assert kept_of(load_config(TINY, [f"run.dir={tmp_path}", "run.seed=5"])).read() == kept
    assert kept_of(load_config(TINY, [f"run.dir={tmp_path}", "data.sequence_tokens=47"])).read() == ()


@pytest.mark.parametrize("torn", ["", "[", "[]", '{"data": {}}', '{"data": {}, "exclusions": [[0]]}'])
def test_a_torn_file_of_what_is_kept_is_said(tmp_path: Path, torn: str) -> None:
    config = load_config(TINY, [f"run.dir={tmp_path}"])
    (tmp_path / EXCLUSIONS_FILE).write_text(torn)
    with pytest.raises(CheckpointError, match=f"{EXCLUSIONS_FILE}: it cannot be read .* remove it"):
        kept_of(config).read()


def test_all_ranks_raise_what_the_first_one_finds(tmp_path: Path) -> None:
    """None waits for one that has left."""
    config, told = load_config(TINY, [f"run.dir={tmp_path}"]), list[object]()
    (tmp_path / EXCLUSIONS_FILE).write_text("[")

    def broadcast(kept: object) -> object:
        told.append(kept)
        return told[0]

    for rank in (0, 1):
        with pytest.raises(CheckpointError, match="cannot be read"):
            data_of(config, rank, control=SimpleNamespace(broadcast=broadcast))._read_kept()
    assert len(told) == 2


def test_a_run_that_starts_anew_leaves_nothing_of_an_earlier_one(tmp_path: Path) -> None:
    config = load_config(TINY, [f"run.dir={tmp_path}", "checkpoint.resume=none"])
    kept_of(config).write([Exclusion(0, 7, 3)])
    open_run_folder(config, prepare_run(config).plan)
    assert kept_of(load_config(TINY, [f"run.dir={tmp_path}"])).read() == ()


WRITES = ("record", "checkpoint", EXCLUSIONS_FILE)


def ended(monkeypatch: pytest.MonkeyPatch, folder: Path, rank: int, broken: Collection[str]) -> tuple[str, list[str]]:
    """What a rank says in the end of a run of which some writes fail on the first rank, and what it wrote."""
    written: list[str] = []
    heard: list[object] = []
    told = RunError("rank 0: told")

    def write(name: str) -> None:
        if rank == 0 and name in broken:
            raise OSError(errno.ENOSPC, "No space left on device", name)
        written.append(name)

    def write_exclusions(file: Path, data: bytes) -> None:
        write(EXCLUSIONS_FILE)
        file.write_bytes(data)

    def merged(error: object, merge: Callable[[list[object]], object]) -> object:
        heard.append(error)
        return merge([told if error is None and WRITES[len(heard) - 1] in broken else error, None])

    document = Document(0, 7, 4, 2)
    found = Finding(1, ("the loss",), (document,), is_model=False, names=("document 7",))
    monkeypatch.setattr(run_data, "find_culprits", lambda *_arguments: [])
    monkeypatch.setattr(run_data, "conclude", lambda *_arguments: found)
    monkeypatch.setattr(exclusions, "write_synced", write_exclusions)
    config = load_config(TINY, [f"run.dir={folder}"])
    control = SimpleNamespace(merged=merged)
    one = data_of(config, rank, lambda *_arguments: write("record"), lambda: write("checkpoint"), control)
    inputs: Any = SimpleNamespace(batch=SimpleNamespace(documents=()))
    with pytest.raises(RunError) as caught:
        one.skip(1, inputs, ("the loss",))
    assert str(caught.value).startswith(found.sentence)
    return str(caught.value).removeprefix(found.sentence), written


def test_a_run_that_ends_has_written_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The first rank that ends makes all others end at once, whatever they write in the background."""
    assert ended(monkeypatch, tmp_path, 0, ()) == ("", list(WRITES))
    assert ended(monkeypatch, tmp_path, 1, ()) == ("", ["record", "checkpoint"])


@pytest.mark.parametrize("broken", [{"record"}, {"checkpoint"}, {EXCLUSIONS_FILE}, set(WRITES)])
def test_what_cannot_be_written_is_said_after_what_was_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, broken: set[str]
) -> None:
    """All ranks say it, and what else there is to write is written."""
    said, written = ended(monkeypatch, tmp_path, 0, broken)
    assert written == [name for name in WRITES if name not in broken]
    assert said.count("No space left on device") == len(broken)
    if EXCLUSIONS_FILE in broken:
        assert (
            f"{tmp_path / EXCLUSIONS_FILE}: it cannot be written (No space left on device), so the next start" in said
        )
    assert ended(monkeypatch, tmp_path, 1, broken)[0] == "; rank 0: told" * len(broken)


def data_of(
    config: Config,
    rank: int,
    record: Callable[..., None] = lambda *_arguments: None,
    finish: Callable[[], None] = lambda: None,
    control: SimpleNamespace | None = None,
) -> RunData:
    """The data of a rank of two, without anything that computes."""
    idle: Any = SimpleNamespace(
        plan=SimpleNamespace(placement=SimpleNamespace(active=(0, 1)), stages=SimpleNamespace(ahead={})),
        world=SimpleNamespace(rank=rank), watchdog=SimpleNamespace(enter=lambda *_arguments, **_named: None),
        checkpoint_limit=None, skipped=record, finish=finish, control=control,
    )  # fmt: skip
    engine: Any = SimpleNamespace(plan=idle.plan, skipped=0)
    here = ActiveRank(Path(config.run.dir), idle, idle, engine, idle, idle, idle)
    return setup_of_rank.data_of(config, here, prepare_run(config).corpus)
