"""Exports during training: `checkpoint.hub` says which checkpoints also become folders that transformers loads."""

import json
import shutil
from pathlib import Path
from typing import final

from counterpoint.config.schema import Config
from counterpoint.console import say
from counterpoint.errors import CheckpointError, CounterpointError
from counterpoint.execute.groups import Groups
from counterpoint.execute.rank_log import OWN
from counterpoint.hub.write import Export, write_export
from counterpoint.setup.bases import bases_to_record, recorded_bases
from counterpoint.setup.export import ExportRequest, export_of, inits_of, outgoing_of
from counterpoint.setup.plan import Models
from counterpoint.train.agree import agreed
from counterpoint.train.state.durable import sync
from counterpoint.train.state.resume import steps_to_try


def check_hub(config: Config, models: Models) -> None:
    """Raise CheckpointError or ConfigError before any rank exists if the run's checkpoints could not be exported."""
    if config.checkpoint.hub is not None:
        run = Path(config.run.dir)
        is_resumed = bool(steps_to_try(run, config.checkpoint))
        bases = recorded_bases(run, inits_of(config)) if is_resumed else bases_to_record(config)
        outgoing_of(config, models, bases, _request(config, 0), config.world.size)


_IN_RUN = "hub"
"""The folder of exports in a run's folder, unless another is named."""

_EXPORTS_FILE = "exports.jsonl"
"""The file of a run with the folders elsewhere that it has exported to, one JSON text a line."""


@final
class HubExports:
    """Exports the checkpoints of a run, all ranks together; one that fails is said and the training goes on."""

    def __init__(self, config: Config, models: Models, groups: Groups) -> None:
        self._config, self._models, self._tree = config, models, groups.storage
        self._rank = 0 if groups.storage is None else groups.storage.number
        self._own = Path(config.run.dir) / _EXPORTS_FILE

    def after(self, step: int) -> None:
        """Export the checkpoint of a step that has just been published, if it is one of those to export."""
        hub = self._config.checkpoint.hub
        if hub is None or not (
            step == self._config.training.steps or (hub.every_steps is not None and step % hub.every_steps == 0)
        ):
            return
        request = _request(self._config, step)
        try:
            export = agreed(self._tree, lambda: self._prepared(request))
            write_export(export, self._rank, self._tree)
            agreed(self._tree, lambda: self._remove_older(request.out.parent, step, hub.keep_last))
        except CounterpointError as error:
            if self._rank == 0:
                words = f"the export of step {step} failed, training goes on: {error}"
                OWN.warning(words)
                say(f"warning: {words}")

    def _prepared(self, request: ExportRequest) -> Export:
        if self._rank == 0 and request.out.exists():
            # Of an earlier start of this run, which went on from an older checkpoint.
            if not self._is_own(request.out):
                raise CheckpointError(
                    f"checkpoint.hub.path: {request.out} is there and not an export of this run, expected a folder of "
                    "its own; choose another path"
                )
            shutil.rmtree(request.out)
        self._note(request.out)
        size = 1 if self._tree is None else self._tree.size
        return export_of(self._config, self._models, request, size)

    def _remove_older(self, folder: Path, step: int, keep_last: int | None) -> None:
        if self._rank != 0 or keep_last is None:
            return
        names = (path.name.removeprefix("step-") for path in folder.glob("step-*") if self._is_own(path))
        steps = sorted(int(name) for name in names if name.isdecimal() and int(name) <= step)
        for older in steps[:-keep_last]:
            shutil.rmtree(_folder(folder, older))
        sync(folder)

    def _note(self, folder: Path) -> None:
        """Note that an export will be this run's, so that no other folder is ever removed."""
        if self._rank == 0 and not self._is_own(folder):
            with self._own.open("a") as file:
                file.write(f"{json.dumps(str(folder.resolve()))}\n")

    def _is_own(self, folder: Path) -> bool:
        """Whether a folder is an export of this run: in its own folder, or noted."""
        if folder.parent == Path(self._config.run.dir) / _IN_RUN:
            return True
        lines = self._own.read_text().splitlines() if self._own.exists() else []
        return json.dumps(str(folder.resolve())) in lines


def _request(config: Config, step: int) -> ExportRequest:
    hub, run = config.checkpoint.hub, Path(config.run.dir)
    assert hub is not None, "asked for only where checkpoints are exported"
    parent = run / _IN_RUN if hub.path is None else Path(hub.path)
    return ExportRequest(run=run, out=_folder(parent, step), step=step, dtype=hub.dtype)


def _folder(parent: Path, step: int) -> Path:
    return parent / f"step-{step:08d}"
