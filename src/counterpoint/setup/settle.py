"""How files become modules' input, settled once for a run: by its config, else by the run or model that it continues
or starts from."""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from counterpoint.config.earlier import is_of_today
from counterpoint.config.load import load_config, read_run_config
from counterpoint.config.run_files import CONFIG_FILE
from counterpoint.config.schema import Config
from counterpoint.config.yaml_text import parse_yaml
from counterpoint.convert.processor import Said
from counterpoint.errors import ConfigError
from counterpoint.kinds.modality import Intake, ItemSection
from counterpoint.kinds.named import named
from counterpoint.modalities import MODALITIES
from counterpoint.section.problem import Problem, show
from counterpoint.setup.data import intakes_of
from counterpoint.train.state.resume import steps_to_try
from counterpoint.train.warm.folders import FolderKind, checkpoint_at, kind_of

_DIGITS = 1e-6
"""Relative tolerance between equal numbers: tensors hold fewer digits than a config."""


def settle_items(config: Config) -> Config:
    """The config with every key set that says how files become its modules' input.

    A key that it leaves out comes from the run's own config if the run resumes from a checkpoint, else from the folder
    or run that the module starts from, else it is the default. Raises ConfigError if the config, or a run of an earlier
    version, contradicts what a module starts from.
    """
    resumed, data, problems = _Resumed.of(config), config.resolved(), list[Problem]()
    for name, intake in intakes_of(config).items():
        section = MODALITIES[intake.kind].section
        if section is None:
            continue
        values = data["modules"][name]["model"][section.key]
        said = {key: values[key] for key in section.defaults}
        own = resumed.values(name, section)
        origin = Said() if own and resumed.is_of_today else _origin(config, intake, section)
        problems += _problems(f"modules.{name}.model.{section.key}", said, own, origin, section.free)
        for key, value in said.items():
            if value is None:
                values[key] = {**section.defaults, **origin.values, **own}[key]
    if problems:
        raise ConfigError("\n".join(map(str, problems)))
    return load_config(data)


@final
@dataclass(frozen=True, slots=True)
class _Resumed:
    """The config that this run wrote before the checkpoint that it resumes from; empty without one."""

    modules: Mapping[str, Any] = field(default_factory=dict)
    is_of_today: bool = True

    @classmethod
    def of(cls, config: Config) -> "_Resumed":
        run = Path(config.run.dir)
        file = run / CONFIG_FILE
        if not steps_to_try(run, config.checkpoint) or not file.is_file():
            return cls()
        try:
            modules = read_run_config(file).resolved()["modules"]
        except ConfigError:
            return cls()
        return cls(modules, is_of_today(parse_yaml(file.read_text(encoding="utf-8"))))

    def values(self, module: str, section: ItemSection) -> dict[str, Any]:
        """What the run's module had in a section; empty if it had none."""
        return _given(self.modules, module, section)


def _given(modules: Mapping[str, Any], module: str, section: ItemSection) -> dict[str, Any]:
    found = modules.get(module, {}).get("model", {}).get(section.key, {})
    return {key: found[key] for key in section.defaults if found.get(key) is not None}


def _origin(config: Config, intake: Intake, section: ItemSection) -> Said:
    """What a module's start says of a section of its model; raises CheckpointError if that reads files otherwise."""
    start = config.modules[intake.module].init_from
    if start is None:
        return Said()
    path = Path(start.path)
    kind = kind_of(path)
    if kind is FolderKind.HUB and section.origin is not None:
        said: Said = named(section.origin)(path, intake)
        return said
    if kind in (FolderKind.HUB, FolderKind.FOREIGN):
        return Said()
    run = checkpoint_at(path).run if kind is FolderKind.CHECKPOINT else path
    return _of_run(run, start.module or intake.module, section)


def _of_run(run: Path, module: str, section: ItemSection) -> Said:
    try:
        modules = read_run_config(run / CONFIG_FILE).resolved()["modules"]
    except ConfigError:
        return Said()
    return Said(_given(modules, module, section), str(run / CONFIG_FILE))


def _problems(
    where: str, said: Mapping[str, Any], own: Mapping[str, Any], origin: Said, free: Collection[str]
) -> Iterator[Problem]:
    for key, value in origin.values.items():
        if own and said[key] is None and not _are_same(own[key], value):
            expected = f"{show(own[key])}, which this run was trained with, because {origin.file} says {show(value)}"
            remedy = f"set {where}.{key}={show(own[key])} to go on, or choose another run.dir to begin with the other"
            yield Problem(f"{where}.{key}", "nothing", expected, remedy)
        elif not own and said[key] is not None and key not in free and not _are_same(said[key], value):
            remedy = "leave it out, or start from another"
            yield Problem(f"{where}.{key}", show(said[key]), f"{show(value)}, as {origin.file} says", remedy)


def _are_same(one: Any, other: Any) -> bool:
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return all(math.isclose(a, b, rel_tol=_DIGITS, abs_tol=_DIGITS) for a, b in zip(one, other, strict=True))
    return bool(one == other)
