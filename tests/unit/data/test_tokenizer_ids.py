"""Ids of a tokenizer may have holes; a vocabulary covers the largest of them."""

from pathlib import Path

from tokenizers import Tokenizer as Backend
from tokenizers import models

from counterpoint.data.text.tokenizer import Tokenizer


def test_a_vocabulary_covers_the_largest_id(tmp_path: Path) -> None:
    backend = Backend(models.WordLevel({"<eos>": 0, "a": 1, "b": 7}, unk_token="a"))
    backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.load(tmp_path / "tokenizer.json")
    assert tokenizer.encode("b") == [7]
    assert tokenizer.vocabulary == 8
