"""The manifest of a checkpoint: what every one of its bytes must be, itself sealed, and written last.

The digest of a block also covers the checkpoint's step, the tensor's key and the block's place in it, so the file of
another step and the block of another tensor are told apart even where `.metadata` is of the other one as well.
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
"""128 bits of a digest: enough for whatever is not an attack."""

_DAMAGE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO})
"""Errors of reading that lie in what is read; those of rights or resources, say, lie in who reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeFile:
    """A small file, digested as a whole."""

    size_bytes: Index
    digest: str

    @classmethod
    def of(cls, data: bytes) -> "WholeFile":
        """The entry of a file with this content."""
        return cls(size_bytes=len(data), digest=hashlib.sha256(data).hexdigest()[:_DIGITS])


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockFile:
    """A file of blocks that follow one another: digests by the byte at which a block begins."""

    size_bytes: Index
    digests: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """All files of a checkpoint of `step`, by name."""

    step: Index
    whole: dict[str, WholeFile]
    blocks: dict[str, BlockFile]

    def sealed(self) -> bytes:
        """The content of the file: JSON that ends in a digest of all before."""
        return _sealed(asdict(self))

    def block_digest(self, file: str, start: int) -> str | None:
        """What was written at a byte of a file; None if no block begins there."""
        entry = self.blocks.get(file)
        return None if entry is None else entry.digests.get(str(start))


class BlockDigest:
    """The digest of one block, fed piece by piece."""

    def __init__(self, step: int, key: str, offset: tuple[int, ...]) -> None:
        self._hash = hashlib.sha256(f"{step} {key} {list(offset)}\n".encode())

    def update(self, data: bytes | memoryview) -> None:
        """Go on with the next bytes as the file has them."""
        self._hash.update(data)

    @property
    def text(self) -> str:
        """The digest of what was fed so far."""
        return self._hash.hexdigest()[:_DIGITS]


def read_manifest(folder: Path, remedy: str) -> Manifest | None:
    """The manifest of a checkpoint, None where there is none.

    Raises DamagedCheckpointError unless every byte of it is as it was sealed, for the step that the folder names.
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
    """The content of a small file; raises DamagedCheckpointError unless it is what the manifest says."""
    data = read_bytes(folder, name, remedy)
    if manifest is not None and manifest.whole.get(name) != WholeFile.of(data):
        raise damaged(folder, f"{name} is not what was written", remedy)
    return data


def read_bytes(folder: Path, name: str, remedy: str) -> bytes:
    """The content of a file; raises DamagedCheckpointError where it is gone or the disk fails, else CheckpointError."""
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise unreadable(folder, name, error, remedy) from None


def unreadable(folder: Path, name: str, error: OSError, remedy: str) -> CheckpointError:
    """What to raise for a file that cannot be read."""
    kind = DamagedCheckpointError if error.errno in _DAMAGE else CheckpointError
    return kind(f"{folder}: {name} cannot be read ({error.strerror}), expected a complete checkpoint; {remedy}")


def damaged(folder: Path, what: str, remedy: str) -> DamagedCheckpointError:
    """What to raise for a checkpoint of which something is not as it was written."""
    return DamagedCheckpointError(f"{folder}: {what}, expected a complete checkpoint; {remedy}")


def _sealed(content: Mapping[str, Any]) -> bytes:
    body = json.dumps(content, sort_keys=True, separators=(",", ":"))
    seal = hashlib.sha256(body.encode()).hexdigest()
    return f'{body[:-1]},"{_SEAL}":"{seal}"}}'.encode()
