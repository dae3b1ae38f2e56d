"""The metadata of a checkpoint, which DCP stores as a pickle, read without running anything that a file names."""

import io
import pickle
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import Metadata

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


def load_metadata(data: bytes) -> Metadata:
    """The metadata that a pickle spells; one that names anything but records of tensors raises UnpicklingError.

    Junk raises whatever its bytes happen to spell.
    """
    metadata = _RecordUnpickler(io.BytesIO(data)).load()
    if not isinstance(metadata, Metadata):
        raise pickle.UnpicklingError(f"holds a {type(metadata).__name__}")
    return metadata


class _RecordUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        is_dtype = module == "torch" and isinstance(vars(torch).get(name), torch.dtype)
        if not is_dtype and (module, name) not in _DATA:
            raise pickle.UnpicklingError(f"names {module}.{name}, which no tensor is made of")
        return super().find_class(module, name)
