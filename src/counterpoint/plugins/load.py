"""Loading the plug-ins that a config names: nothing else is imported, whatever is installed."""

import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from typing import Any

from counterpoint.errors import ConfigError
from counterpoint.plugins.fits import check_modality, check_section, check_types
from counterpoint.plugins.plugin import Plugin
from counterpoint.section.problem import nearest, show

GROUP = "counterpoint.plugins"
"""The group of entry points by which a distribution says that it is a plug-in."""

_LOADED: dict[str, str] = {}
"""Versions of the distributions whose kinds are registered in this process, by name."""


def load_plugins(names: Sequence[str], where: str = "run.plugins") -> None:
    """Import the plug-ins of some distributions, by their normalised names, and register what they bring, each once in
    the life of the process.

    Raises ConfigError, which begins with the key `where`, for one that is not installed, is no plug-in, raises when it
    is imported, or brings what does not fit; of that one nothing is registered then.
    """
    for number, name in enumerate(names):
        if name not in _LOADED:
            _LOADED[name] = _load(name, f"{where}.{number}")


def versions_of(names: Iterable[str]) -> dict[str, str]:
    """The versions of loaded plug-ins, by name."""
    return {name: _LOADED[name] for name in sorted(names)}


def normalised(name: str) -> str:
    """The name of a distribution as the packaging standards compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _load(name: str, where: str) -> str:
    """Register a plug-in; returns its version."""
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
    plugins = [_imported(point, called, where) for point in points]
    _check(plugins, f"{where}: {called}")
    for plugin in plugins:
        for registry, kind_name, kind in plugin.additions():
            registry.register(kind_name, kind)
    return distribution.version


def _check(plugins: Sequence[Plugin], where: str) -> None:
    for plugin in plugins:
        check_types(plugin, where)
        for registry, name, _kind in plugin.additions():
            registry.check(name, f"{where}: {registry.sort}")
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


def _imported(point: metadata.EntryPoint, called: str, where: str) -> Plugin:
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
