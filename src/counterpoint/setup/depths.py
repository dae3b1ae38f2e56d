"""Features of several depths must enter in a run where they did in the folder that both ends start from."""

from fnmatch import fnmatchcase
from pathlib import Path

from counterpoint.config.schema import Config, InitFromConfig
from counterpoint.convert.composite import composite_of
from counterpoint.convert.folder import CONFIG_NAME, read_config
from counterpoint.errors import ConfigError
from counterpoint.section.problem import Problem
from counterpoint.train.warm.folders import FolderKind, kind_of


def check_depths(config: Config) -> None:
    """Raise ConfigError if features enter after another layer than in the folders that an edge's ends start from.

    Features that are reinitialised at the source may enter anywhere. Raises CheckpointError for a config.json that
    cannot be converted.
    """
    problems = []
    for number, edge in enumerate(config.edges):
        source, target = (config.modules[name].init_from for name in (edge.source, edge.target))
        if not edge.depths or source is None or not _depths(source) or target is None or not _depths(target):
            continue
        into = _depths(source)
        for place, depth in enumerate(edge.depths):
            is_loaded = not any(fnmatchcase(f"taps.{depth.after}.mlp.up.weight", pattern) for pattern in source.fresh)
            if is_loaded and depth.after in into and depth.into != into[depth.after]:
                expected = f"{into[depth.after]} for features of layer {depth.after}, as {_file(source)} says"
                remedy = "correct it, or name taps.* in init_from.fresh"
                problems.append(Problem(f"edges.{number}.depths.{place}.into", f"{depth.into}", expected, remedy))
    if problems:
        raise ConfigError("\n".join(map(str, problems)))


def _depths(init: InitFromConfig) -> dict[int, int]:
    """The layer after which the features of each layer enter, in a folder's config; empty without a folder."""
    if kind_of(Path(init.path)) is not FolderKind.HUB:
        return {}
    return dict(composite_of(read_config(Path(init.path)), str(_file(init))).depths)


def _file(init: InitFromConfig) -> Path:
    return Path(init.path) / CONFIG_NAME
