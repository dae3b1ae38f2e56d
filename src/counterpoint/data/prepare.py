"""The command `prepare`: from a named corpus or a folder of conversations to an index."""

from dataclasses import dataclass
from pathlib import Path

from counterpoint.data.emoji import prepare_emoji
from counterpoint.data.index import TOKENIZER_NAME, Manifest
from counterpoint.data.index_writer import IndexWriter
from counterpoint.data.llava import read_conversations, without_marks, write_conversations
from counterpoint.data.tokenizer import Tokenizer, copy_tokenizer, train_tokenizer
from counterpoint.errors import DataError

EMOJI = "emoji"
TRAIN_SPLIT = "train"
DEFAULT_VOCABULARY = 4096


@dataclass(frozen=True, slots=True)
class PrepareSummary:
    """What lies at `out` now; `is_new` is False if the same index was there before."""

    out: Path
    manifest: Manifest
    vocabulary: int
    is_new: bool


def prepare(
    source: str, out: Path, tokenizer: Path | None = None, vocabulary: int = DEFAULT_VOCABULARY, seed: int = 0
) -> PrepareSummary:
    """Build the index of `emoji` or of a folder with LLaVA-style *.jsonl at `out`, all at once or not at all.

    Text is split by `tokenizer`, or by byte-level BPE trained on the split `train` (on all of a folder if it has none):
    of `vocabulary` ids for a folder. `seed` chooses what `emoji` holds out. Raises DataError for a bad
    source or record, or if `out` holds something else.
    """
    if source != EMOJI and not Path(source).is_dir():
        raise DataError(f"prepare: source '{source}' is no folder; expected '{EMOJI}' or a folder with *.jsonl files.")
    with IndexWriter(out) as writer:
        if source == EMOJI:
            prepare_emoji(writer, seed, tokenizer)
        else:
            folder = Path(source)
            write_conversations(
                writer, folder, _tokenizer(folder, tokenizer, vocabulary, writer.folder / TOKENIZER_NAME)
            )
        manifest, is_new = writer.publish()
    return PrepareSummary(out, manifest, Tokenizer.load(out / TOKENIZER_NAME).vocabulary, is_new)


def _tokenizer(folder: Path, given: Path | None, vocabulary: int, path: Path) -> Tokenizer:
    if given is not None:
        return copy_tokenizer(given, path)
    conversations = list(read_conversations(folder))
    training = [c for c in conversations if c.split == TRAIN_SPLIT] or conversations
    texts = [without_marks(text) for conversation in training for _, text in conversation.turns]
    return train_tokenizer(texts, vocabulary, path)
