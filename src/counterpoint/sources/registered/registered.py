"""The registered datasets of users, by their names in configs."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol, final, runtime_checkable

from counterpoint.errors import DataError
from counterpoint.registry import Registry

Options = Mapping[str, Any]
"""The key `options` of an entry of the config's data."""


@runtime_checkable
class Dataset(Protocol):
    """What a registered function returns: `Samples`, or a dataset that is made into such."""

    @property
    def identity(self) -> str:
        """A digest of the content: a run does not resume with another one."""


@final
class RegisteredSource:
    """A function of a split and options that makes a dataset; it is called once for equal arguments."""

    def __init__(self, name: str, build: Callable[[str, Options], Dataset]) -> None:
        self._name, self._build = name, build
        self._known: dict[str, Dataset] = {}

    def dataset(self, split: str, options: Options) -> Dataset:
        """The dataset of a split; raises DataError if it cannot be made, or is something else."""
        key = json.dumps([split, options], sort_keys=True)
        if key not in self._known:
            self._known[key] = self._built(split, options)
        return self._known[key]

    def _built(self, split: str, options: Options) -> Dataset:
        where = f"the registered source {self._name}, split {split!r}, options {dict(options)}"
        try:
            dataset = self._build(split, options)
        except DataError:
            raise
        except Exception as error:  # The function is the user's.
            raise DataError(f"{where}: making it raised {type(error).__name__}: {error}; correct it.") from error
        if not isinstance(dataset, Dataset):
            raise DataError(
                f"{where}: got a {type(dataset).__name__}, expected a MapDataset, a StreamDataset or Samples; wrap it "
                "in one of these."
            )
        return dataset


REGISTERED_SOURCES = Registry[RegisteredSource]("source")
"""The registered sources; `counterpoint.register_source` adds to them."""


def register_source(name: str, build: Callable[[str, Options], Dataset]) -> None:
    """Register a source of documents for configs with an entry `{registered: NAME, ...}` in `data`.

    Every process that opens data must call this. `build(split, options)` gets the entry's keys and returns a
    `MapDataset`, a `StreamDataset` or `Samples`. Raises ConfigError for an invalid or already registered name.
    """
    REGISTERED_SOURCES.register(name, RegisteredSource(name, build))
