"""A Hugging Face folder: its config.json, and tensors in safetensors files of which any piece can be read alone."""

import json
from collections.abc import Iterable, Iterator
from math import prod
from pathlib import Path
from typing import Any, final

from safetensors import SafetensorError, safe_open
from torch import Tensor

from counterpoint.convert.links import Place
from counterpoint.errors import CheckpointError

CONFIG_NAME, SINGLE_NAME, INDEX_NAME = "config.json", "model.safetensors", "model.safetensors.index.json"
ADAPTER_NAME = "adapter_config.json"
_NUMBERS = ("F64", "F32", "F16", "BF16")
"""Types of elements that are read, as safetensors calls them."""

_BITS = {
    "F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16, "U16": 16,
    "I8": 8, "U8": 8, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8,
}  # fmt: skip


@final
class ModelFolder:
    """A folder whose headers are read; `shapes` are those of all tensors by name, `files` those that hold them.

    Nothing in it is executed.

    Raises CheckpointError if the folder is not whole.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config: dict[str, Any] = read_config(path)
        _refuse_adapter(path)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.files: list[str] = []
        self._file_of: dict[str, tuple[Path, Any]] = {}
        for file in _files(path):
            opened = _open(file)
            self.files.append(file.name)
            for name in opened.keys():  # noqa: SIM118 (the file is no mapping)
                self._adopt(file, opened, name)

    def read(self, name: str, place: Place | None) -> Tensor:
        """A piece of a tensor, or all of it, in the dtype that it is stored in."""
        _file, stored = self._file_of[name]
        tensor: Tensor = stored.get_tensor(name) if place is None else stored.get_slice(name)[place]
        return tensor

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors, without headers."""
        stored = (self._file_of[name][1].get_slice(name).get_dtype() for name in self.shapes)
        return sum(
            prod(shape) * _BITS.get(kind, 0) // 8 for shape, kind in zip(self.shapes.values(), stored, strict=True)
        )

    def demand_numbers(self, names: Iterable[str]) -> None:
        """Raise CheckpointError if one of these tensors holds no plain numbers."""
        for name in names:
            file, stored = self._file_of[name]
            kind = stored.get_slice(name).get_dtype()
            if kind not in _NUMBERS:
                raise CheckpointError(
                    f"{file}: {name} is of type {kind}, expected one of {', '.join(_NUMBERS)}; save the model without "
                    "quantization"
                )

    def _adopt(self, file: Path, opened: Any, name: str) -> None:
        if name in self.shapes:
            raise CheckpointError(f"{file}: {name} stands in another file of the folder as well; {_REMEDY}")
        self.shapes[name], self._file_of[name] = tuple(opened.get_slice(name).get_shape()), (file, opened)


def _refuse_adapter(path: Path) -> None:
    """Raise CheckpointError for a folder beside whose model transformers would load an adapter."""
    if (path / ADAPTER_NAME).is_file():
        raise CheckpointError(
            f"{path / ADAPTER_NAME}: says that an adapter belongs to the model, expected a model that is whole; merge "
            "the adapter into it and save that, or remove the file"
        )


def read_config(path: Path) -> dict[str, Any]:
    """The content of a folder's config.json; raises CheckpointError."""
    return read_object(path / CONFIG_NAME)


_REMEDY = "save the model anew with save_pretrained"


def _files(path: Path) -> Iterator[Path]:
    """The files with tensors: one, or those that an index names."""
    if (path / SINGLE_NAME).is_file():
        yield path / SINGLE_NAME
        return
    if not (path / INDEX_NAME).is_file():
        raise CheckpointError(
            f"{path}: has neither {SINGLE_NAME} nor {INDEX_NAME}, expected one of them, because pickled weights are "
            f"not read; {_REMEDY}"
        )
    file_of = read_object(path / INDEX_NAME).get("weight_map")
    if not isinstance(file_of, dict) or not all(
        isinstance(name, str) and name == Path(name).name for name in file_of.values()
    ):
        raise CheckpointError(f"{path / INDEX_NAME}: no weight_map from tensors to files of the folder; {_REMEDY}")
    for name in sorted(set(file_of.values())):
        yield path / name


def _open(file: Path) -> Any:
    try:
        return safe_open(file, framework="pt")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file}: cannot be read ({error}), expected a safetensors file; {_REMEDY}") from None


def read_object(file: Path) -> dict[str, Any]:
    """A file's keys and values; raises CheckpointError."""
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: cannot be read ({error}), expected JSON; {_REMEDY}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{file}: holds no object, expected keys and values; {_REMEDY}")
    return content
