"""The chat formats by name, and which one a prepared folder was laid out in."""

from collections.abc import Callable
from pathlib import Path

from counterpoint.argument import argument
from counterpoint.data.text.chat import CaptionChat, ChatFormat, PlainChat
from counterpoint.data.text.kept_chat import TEMPLATE, read_chat
from counterpoint.data.text.tokenizer import Tokenizer
from counterpoint.errors import DataError
from counterpoint.sources.prepared.index import Index, Manifest

FORMATS: dict[str, Callable[[Tokenizer], ChatFormat]] = {"plain": PlainChat, "captions": CaptionChat}
"""Those that need nothing but a tokenizer, by the name that an index gives."""


def chat_format(index: Index, tokenizer: Tokenizer) -> ChatFormat:
    """The chat format of an index; raises DataError for one that this version does not know."""
    if index.manifest.chat is None:
        return FORMATS["captions" if _begins_with_item(index, tokenizer) else "plain"](tokenizer)
    return _named_by(index.manifest, index.folder, tokenizer)


def dataset_format(folder: Path, tokenizer: Tokenizer) -> ChatFormat:
    """The chat format of a prepared folder, from its manifest where that names one."""
    manifest = Manifest.read(folder)
    return chat_format(Index(folder), tokenizer) if manifest.chat is None else _named_by(manifest, folder, tokenizer)


def named_format(name: str, tokenizer: Tokenizer) -> ChatFormat:
    """The format of a name; raises DataError if there is none."""
    if name not in FORMATS:
        raise DataError(f"{argument('format')}: got '{name}', expected one of {', '.join(FORMATS)}")
    return FORMATS[name](tokenizer)


def _named_by(manifest: Manifest, folder: Path, tokenizer: Tokenizer) -> ChatFormat:
    if manifest.chat == TEMPLATE:
        return read_chat(folder, manifest.chat_sha256, tokenizer)
    if manifest.chat not in FORMATS:
        raise DataError(
            f"dataset {folder}: its conversations are laid out as '{manifest.chat}', expected one of "
            f"{', '.join([*FORMATS, TEMPLATE])}; prepare it again with this version."
        )
    return FORMATS[manifest.chat](tokenizer)


def _begins_with_item(index: Index, tokenizer: Tokenizer) -> bool:
    """Whether an index of version 4, which does not say its format, has an item before the begin token: only captions
    have."""
    if not index.manifest.documents or tokenizer.bos is None:
        return False
    tokens, _loss = index.tokens(0)
    return any(item.position == 0 for item in index.items(0)) and tokens[:1].tolist() == [tokenizer.bos]
