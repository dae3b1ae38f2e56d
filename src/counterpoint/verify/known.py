"""Cache of what the reference saw: all layouts of the same models and the same synthetic data share one result."""

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from counterpoint.config.schema import Config
from counterpoint.families import family_of
from counterpoint.plan.samples import Document
from counterpoint.verify.compare import Observation

_MOST_BYTES = 2**26

_NOT_READ = ("world", "schedule", "checkpoint", "evaluation", "log", "watchdog")
"""Sections of a config that the reference does not read."""

_NOT_READ_IN: Mapping[str, tuple[str, ...]] = {
    "run": ("dir",),
    "training": ("compile", "tp_overlap"),
    "data": ("balance", "packing", "workers"),
}
"""Keys of other sections that it does not read; the documents are compared apart."""

_OF_LAYOUTS = ("layout", "recompute", "recompute_keeps", "offload", "weight")
"""The same for each module."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the reference saw, step by step, and its smallest margin between experts."""

    steps: tuple[Observation, ...]
    margin: float

    @property
    def bytes(self) -> int:
        """Memory of its tensors."""
        tensors = [t for step in self.steps for t in (*step.gradients.values(), *step.updates.values())]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@dataclass
class Known:
    """Keeps the latest results, up to 64 MiB; results that depend on files or on users' code are never kept."""

    _kept: OrderedDict[str, Seen] = field(default_factory=OrderedDict)

    def of(self, config: Config, batches: Sequence[Sequence[Document]], run: Callable[[], Seen]) -> Seen:
        """The known result for these documents, else that of `run`."""
        if not _is_pure(config):
            return run()
        key = _key(config, batches)
        if key not in self._kept:
            self._kept[key] = run()
        self._kept.move_to_end(key)
        seen = self._kept[key]
        while self._kept and sum(one.bytes for one in self._kept.values()) > _MOST_BYTES:
            self._kept.popitem(last=False)
        return seen


def _is_pure(config: Config) -> bool:
    """Whether the config says everything that the reference computes from."""
    modules = config.modules.values()
    is_synthetic = all(entry.folder is None for entry in config.data.train)
    is_ours = all(family_of(m.model).is_pure and m.init_from is None for m in modules)
    return is_synthetic and is_ours and config.data.tokenizer is None


def _key(config: Config, batches: Sequence[Sequence[Document]]) -> str:
    read: dict[str, Any] = {name: value for name, value in config.resolved().items() if name not in _NOT_READ}
    for section, keys in _NOT_READ_IN.items():
        read[section] = {key: value for key, value in read[section].items() if key not in keys}
    read["modules"] = {
        name: {key: value for key, value in module.items() if key not in _OF_LAYOUTS}
        for name, module in read["modules"].items()
    }
    return json.dumps(read, sort_keys=True) + repr(batches)
