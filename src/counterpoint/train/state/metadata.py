"""The metadata of a checkpoint, which DCP stores as a pickle, read without running anything that a file names."""

import io
import pickle
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

_DCP = "torch.distributed.checkpoint"
_DATA = {
    (f"{_DCP}.metadata", "BytesStorageMetadata"),
    (f"{_DCP}.metadata", "ChunkStorageMetadata"),
    (f"{_DCP}.metadata", "Metadata"),
    (f"{_DCP}.metadata", "MetadataIndex"),
    (f"{_DCP}.metadata", "StorageMeta"),
    (f"{_DCP}.metadata", "TensorProperties"),
    (f"{_DCP}.metadata", "TensorStorageMetadata"),
    (f"{_DCP}.metadata", "_MEM_FORMAT_ENCODING"),
    (f"{_DCP}.filesystem", "_StorageInfo"),
    ("pathlib", "Path"),
    ("pathlib", "PosixPath"),
    ("pathlib._local", "PosixPath"),
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
}
"""All that the metadata of tensors is made of, beside dtypes: records without behaviour."""


_INERT = (f"{_DCP}.", "megatron.")
"""Where records come from that other programs keep beside those of tensors, such as their plans; none is needed."""


def load_metadata(data: bytes, *, foreign: bool = False) -> Metadata:
    """The metadata that a pickle spells; one that names anything but records of tensors raises UnpicklingError.

    In `foreign` metadata, records that DCP or Megatron keep beside those of tensors are passed over. Junk raises
    whatever its bytes happen to spell.
    """
    metadata = (_ForeignUnpickler if foreign else _RecordUnpickler)(io.BytesIO(data)).load()
    if not isinstance(metadata, Metadata):
        raise pickle.UnpicklingError(f"holds a {type(metadata).__name__}")
    return metadata


def tensors_in(metadata: Metadata) -> dict[str, TensorStorageMetadata]:
    """The records of tensors by key; other values are stored as bytes, which nothing opens."""
    stored: dict[str, Any] = metadata.state_dict_metadata
    return {key: one for key, one in stored.items() if isinstance(one, TensorStorageMetadata)}


class _RecordUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        is_dtype = module == "torch" and isinstance(vars(torch).get(name), torch.dtype)
        if not is_dtype and (module, name) not in _DATA:
            raise pickle.UnpicklingError(f"names {module}.{name}, which no tensor is made of")
        return super().find_class(module, name)


class _ForeignUnpickler(_RecordUnpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _Inert if (module, name) not in _DATA and module.startswith(_INERT) else super().find_class(module, name)


class _Inert:
    """What takes the place of a record that is not needed: it swallows its content."""

    def __new__(cls, *_arguments: object) -> "_Inert":
        return super().__new__(cls)

    def __init__(self, *_arguments: object) -> None:
        pass

    def __setstate__(self, _state: object) -> None:
        pass
