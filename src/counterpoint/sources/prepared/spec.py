"""The config section of a prepared source: a folder and a split."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterpoint.kinds.modality import Modality
from counterpoint.section.problem import Problem, show
from counterpoint.section.section import Count, Text
from counterpoint.sources.entry import EntrySection, Opening

if TYPE_CHECKING:
    from counterpoint.sources.source import Source


DEFAULT_POOL_MIB = 512


class PreparedEntry(EntrySection):
    """A split of a folder that `counterpoint prepare` wrote, and its weight in the blend."""

    path: Text
    """Folder that `counterpoint prepare` wrote."""
    split: Text = "train"
    """Split of the folder."""
    shuffle_mib: Count = DEFAULT_POOL_MIB
    """Payload in parquet files that is shuffled together, in whole row groups; a process keeps up to twice as much in
    memory. It decides the order of data. Nothing else reads it: payload that lies elsewhere is shuffled as a whole.
    Unit: MiB."""

    @property
    def folder(self) -> Path:
        """The folder."""
        return Path(self.path)

    def called(self, _number: int) -> str:
        """Its path and split."""
        return f"{self.path}:{self.split}"

    def problems(self, _path: str, _taken: Mapping[str, Modality]) -> Iterator[Problem]:
        """None: problems of a prepared folder are found when it is opened."""
        yield from ()

    def missing(self, path: str) -> Iterator[Problem]:
        """A problem if the folder has no index."""
        if not (self.folder / "index.json").is_file():
            remedy = f"write one with: counterpoint prepare SOURCE {self.path}"
            yield Problem(f"{path}.path", show(self.path), "a folder with a prepared index", remedy)

    def content(self) -> dict[str, Any]:
        """The identity of the dataset instead of its path, so that the folder may move; raises DataError."""
        from counterpoint.sources.prepared.index import Manifest

        values = self.said() | {"path": Manifest.read(self.folder).identity}
        # Runs of earlier versions do not have the key in their checkpoints.
        if self.shuffle_mib == DEFAULT_POOL_MIB:
            del values["shuffle_mib"]
        return values

    def open(self, number: int, opening: Opening) -> "Source":
        """Open the split; raises DataError."""
        from counterpoint.sources.prepared.source import open_prepared

        return open_prepared(self.folder, self.split, number, opening, self.shuffle_mib * 2**20)
