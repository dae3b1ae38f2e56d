"""What makes modules' input of files, settled once for a run: said by its config, by what it goes on from or starts
from."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from counterpoint.config.earlier import is_of_today
from counterpoint.config.items import DEFAULT_SCALING
from counterpoint.config.load import load_config, load_run_config
from counterpoint.config.run_files import CONFIG_FILE
from counterpoint.config.schema import ClipEncoderConfig, Config, ConformerConfig, ImageEncoderConfig, ModelConfig
from counterpoint.config.yaml_text import parse_yaml
from counterpoint.convert.folder import CONFIG_NAME
from counterpoint.convert.processor import Said, check_frames, scaling_in, seconds_in
from counterpoint.errors import ConfigError
from counterpoint.section.problem import Problem, show
from counterpoint.train.checkpoint import STATE_FILE
from counterpoint.train.resume import steps_to_try

_DEFAULTS: Mapping[str, Mapping[str, Any]] = {"image": DEFAULT_SCALING._asdict(), "audio": {"seconds": "own"}}
"""What may be left out of a module's section, with what it is where nobody says it."""

_FREE = ("seconds",)
"""Keys that say how much of an item is seen, which a config may choose."""

_DIGITS = 1e-6
"""Within what numbers are the same: tensors hold fewer digits than a config."""


def settle_items(config: Config) -> Config:
    """The config with all said that makes its modules' input of files.

    What it leaves out is as in the run's own config if the run goes on from a checkpoint, else as in the folder or run
    that the module starts from, else the default. Raises ConfigError where the config, or a run of an earlier version,
    says otherwise than what a module starts from.
    """
    resumed, data, problems = _Resumed.of(config), config.resolved(), list[Problem]()
    for name, module in config.modules.items():
        section = _section(module.model)
        if section is None:
            continue
        values = data["modules"][name]["model"][section]
        said = {key: values[key] for key in _DEFAULTS[section]}
        own = resumed.values(name, section)
        origin = Said() if own and resumed.is_of_today else _origin(config, name, section)
        problems += _problems(f"modules.{name}.model.{section}", said, own, origin)
        for key, value in said.items():
            if value is None:
                values[key] = {**_DEFAULTS[section], **origin.values, **own}[key]
    if problems:
        raise ConfigError("\n".join(map(str, problems)))
    return load_config(data)


def _section(model: ModelConfig) -> str | None:
    if isinstance(model, ImageEncoderConfig):
        return "image"
    return "audio" if isinstance(model, ClipEncoderConfig) else None


@final
@dataclass(frozen=True, slots=True)
class _Resumed:
    """The config that a run wrote whose checkpoint this one goes on from, empty without one."""

    modules: Mapping[str, Any] = field(default_factory=dict)
    is_of_today: bool = True

    @classmethod
    def of(cls, config: Config) -> "_Resumed":
        file = Path(config.run.dir) / CONFIG_FILE
        if not steps_to_try(config) or not file.is_file():
            return cls()
        try:
            modules = load_run_config(file).resolved()["modules"]
        except ConfigError:
            return cls()
        return cls(modules, is_of_today(parse_yaml(file.read_text(encoding="utf-8"))))

    def values(self, module: str, section: str) -> dict[str, Any]:
        """What the run's module had in a section; empty if it had none."""
        found = self.modules.get(module, {}).get("model", {}).get(section, {})
        return {key: found[key] for key in _DEFAULTS[section] if found.get(key) is not None}


def _origin(config: Config, name: str, section: str) -> Said:
    """What a module's start says of a section of its model; raises CheckpointError if it makes frames otherwise."""
    module = config.modules[name]
    if module.init_from is None:
        return Said()
    path, model = Path(module.init_from.path), module.model
    if not (path / CONFIG_NAME).is_file():
        return _of_run(path, module.init_from.module or name, section)
    if not isinstance(model, ClipEncoderConfig):
        return scaling_in(path)
    check_frames(path, model.mels, normalised=isinstance(model, ConformerConfig))
    seconds = seconds_in(path)
    return Said() if seconds is None else Said({"seconds": seconds}, str(path))


def _of_run(path: Path, module: str, section: str) -> Said:
    run = path.parent.parent if (path / STATE_FILE).is_file() else path
    try:
        found = load_run_config(run / CONFIG_FILE).resolved()["modules"].get(module, {}).get("model", {})
    except ConfigError:
        return Said()
    values = {key: found[section][key] for key in _DEFAULTS[section] if found.get(section, {}).get(key) is not None}
    return Said(values, str(run / CONFIG_FILE))


def _problems(where: str, said: Mapping[str, Any], own: Mapping[str, Any], origin: Said) -> Iterator[Problem]:
    for key, value in origin.values.items():
        if own and said[key] is None and not _are_same(own[key], value):
            expected = f"{show(own[key])}, which this run was trained with, because {origin.file} says {show(value)}"
            remedy = f"set {where}.{key}={show(own[key])} to go on, or choose another run.dir to begin with the other"
            yield Problem(f"{where}.{key}", "nothing", expected, remedy)
        elif not own and said[key] is not None and key not in _FREE and not _are_same(said[key], value):
            remedy = "leave it out, or start from another"
            yield Problem(f"{where}.{key}", show(said[key]), f"{show(value)}, as {origin.file} says", remedy)


def _are_same(one: Any, other: Any) -> bool:
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return all(math.isclose(a, b, rel_tol=_DIGITS, abs_tol=_DIGITS) for a, b in zip(one, other, strict=True))
    return bool(one == other)
