"""The manifest of a checkpoint: digests of all files and blocks. It ends in a digest of itself, and is written last.

The digest of a block also covers the checkpoint's step, the tensor's key and the block's offset. So a file of another
step, or a block of another tensor, is detected even if `.metadata` was exchanged with it.
"""

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from counterpoint.errors import CheckpointError, DamagedCheckpointError
from counterpoint.section.section import Index

MANIFEST_FILE = "manifest.json"
_SEAL = "sha256"
_DIGITS = 32
"""Hexadecimal digits of a digest, 128 bits: enough against accidental damage."""

_DAMAGE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO})
"""Read errors that mean damage of the file; others, such as missing permissions, are errors of the reader."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeFile:
    """A small file, with one digest."""

    size_bytes: Index
    digest: str

    @classmethod
    def of(cls, data: bytes) -> "WholeFile":
        """The entry of a file with this content."""
        return cls(size_bytes=len(data), digest=hashlib.sha256(data).hexdigest()[:_DIGITS])


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockFile:
    """A file of consecutive blocks, with a digest for each block by its first byte."""

    size_bytes: Index
    digests: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """All files of a checkpoint of `step`, by name."""

    step: Index
    whole: dict[str, WholeFile]
    blocks: dict[str, BlockFile]

    def sealed(self) -> bytes:
        """The content of the manifest file: JSON that ends in a digest of everything before."""
        return _sealed(asdict(self))

    def block_digest(self, file: str, start: int) -> str | None:
        """The digest of the block that begins at a byte of a file; None if none begins there."""
        entry = self.blocks.get(file)
        return None if entry is None else entry.digests.get(str(start))


class BlockDigest:
    """The digest of one block, fed piece by piece."""

    def __init__(self, step: int, key: str, offset: tuple[int, ...]) -> None:
        self._hash = hashlib.sha256(f"{step} {key} {list(offset)}\n".encode())

    def update(self, data: bytes | memoryview) -> None:
        """Add the next bytes, in the order of the file."""
        self._hash.update(data)

    @property
    def text(self) -> str:
        """The digest of all bytes so far."""
        return self._hash.hexdigest()[:_DIGITS]


def read_manifest(folder: Path, remedy: str) -> Manifest | None:
    """The manifest of a checkpoint, None if it has none.

    Raises DamagedCheckpointError if its digest is wrong, or if it belongs to another step than the folder's.
    """
    if not os.path.lexists(folder / MANIFEST_FILE):
        return None
    data = read_bytes(folder, MANIFEST_FILE, remedy)
    try:
        content: dict[str, Any] = json.loads(data)
        content.pop(_SEAL)
        manifest = TypeAdapter(Manifest).validate_json(data, strict=True) if _sealed(content) == data else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):  # pydantic's error is a ValueError.
        manifest = None
    if manifest is None:
        raise damaged(folder, f"{MANIFEST_FILE} is not what was written", remedy)
    named = folder.name.removeprefix("step-")
    if named != folder.name and named.isdigit() and int(named) != manifest.step:
        raise damaged(folder, f"it is the checkpoint of step {manifest.step}, which its name denies", remedy)
    return manifest


def read_whole(folder: Path, name: str, manifest: Manifest | None, remedy: str) -> bytes:
    """The content of a small file; raises DamagedCheckpointError unless it agrees with the manifest."""
    data = read_bytes(folder, name, remedy)
    if manifest is not None and manifest.whole.get(name) != WholeFile.of(data):
        raise damaged(folder, f"{name} is not what was written", remedy)
    return data


def read_bytes(folder: Path, name: str, remedy: str) -> bytes:
    """The content of a file; raises DamagedCheckpointError if it is missing or the disk fails, else CheckpointError."""
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise unreadable(folder, name, error, remedy) from None


def unreadable(folder: Path, name: str, error: OSError, remedy: str) -> CheckpointError:
    """The error for a file that cannot be read."""
    kind = DamagedCheckpointError if error.errno in _DAMAGE else CheckpointError
    return kind(f"{folder}: {name} cannot be read ({error.strerror}), expected a complete checkpoint; {remedy}")


def damaged(folder: Path, what: str, remedy: str) -> DamagedCheckpointError:
    """The error for a checkpoint that differs from what was written."""
    return DamagedCheckpointError(f"{folder}: {what}, expected a complete checkpoint; {remedy}")


def _sealed(content: Mapping[str, Any]) -> bytes:
    body = json.dumps(content, sort_keys=True, separators=(",", ":"))
    seal = hashlib.sha256(body.encode()).hexdigest()
    return f'{body[:-1]},"{_SEAL}":"{seal}"}}'.encode()
