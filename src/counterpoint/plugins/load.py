"""Loading the plug-ins that a config names: nothing else is imported, whatever is installed."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from counterpoint.errors import ConfigError
from counterpoint.plugins.fits import check_modality, check_section, check_types
from counterpoint.plugins.plugin import REGISTRIES, Plugin
from counterpoint.registry import Registry
from counterpoint.section.problem import nearest, show

GROUP = "counterpoint.plugins"
"""The group of entry points by which a distribution says that it is a plug-in."""

Addition = tuple[Registry[Any], str, Any]
"""A kind with its registry and its name."""


@dataclass(frozen=True, slots=True)
class _Imported:
    """A distribution that was imported: what it is `called`, its plug-ins, and what it registered itself meanwhile."""

    version: str
    called: str
    plugins: tuple[Plugin, ...]
    registered: tuple[Addition, ...]

    def additions(self) -> Iterator[Addition]:
        """All kinds that it brings."""
        yield from self.registered
        for plugin in self.plugins:
            yield from plugin.additions()


_IMPORTED: dict[str, _Imported] = {}
"""The distributions that this process has imported, by name: a module is imported once."""

_REGISTERED: list[Addition] = []
"""Kinds of the plug-ins that were loaded last."""


def load_plugins(names: Sequence[str], where: str = "run.plugins") -> None:
    """Import the plug-ins of some distributions, by their normalised names, and register what they bring, in place of
    what others brought that were loaded before.

    Raises ConfigError, which begins with the key `where`, for one that is not installed, is no plug-in, raises when it
    is imported, or brings what does not fit; of that one nothing is registered then.
    """
    for registry, kind_name, kind in _REGISTERED:
        registry.hide(kind_name, kind)
    _REGISTERED.clear()
    for number, name in enumerate(dict.fromkeys(names)):
        at = f"{where}.{number}"
        if name not in _IMPORTED:
            _IMPORTED[name] = _import(name, at)
        _check(_IMPORTED[name], at)
        for registry, kind_name, kind in _IMPORTED[name].additions():
            registry.register(kind_name, kind)
            _REGISTERED.append((registry, kind_name, kind))


def versions_of(names: Iterable[str]) -> dict[str, str]:
    """The versions of loaded plug-ins, by name."""
    return {name: _IMPORTED[name].version for name in sorted(names)}


def normalised(name: str) -> str:
    """The name of a distribution as the packaging standards compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _import(name: str, where: str) -> _Imported:
    """Import a distribution and hide what it registered itself."""
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise ConfigError(_not_installed(name, where)) from None
    points = sorted(distribution.entry_points.select(group=GROUP), key=lambda point: point.name)
    called = f"{name} {distribution.version}"
    if not points:
        raise ConfigError(
            f"{where}: got {show(name)}, a distribution without an entry point in the group {GROUP}, expected a "
            "plug-in; correct the name, or remove it"
        )
    before = {registry: set(registry) for registry in REGISTRIES}
    plugins = tuple(_plugin_at(point, called, where) for point in points)
    registered = tuple(
        (registry, kind_name, kind)
        for registry, known in before.items()
        for kind_name, kind in list(registry.items())
        if kind_name not in known
    )
    for registry, kind_name, kind in registered:
        registry.hide(kind_name, kind)
    return _Imported(distribution.version, called, plugins, registered)


def _check(imported: _Imported, where: str) -> None:
    """Raise ConfigError for what does not fit beside what is registered."""
    where = f"{where}: {imported.called}"
    for plugin in imported.plugins:
        check_types(plugin, where)
    for registry, name, _kind in imported.additions():
        registry.check(name, f"{where}: {registry.sort}")
    for plugin in imported.plugins:
        for sort, name, section in plugin.sections():
            check_section(name, section, f"{where}: {sort} {show(name)}")
        for modality in plugin.modalities:
            check_modality(modality, f"{where}: modality {show(modality.name)}")


def _not_installed(name: str, where: str) -> str:
    installed = {normalised(point.dist.name) for point in metadata.entry_points(group=GROUP) if point.dist is not None}
    alike = nearest(name, installed)
    remedy = f"pip install {name}" if alike is None else f"did you mean {alike}?"
    there = f"those that are here: {', '.join(sorted(installed))}" if installed else "of which none is here"
    return (
        f"{where}: got {show(name)}, expected an installed distribution with an entry point in the group {GROUP}, "
        f"{there}; {remedy}"
    )


def _plugin_at(point: metadata.EntryPoint, called: str, where: str) -> Plugin:
    try:
        plugin = point.load()
    except (Exception, SystemExit) as error:  # A package that leaves would end any command, as if in order.
        raise ConfigError(
            f"{where}: importing {called}, by its entry point {point.name} = {show(point.value)}, raised "
            f"{type(error).__name__}: {error}; expected a plug-in that can be imported; update or repair it"
        ) from error
    if not isinstance(plugin, Plugin):
        raise ConfigError(
            f"{where}: {called}: got a {type(plugin).__name__} at its entry point {point.name} = {show(point.value)}, "
            "expected a counterpoint.extend.Plugin; correct the package"
        )
    return plugin


def named_in(data: Mapping[str, Any]) -> tuple[str, ...]:
    """The plug-ins that the plain data of a config name; none where they name them in a way that the schema refuses."""
    run = data.get("run")
    names = run.get("plugins") if isinstance(run, Mapping) else None
    is_readable = isinstance(names, list | tuple) and all(isinstance(name, str) and name for name in names)
    return tuple(names) if is_readable and names is not None else ()
