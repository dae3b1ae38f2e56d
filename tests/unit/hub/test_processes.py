"""Exports by local processes: several write what one writes, and one that is killed leaves nothing that loads."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from counterpoint.errors import CounterpointError
from counterpoint.hub import write
from counterpoint.hub.claim import claim
from counterpoint.setup import exporting
from counterpoint.setup.export import ExportRequest, prepare_export
from counterpoint.setup.exporting import export_run
from counterpoint.train.agree import agreed
from tests.unit.convert.test_modules_round_trip import case
from tests.unit.hub.runs import export_here, write_run
from tests.unit.judge.folders import write_tensors
from tests.unit.judge.whole_configs import FOLDERS, config_of


@pytest.fixture
def request_of_three(tmp_path: Path) -> ExportRequest:
    """An export of a LLaVA."""
    whole, ours, theirs = case("llava")
    write_tensors(tmp_path / "model", FOLDERS["llava"], theirs)
    return ExportRequest(run=write_run(config_of(whole, tmp_path / "model", {}), ours), out=tmp_path / "out")


def _killed_half_way(request: ExportRequest, processes: int, folder: str) -> None:
    """The work of a process, of which the second is killed after half of its pieces."""
    if os.environ["RANK"] == "1":
        half = len(prepare_export(request, processes).plan.shares[1]) // 2
        written = 0
        write_at = write._write_at

        def write_or_die(file: int, data: memoryview, begin: int) -> None:
            nonlocal written
            write_at(file, data, begin)
            written += 1
            if written == half:
                os.kill(os.getpid(), signal.SIGKILL)

        write._write_at = write_or_die
    exporting.work(request, processes, folder)


def test_an_interrupted_one_has_no_name_that_loads(request_of_three: ExportRequest) -> None:
    """Whatever process ends when: files have their names only once all of their bytes are there."""
    export = prepare_export(request_of_three, 2)
    os.close(claim(export.partial))
    write._begin(export)
    write._write_share(export, 1)
    export.reader.close()
    left = sorted(path.name for path in export.partial.iterdir())
    assert left == ["model.safetensors.partial"]
    assert not export.out.exists()
    out = export_here(request_of_three, 2)
    assert sorted(path.name for path in out.parent.iterdir() if path.name.startswith("out")) == ["out"]


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.more)])
def test_two_exports_into_one_folder_do_not_mix(request_of_three: ExportRequest, ranks: int) -> None:
    """The second would replace files of the first, which would then give its name to what the second has written."""
    first = prepare_export(request_of_three, 1)
    said: list[str] = []

    def interfere(group: None, act: Callable[[], object]) -> object:
        result = agreed(group, act)
        if first.partial.is_dir() and not said:
            said.append("")
            with pytest.raises(CounterpointError) as caught:
                export_run(request_of_three, ranks=ranks)
            said[0] = str(caught.value)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "agreed", interfere)
        write.write_export(first, 0, None)
    assert f"{first.partial}: another export writes into it, expected one at a time" in said[0]
    assert load_file(first.out / "model.safetensors").keys() == set(first.plan.index)


@pytest.mark.more
def test_processes_write_what_one_does(request_of_three: ExportRequest) -> None:
    alone = export_here(ExportRequest(run=request_of_three.run, out=request_of_three.out.with_name("alone")))
    done = export_run(request_of_three, ranks=2)
    assert (done.processes, done.written, done.left_out) == (2, len(load_file(alone / "model.safetensors")), ())
    for name in ("model.safetensors", "config.json"):
        assert (done.folder / name).read_bytes() == (alone / name).read_bytes()


@pytest.mark.more
def test_a_killed_process_leaves_nothing(request_of_three: ExportRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    work = exporting.work
    monkeypatch.setattr(exporting, "work", _killed_half_way)
    with pytest.raises(CounterpointError, match="rank 1 ended without a report, by SIGKILL"):
        export_run(request_of_three, ranks=2)
    monkeypatch.setattr(exporting, "work", work)
    assert not [path for path in request_of_three.out.parent.iterdir() if path.name.startswith("out")]
