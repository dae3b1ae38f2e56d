"""The folders that a run's modules began with, as the run folder keeps them for exports."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

from counterpoint.config.run_files import BASES_FILE, CONFIG_FILE
from counterpoint.config.schema import Config, InitFromConfig
from counterpoint.convert.folder import CONFIG_NAME
from counterpoint.errors import CheckpointError
from counterpoint.hub.base import BaseFolder
from counterpoint.train.state.checkpoint import STATE_FILE
from counterpoint.train.state.durable import write_synced
from counterpoint.train.state.resume import steps_to_try


@final
@dataclass(frozen=True, slots=True)
class Base:
    """A folder that a module began with; without a digest nothing says what was in it then.

    `modified_ns` is when its tensors had been written last, since a digest of all values would take too long.
    """

    path: Path
    digest: str | None = None
    modified_ns: int | None = None

    def open(self) -> BaseFolder:
        """The folder; raises CheckpointError if it is not the one that the module began with."""
        if not (self.path / CONFIG_NAME).is_file():
            raise CheckpointError(
                f"{self.path}: got no folder with a {CONFIG_NAME}, expected the one that the run began with; restore "
                "it, or name another with --base"
            )
        base = BaseFolder(self.path)
        if self.digest is not None and base.digest != self.digest:
            raise CheckpointError(
                f"{self.path}: got another model than the run began with, expected the same config.json and files of "
                "tensors; restore it, or name a folder with --base"
            )
        if self.modified_ns is not None and base.modified_ns != self.modified_ns:
            raise CheckpointError(
                f"{self.path}: got files of tensors that were written again since the run began with them, expected "
                "the same values in what is carried over; restore them, or name the folder with --base if they are "
                "the same"
            )
        return base


def record_bases(folder: Path, config: Config) -> None:
    """Write which folders a run that starts anew begins with; one that resumes keeps what was written."""
    if steps_to_try(folder, config.checkpoint):
        return
    content = {name: _as_json(base) for name, base in bases_to_record(config).items()}
    write_synced(folder / BASES_FILE, json.dumps(content, indent=1).encode())


def bases_to_record(config: Config) -> dict[str, Base]:
    """The folders that a run which starts anew begins with."""
    inits = {name: module.init_from for name, module in config.modules.items() if module.init_from is not None}
    return {name: base for name, init in inits.items() if (base := _began_with(name, init)) is not None}


def recorded_bases(folder: Path, inits: Mapping[str, InitFromConfig]) -> dict[str, Base]:
    """The folders that a run's modules began with; of runs of earlier versions those that its config names."""
    try:
        content = json.loads((folder / BASES_FILE).read_text())
    except FileNotFoundError:
        paths = {name: Path(init.path) for name, init in inits.items()}
        return {name: Base(path) for name, path in paths.items() if (path / CONFIG_NAME).is_file()}
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{folder / BASES_FILE}: cannot be read ({error}), expected JSON; restore it or remove it"
        ) from None
    return {name: Base(Path(one["path"]), one["digest"], one.get("modified_ns")) for name, one in content.items()}


def _as_json(base: Base) -> dict[str, str | int | None]:
    return {"path": str(base.path), "digest": base.digest, "modified_ns": base.modified_ns}


def _began_with(module: str, init: InitFromConfig) -> Base | None:
    """The folder that a module begins with, at first or second hand."""
    path = Path(init.path)
    if (path / CONFIG_NAME).is_file():
        base = BaseFolder(path)
        return Base(path.resolve(), base.digest, base.modified_ns)
    run = path.parent.parent if (path / STATE_FILE).is_file() else path
    if not (run / CONFIG_FILE).is_file():
        return None
    return recorded_bases(run, {}).get(init.module or module)
