"""The keys that a search varies, and which of them it holds as the config has them."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from counterpoint.config.schema import Config
from counterpoint.errors import ConfigError
from counterpoint.plan.schedule import SCHEDULES
from counterpoint.section.problem import nearest, show

LAYOUT = (
    "ranks", "pp", "dp_replicate", "dp_shard", "cp", "tp", "chunks", "split", "reshard", "expert.ep", "expert.etp",
)  # fmt: skip
SCHEDULE = ("kind", "microbatches", "encoder_group", "encoder", "buffer", "run_ahead")


def varied_keys(config: Config) -> tuple[str, ...]:
    """The dotted paths of all keys that a search may change."""
    return (
        *(f"modules.{name}.layout.{key}" for name in config.modules for key in LAYOUT),
        *(f"modules.{name}.recompute" for name in config.modules),
        *(f"schedule.{key}" for key in SCHEDULE),
    )


def held_keys(config: Config, fixed: Sequence[str], overrides: Sequence[str]) -> dict[str, Any]:
    """The values of the keys that a search leaves as they are: those that fit a pattern of `fixed`, and those that
    `overrides` set.

    Raises ConfigError for a pattern that no varied key fits.
    """
    keys = varied_keys(config)
    held: dict[str, Any] = {}
    for pattern in fixed:
        found = [key for key in keys if fnmatchcase(key, pattern) or fnmatchcase(key, f"{pattern}.*")]
        if not found:
            alike = nearest(pattern, keys) or keys[0]
            raise ConfigError(
                f"--fix: got {show(pattern)}, expected a key that the search varies, such as {alike}; correct it or "
                "leave it out"
            )
        held |= {key: _value(config, key) for key in found}
    for override in overrides:
        path = override.partition("=")[0]
        held |= {key: _value(config, key) for key in keys if key == path or key.startswith(f"{path}.")}
    # Degrees and ranks that are null are left to the plan, and so to the search.
    return {key: value for key, value in held.items() if value is not None or key.startswith("schedule.")}


def schedule_kinds(wanted: Sequence[str]) -> tuple[str, ...]:
    """The kinds of schedules that train, or those `wanted`, in one order; raises ConfigError for an unknown one."""
    known = [name for name, kind in SCHEDULES.items() if kind.trains]
    for name in wanted:
        if name not in known:
            raise ConfigError(f"--schedule: got {show(name)}, expected one of {', '.join(known)}; correct it")
    return tuple(name for name in known if name in wanted or not wanted)


def _value(config: Config, path: str) -> Any:
    value: Any = config
    for part in path.split("."):
        value = value[part] if isinstance(value, Mapping) else getattr(value, part)
    return value
