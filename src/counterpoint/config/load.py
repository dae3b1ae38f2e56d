"""From a YAML file and overrides to a checked Config."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import yaml
from pydantic import ValidationError

from counterpoint.config.checks import config_problems
from counterpoint.config.earlier import as_of_today
from counterpoint.config.explain import explain
from counterpoint.config.overrides import apply_overrides
from counterpoint.config.schema import Config
from counterpoint.config.yaml_text import LONGEST_TEXT, parse_yaml, to_yaml
from counterpoint.errors import ConfigError
from counterpoint.plugins.load import load_plugins, named_in
from counterpoint.section.of_kind import WITHOUT_PLUGINS
from counterpoint.section.problem import Problem, show

Source: TypeAlias = str | Path | Mapping[str, object] | Config
"""A config: its file, plain data of the same form, or what `load_config` made of them."""


def load_config(source: Source, overrides: Sequence[str] = ()) -> Config:
    """Read a config, lay `key.path=value` overrides over it, and check it.

    The plug-ins that it names are loaded before its sections are read.
    Raises ConfigError with one line per problem: path, what was found, what was expected, remedy.
    """
    if isinstance(overrides, str):  # A text is a sequence of texts, too: of its letters.
        raise ConfigError(f"overrides: got {show(overrides)}, expected a list of key.path=value; put it in a list")
    if isinstance(source, Config):
        origin, data = "", source.resolved()
    elif isinstance(source, Mapping):
        origin, data = "", dict(source)
    elif isinstance(source, str | PathLike):
        origin, data = f"{source}: ", _read(Path(source))
    else:
        raise ConfigError(
            f"config: got a {type(source).__name__}, expected the path of a file, a dict or a Config; give one of these"
        )
    _load_plugins(origin, data, overrides)
    return _checked(origin, data, overrides)


def load_run_config(path: str | Path) -> Config:
    """The config that a run wrote, of this version or an earlier one, to go on with it: its plug-ins are loaded.

    Raises ConfigError.
    """
    origin, data = f"{path}: ", as_of_today(_read(Path(path)))
    _load_plugins(origin, data)
    return _checked(origin, data)


def read_run_config(path: str | Path) -> Config:
    """The config that a run wrote, of this version or an earlier one, to look at it: nothing is imported.

    Sections of kinds that are not known are taken as they stand, and how sections fit together is not checked. Raises
    ConfigError.
    """
    return _validated(f"{path}: ", as_of_today(_read(Path(path))), WITHOUT_PLUGINS)


def dump_config(config: Config) -> str:
    """All keys of a config as YAML; `load_config` of it gives an equal config."""
    return to_yaml(config.resolved())


def _load_plugins(origin: str, data: dict[str, Any], overrides: Sequence[str] = ()) -> None:
    """Load what `run.plugins` names, in the data or in an override."""
    of_run = [override for override in overrides if override.partition("=")[0].partition(".")[0] == "run"]
    named, _problems = apply_overrides(data, of_run)
    try:
        load_plugins(named_in(named))
    except ConfigError as error:
        raise ConfigError(f"{origin}{error}") from error


def _checked(origin: str, data: dict[str, Any], overrides: Sequence[str] = ()) -> Config:
    """The config that plain data hold; `origin` begins the message of an error."""
    data, problems = apply_overrides(data, overrides)
    _refuse(origin, problems)
    config = _validated(origin, data)
    _refuse(origin, config_problems(config))
    return config


def _validated(origin: str, data: dict[str, Any], context: str | None = None) -> Config:
    try:
        return Config.model_validate(data, context=context)
    except ValidationError as error:
        raise _error(origin, explain(error)) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open(encoding="utf-8") as file:
            # One more than fits, so that no endless file is read to its end.
            data = parse_yaml(file.read(LONGEST_TEXT + 1))
    except OSError as error:
        got = "a directory" if path.is_dir() else f"no readable file ({error.strerror})"
        raise ConfigError(f"{path}: got {got}, expected a YAML file; correct the path") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: got bytes that are not UTF-8, expected a YAML file; correct the path") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = "" if mark is None else f":{mark.line + 1}"
        raise ConfigError(f"{path}{line}: got {error.problem}, expected valid YAML; correct the line") from None
    except yaml.reader.ReaderError as error:
        got = f"a character that is no text, number {error.character}, at {error.position}"
        raise ConfigError(f"{path}: got {got}, expected text; remove it") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: got {error}, expected valid YAML; correct the file") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: got {show(data)}, expected a mapping of sections; start it with `schema: 1`")
    return data


def _refuse(origin: str, problems: Sequence[Problem]) -> None:
    if problems:
        raise _error(origin, problems)


def _error(origin: str, problems: Sequence[Problem]) -> ConfigError:
    return ConfigError("\n".join(f"{origin}{problem}" for problem in problems))
