"""The run folder: what is in it before the first step, and the check that it belongs to these models."""

import fcntl
import json
import platform
from collections.abc import Collection, Mapping
from importlib import metadata
from pathlib import Path
from typing import TextIO

from counterpoint.check.grid import format_programs
from counterpoint.config.load import dump_config, read_run_config
from counterpoint.config.run_files import CONFIG_FILE, PLAN_FILE, VERSIONS_FILE
from counterpoint.config.schema import Config
from counterpoint.errors import CheckpointError, ConfigError, DataError
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
    if config.checkpoint.resume == "none":
        _set_aside(folder / "checkpoints")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if config.checkpoint.resume == "none":
            (folder / EXCLUSIONS_FILE).unlink(missing_ok=True)
        (folder / CONFIG_FILE).write_text(dump_config(config))
        (folder / "plan.txt").write_text(f"{_placement_text(plan)}\n\n{format_programs(plan.schedule.programs)}\n")
        (folder / PLAN_FILE).write_text(json.dumps(form_of(plan)))
        record_bases(folder, config)
        (folder / VERSIONS_FILE).write_text(json.dumps(_versions(config), indent=1))
    except OSError as error:
        raise DataError(f"run.dir: {folder} cannot be written ({error.strerror}); choose another folder") from None
    return folder


def check_run_folder(config: Config, facts: Mapping[str, ModelFacts]) -> OpenedCheckpoint | None:
    """The checkpoint that the run would resume from, opened without reading its blocks.

    Raises CheckpointError if it is of other models, updates or data, or if all are damaged; writes nothing.
    """
    folder = Path(config.run.dir)
    steps = steps_to_try(folder, config.checkpoint)
    if not steps:
        return None
    _check_models(config, folder)
    opened = open_newest(folder, steps, identity_of(config))
    if opened is not None:
        _check_moments(config, facts, opened)
    return opened


def _set_aside(checkpoints: Path) -> None:
    """Rename an earlier run's checkpoints, so that a run from the start neither resumes from nor deletes them."""
    if any(checkpoints.glob("step-*")):
        number = 1 + sum(1 for _earlier in checkpoints.parent.glob("checkpoints-*"))
        checkpoints.rename(checkpoints.with_name(f"checkpoints-{number}"))


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
    try:
        before = read_run_config(folder / CONFIG_FILE).modules
        old = model_keys(before)
    except ConfigError:
        return
    new = model_keys(config.modules)
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
