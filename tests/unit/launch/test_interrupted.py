"""A signal before ranks start: an exception that a handler raises may get lost in an import, a note does not."""

import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import torch.distributed.launcher.api

from counterpoint.errors import CounterpointError
from counterpoint.launch import SignalledError, launch_local

IMPORTED = "torch.distributed.launcher.api"


class Swallowing:
    """A finder during whose work Ctrl-C comes, and that takes every exception for a missing module."""

    def find_spec(self, name: str, _path: Sequence[str] | None, _target: object = None) -> ModuleSpec | None:
        if name == IMPORTED:
            try:
                signal.raise_signal(signal.SIGINT)
            except BaseException:
                return None
        return None


def test_ctrl_c_inside_an_import_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Both places that know the module are put back, so that later tests see one.
    monkeypatch.setattr(torch.distributed.launcher, "api", torch.distributed.launcher.api)
    monkeypatch.delitem(sys.modules, IMPORTED)
    monkeypatch.setattr(sys, "meta_path", [Swallowing(), *sys.meta_path])
    # What has no checkpoints is not said to go on from one.
    with pytest.raises(SignalledError, match=r"^stopped by SIGINT$"):
        launch_local(1, print, (), tmp_path / "error.json")


def test_ctrl_c_while_the_folder_is_written_is_kept(tmp_path: Path) -> None:
    def prepare() -> None:
        with suppress(BaseException):
            signal.raise_signal(signal.SIGINT)

    said: list[CounterpointError | None] = []
    with pytest.raises(SignalledError, match="SIGINT") as ended:
        launch_local(1, print, (), tmp_path / "error.json", prepare=prepare, conclude=said.append)
    assert said == [ended.value]
