"""The folder that a run began with: where each of its tensors lies, byte by byte, and a digest by which it is known."""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, final

from counterpoint.convert.composite import CompositeModel, Stored, composite_of
from counterpoint.convert.folder import CONFIG_NAME, INDEX_NAME, ModelFolder
from counterpoint.convert.found import as_found, model_in, names_found
from counterpoint.errors import CheckpointError
from counterpoint.hub.plan import Origin, Tensor

_NOT_COPIED = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf", ".md")
"""Weights in whatever form, and a description of the model that this one is no longer."""

_REMEDY = "save the model anew with save_pretrained"


@final
@dataclass(frozen=True, slots=True)
class Lying:
    """A tensor in a file of the base: its type as safetensors calls it, its shape and its first byte in the file."""

    file: str
    dtype: str
    shape: tuple[int, ...]
    begin: int

    def as_tensor(self, name: str, origin: Origin = "carried") -> Tensor:
        """The same tensor in a plan."""
        return Tensor(name, self.dtype, self.shape, origin)


@final
class BaseFolder:
    """A Hugging Face folder whose headers are read. Raises CheckpointError if it is not whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = ModelFolder(path)
        self.config: Mapping[str, Any] = self.folder.config
        self.files: dict[str, list[str]] = {}
        self.metadata: dict[str, str] = {}
        self.lying: dict[str, Lying] = {}
        for name in self.folder.files:
            self._read(name)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of config.json, the index, and name, size and header of each file of tensors: not of the values."""
        found = hashlib.sha256()
        for name in (CONFIG_NAME, INDEX_NAME):
            file = self.path / name
            found.update(f"{name} {file.is_file()}\n".encode() + (file.read_bytes() if file.is_file() else b""))
        for name in self.files:
            file = self.path / name
            found.update(f"{name} {file.stat().st_size}\n".encode() + _header(file))
        return found.hexdigest()

    @cached_property
    def modified_ns(self) -> int:
        """When a file of tensors was last written. Unit: nanoseconds since 1970."""
        return max((self.path / name).stat().st_mtime_ns for name in self.files)

    @property
    def copied(self) -> dict[str, Path]:
        """The files that are copied as they are: tokenizer, chat template, processor, generation, code."""
        return {
            file.name: file
            for file in sorted(self.path.iterdir())
            if file.is_file()
            and not file.name.startswith(".")
            and not file.name.endswith((*_NOT_COPIED, ".index.json"))
            and file.name != CONFIG_NAME
        }

    @cached_property
    def model(self) -> CompositeModel:
        """The modules that the folder holds; raises CheckpointError."""
        return self.as_written(composite_of(self.config, str(self.path / CONFIG_NAME)))

    def as_written(self, whole: CompositeModel) -> CompositeModel:
        """The modules of such a folder, with links to the tensors that it has, and to those that it need not have."""
        untied = {one.unequal for one in self._found.modules.values()}
        names = names_found(whole, self.lying, self.path)
        return as_lying(whole, names, lambda head, words: (head, words) not in untied)

    @cached_property
    def _found(self) -> CompositeModel:
        return model_in(self.folder)[0]

    def _read(self, name: str) -> None:
        header = _header(self.path / name)
        content = json.loads(header)
        self.metadata |= content.pop("__metadata__", None) or {}
        self.files[name] = list(content)
        for key, one in content.items():
            begin = 8 + len(header) + one["data_offsets"][0]
            self.lying[key] = Lying(name, one["dtype"], tuple(one["shape"]), begin)


def as_lying(whole: CompositeModel, names: Collection[str], are_equal: Callable[[str, str], bool]) -> CompositeModel:
    """The modules with links to the tensors of these names, and to those that a folder need not have."""
    fitted = as_found(whole, names, are_equal)
    return replace(fitted, modules={n: _with_all(one, whole.modules[n]) for n, one in fitted.modules.items()})


def _with_all(fitted: Stored, plain: Stored) -> Stored:
    """A module with all that is to be written: what a base lacks, since it has one known value, may have others now."""
    links = [link for link in fitted.links if link.theirs]
    linked = {name for link in links for name in link.ours}
    return replace(fitted, links=(*links, *(link for link in plain.links if not linked & set(link.ours))))


def _header(file: Path) -> bytes:
    """The header of a file of tensors, which safetensors has checked."""
    try:
        with file.open("rb") as stream:
            return stream.read(int.from_bytes(stream.read(8), "little"))
    except OSError as error:
        raise CheckpointError(
            f"{file}: cannot be read ({error.strerror}), expected a file of tensors; {_REMEDY}"
        ) from None
