"""A prepared folder with documents that are right, to which tests add one that is not."""

from collections.abc import Sequence
from pathlib import Path

from counterpoint.data.text.tokenizer import Tokenizer, train_tokenizer
from counterpoint.sources.prepared.index import TOKENIZER_NAME
from counterpoint.sources.prepared.index_writer import IndexWriter
from counterpoint.sources.prepared.part import Encoded, Record

ANSWERS = ("a cat", "two dogs", "the sea")


def words(tokenizer: Tokenizer, question: str, answer: str, split: str = "train", *items: Encoded) -> Record:
    """A document with one answer."""
    asked, said = [*tokenizer.start, *tokenizer.encode(question)], [*tokenizer.encode(answer), tokenizer.eos]
    loss = [False] * len(asked) + [True] * len(said)
    return Record([*asked, *said], loss, split, f"{question} {answer}", items)


def tokenizer_in(folder: Path) -> Tokenizer:
    """A small tokenizer."""
    return train_tokenizer([*ANSWERS, "What is it?"], 300, folder / "tokenizer.json")


def write(folder: Path, records: Sequence[Record]) -> Path:
    """Publish documents below a folder that holds a tokenizer."""
    with IndexWriter(folder / "index") as writer:
        (writer.folder / TOKENIZER_NAME).write_bytes((folder / "tokenizer.json").read_bytes())
        for record in records:
            writer.add(record)
        writer.publish()
    return folder / "index"
