"""From a YAML file and overrides to a checked Config."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from counterpoint.config.checks import config_problems
from counterpoint.config.earlier import as_of_today
from counterpoint.config.explain import explain
from counterpoint.config.overrides import apply_overrides
from counterpoint.config.schema import Config
from counterpoint.config.yaml_text import LONGEST_TEXT, parse_yaml, to_yaml
from counterpoint.errors import ConfigError
from counterpoint.section.problem import Problem, show


def load_config(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Config:
    """Read a config from a YAML file or plain data, lay `key.path=value` overrides over it, and check it.

    Raises ConfigError with one line per problem: path, what was found, what was expected, remedy.
    """
    if isinstance(source, Mapping):
        origin, data = "", dict(source)
    else:
        origin, data = f"{source}: ", _read(Path(source))
    return _checked(origin, data, overrides)


def load_run_config(path: str | Path) -> Config:
    """The config that a run wrote, of this version or an earlier one; raises ConfigError."""
    return _checked(f"{path}: ", as_of_today(_read(Path(path))))


def dump_config(config: Config) -> str:
    """All keys of a config as YAML; `load_config` of it gives an equal config."""
    return to_yaml(config.resolved())


def _checked(origin: str, data: dict[str, Any], overrides: Sequence[str] = ()) -> Config:
    """The config that plain data hold; `origin` begins the message of an error."""
    data, problems = apply_overrides(data, overrides)
    _refuse(origin, problems)
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        raise _error(origin, explain(error)) from None
    _refuse(origin, config_problems(config))
    return config


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
