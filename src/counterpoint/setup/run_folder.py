"""The run folder: what is in it before the first step, and the check that it belongs to these models."""

import fcntl
import json
import os
import platform
from collections.abc import Collection, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TextIO

from counterpoint.check.grid import format_programs
from counterpoint.config.load import dump_config, read_run_config
from counterpoint.config.run_files import CONFIG_FILE, PLAN_FILE, VERSIONS_FILE
from counterpoint.config.schema import Config
from counterpoint.errors import CheckpointError, ConfigError, DataError
from counterpoint.launch import restarts
from counterpoint.optimizers import OPTIMIZERS
from counterpoint.optimizers.kind import OptimizerKind
from counterpoint.plan.form import form_of
from counterpoint.plan.model_facts import ModelFacts
from counterpoint.plan.plan import Plan
from counterpoint.plan.trainability import is_trained, named_tensors
from counterpoint.plugins.load import versions_of
from counterpoint.setup.bases import record_bases
from counterpoint.setup.data import identity_of
from counterpoint.train.state.checkpoint import OpenedCheckpoint
from counterpoint.train.state.exclusions import EXCLUSIONS_FILE
from counterpoint.train.state.resume import open_newest, steps_to_try
from counterpoint.train.warm.same_model import model_keys

LOCK_FILE = "lock"
_PACKAGES = ("counterpoint", "torch", "numpy", "pydantic", "pyarrow", "tokenizers")


def open_run_folder(config: Config, plan: Plan) -> Path:
    """Create `run.dir` or check that it holds a run of the same models, then write config, plan and versions.

    Raises CheckpointError when its checkpoints are of other models, DataError when it cannot be written.
    """
    check_run_folder(config, plan.facts)
    folder = Path(config.run.dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if config.checkpoint.resume == "none":
            _set_aside(folder / "checkpoints")
            (folder / EXCLUSIONS_FILE).unlink(missing_ok=True)
        _write(folder / CONFIG_FILE, dump_config(config))
        _write(folder / "plan.txt", f"{_placement_text(plan)}\n\n{format_programs(plan.schedule.programs)}\n")
        _write(folder / PLAN_FILE, json.dumps(form_of(plan)))
        record_bases(folder, config)
        _write(folder / VERSIONS_FILE, json.dumps(_versions(config), indent=1))
    except OSError as error:
        raise DataError(f"run.dir: {folder} cannot be written ({error.strerror}); choose another folder") from None
    return folder


def check_place(config: Config, file: Path, overrides: Sequence[str]) -> None:
    """Raise ConfigError for the config file of a run whose folder was moved or copied, unless `overrides` name one: the
    folder of before is not the one that is meant."""
    if any(override.partition("=")[0] in ("run", "run.dir") for override in overrides):
        return
    here, there = file.parent, Path(config.run.dir)
    if file.name == CONFIG_FILE and (here / "checkpoints").is_dir() and here.resolve() != there.resolve():
        raise ConfigError(
            f"run.dir: got {there} in the config of the run in {here}, expected that folder; to go on with it set "
            f"run.dir={here}, to begin another run name a folder of its own"
        )


def check_run_folder(config: Config, facts: Mapping[str, ModelFacts]) -> OpenedCheckpoint | None:
    """The checkpoint that the run would resume from, opened without reading its blocks.

    Raises CheckpointError if it is of other models, updates or data, or if all are damaged; writes nothing.
    """
    folder = Path(config.run.dir)
    _refuse_to_start_over(config, folder)
    steps = steps_to_try(folder, config.checkpoint)
    if not steps:
        return None
    _check_models(config, folder)
    opened = open_newest(folder, steps, identity_of(config))
    if opened is not None:
        _check_moments(config, facts, opened)
    return opened


def _refuse_to_start_over(config: Config, folder: Path) -> None:
    """Raise CheckpointError where a launcher that starts a run again would begin it anew, beside what it has saved."""
    restart = restarts(os.environ)
    if restart and config.checkpoint.resume == "none" and any((folder / "checkpoints").glob("step-*")):
        raise CheckpointError(
            f"checkpoint.resume: got none in restart {restart} by the launcher, where {folder} holds checkpoints, "
            "expected auto, since a run that is started again should go on; set checkpoint.resume=auto"
        )


def _set_aside(checkpoints: Path) -> None:
    """Rename an earlier run's checkpoints, so that a run from the start neither resumes from nor deletes them."""
    if any(checkpoints.glob("step-*")):
        named = (earlier.name.removeprefix("checkpoints-") for earlier in checkpoints.parent.glob("checkpoints-*"))
        number = 1 + max((int(name) for name in named if name.isdecimal()), default=0)
        checkpoints.rename(checkpoints.with_name(f"checkpoints-{number}"))


def _write(file: Path, text: str) -> None:
    """Write a file that is whole at any time: a later start reads it."""
    partial = file.with_name(f"{file.name}.partial")
    partial.write_text(text)
    partial.replace(file)


def lock_run_folder(folder: Path) -> TextIO:
    """Keep other runs out of a run folder for as long as the file that this returns is open.

    Raises DataError if another run is in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK_FILE).open("w")
    except OSError as error:
        raise DataError(f"run.dir: {folder} cannot be written ({error.strerror}); choose another folder") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise DataError(
            f"run.dir: {folder} is in use by another run, expected a folder of its own; choose another, or wait"
        ) from None
    return file


def _placement_text(plan: Plan) -> str:
    return "\n".join(str(layout) for layout in plan.placement.layouts)


def _check_models(config: Config, folder: Path) -> None:
    """Raise CheckpointError unless the run's config, if the folder has one, is of the same models."""
    file = folder / CONFIG_FILE
    if not file.exists():
        return
    try:
        earlier = read_run_config(file)
    except ConfigError as error:
        raise CheckpointError(
            f"run.dir: {folder} holds checkpoints whose config cannot be read ({error}), expected that of the run; "
            f"restore {file}, remove it if you know that the models are the same, or choose another run.dir"
        ) from None
    before = earlier.modules
    old, new = ({**model_keys(one.modules), **_edge_keys(one)} for one in (earlier, config))
    differing = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    if differing:
        key = differing[0]
        raise CheckpointError(
            f"run.dir: {folder} holds checkpoints of another model: {key} was {old.get(key)!r} there, "
            f"got {new.get(key)!r}; restore it, choose another run.dir, or start anew with checkpoint.resume=none"
        )
    for name, module in config.modules.items():
        kinds = before[name].optimizer.kind, module.optimizer.kind
        if kinds[0] != kinds[1] and "none" not in (before[name].train, module.train):
            raise CheckpointError(
                f"run.dir: {folder} holds checkpoints of another optimizer: modules.{name}.optimizer.kind was "
                f"{kinds[0]!r} there, got {kinds[1]!r}; restore it, or choose another run.dir and start from the "
                f"values with modules.{name}.init_from"
            )


def _edge_keys(config: Config) -> dict[str, object]:
    """What edges say of the models by key: where features of further depths enter, which no tensor shows."""
    return {
        f"the edge of {edge.source} and {edge.target} with depths": [depth.model_dump() for depth in edge.depths]
        for edge in config.edges
    }


def _check_moments(config: Config, facts: Mapping[str, ModelFacts], opened: OpenedCheckpoint) -> None:
    """Raise CheckpointError unless a checkpoint has the moments that optimizers keep of all trained parameters."""
    stored = opened.moments
    for name, of_module in facts.items():
        module = config.modules[name]
        section, kind = module.optimizer, OPTIMIZERS[module.optimizer.kind]
        for parameter, shape in named_tensors(of_module):
            kept = set(kind.moments(section, parameter, shape)) if is_trained(parameter, module.train) else set()
            found = stored.get(f"{name}.{parameter}", kept)
            if found != kept:
                keys = " or ".join(f"modules.{name}.{key}" for key in ("train", *_keys_of_moments(kind)))
                there = f"{_listed(found)} {'is' if len(found) == 1 else 'are'} there"
                raise CheckpointError(
                    f"run.dir: {config.run.dir} holds checkpoints of other updates: of {name}.{parameter} {there}, "
                    f"expected {_listed(kept)}, by {keys}; restore what has changed, or choose another run.dir and "
                    f"start from the values with modules.{name}.init_from"
                )


def _keys_of_moments(kind: OptimizerKind) -> tuple[str, ...]:
    """The keys of a module that say what is kept of which parameter."""
    return tuple(f"optimizer.{key}" for key in kind.patterns) or ("optimizer",)


def _listed(moments: Collection[str]) -> str:
    return " and ".join(sorted(moments)) or "no moments"


def _versions(config: Config) -> dict[str, str]:
    packages = {package: _version(package) for package in _PACKAGES}
    return {"python": platform.python_version(), **packages, **versions_of(config.run.plugins)}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed as a package"
