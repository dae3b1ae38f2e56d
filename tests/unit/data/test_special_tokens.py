"""Text never becomes a special token, whatever the kind of tokenizer, and no other id changes."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from counterpoint.data.text.text_backend import hidden_name
from counterpoint.data.text.tokenizer import Tokenizer, train_tokenizer
from counterpoint.errors import DataError

SPECIAL = ("<s>", "</s>", "<pad>", "<unk>", "<|im_end|>")
LETTERS = "abcdefghijklmnopqrstuvwxyz<>/|_"


def _byte_level(path: Path) -> Backend:
    return train_tokenizer(["Write <s>ten</s> nine."], 300, path).backend


def _merging() -> Backend:
    """A byte-pair model whose merges spell an end token, and go on from it."""
    words = ["<unk>", "<s>", "</s>", "</", "s>", "</s>a", "<|im_end|>", *LETTERS]
    merges = [("<", "/"), ("s", ">"), ("</", "s>"), ("</s>", "a")]
    return Backend(models.BPE({word: number for number, word in enumerate(words)}, merges, unk_token="<unk>"))


def _pieces() -> Backend:
    """A unigram model like SentencePiece's, whose special tokens are pieces."""
    pieces = [*((name, 0.0) for name in ("<unk>", "<s>", "</s>")), ("\u2581", -1.0), *((c, -5.0) for c in LETTERS)]
    backend = Backend(models.Unigram(pieces, unk_id=0))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    return backend


def _words() -> Backend:
    backend = Backend(models.WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2, "ten": 3}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return backend


def _word_pieces() -> Backend:
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2, **{c: 3 + n for n, c in enumerate(LETTERS)}}
    vocabulary |= {f"##{c}": 99 + n for n, c in enumerate(LETTERS)}
    backend = Backend(models.WordPiece(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return backend


def _added(backend: Backend) -> Backend:
    backend.add_special_tokens([name for name in SPECIAL if name != "<|im_end|>"])
    backend.add_special_tokens([AddedToken("<|im_end|>", special=True, normalized=True, lstrip=True)])
    return backend


KINDS: dict[str, Callable[[Path], Backend]] = {
    "byte level": lambda path: _added(_byte_level(path)),
    "byte pairs that merge to one": lambda _path: _added(_merging()),
    "pieces": lambda _path: _added(_pieces()),
    "words": lambda _path: _added(_words()),
    "word pieces": lambda _path: _added(_word_pieces()),
    "begin and end that are only words": lambda _path: _merging(),
    "begin and end that are added, not special": lambda _path: _plainly_added(_pieces()),
}


def _plainly_added(backend: Backend) -> Backend:
    backend.add_tokens([AddedToken(name, special=False) for name in ("<tool>", "<s>", "</s>")])
    return backend


@pytest.fixture(scope="module", params=KINDS)
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Backend:
    return KINDS[request.param](tmp_path_factory.mktemp("tokenizers") / "tokenizer.json")


@pytest.fixture(scope="module")
def tokenizer(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("tokenizers") / "tokenizer.json"
    backend.save(str(path))
    return Tokenizer.load(path)


def _reserved(tokenizer: Tokenizer) -> set[int]:
    added = tokenizer.backend.get_added_tokens_decoder()
    special = {number for number, token in added.items() if token.special and token.content != "<unk>"}
    return special | {number for number in (tokenizer.bos, tokenizer.eos, tokenizer.pad) if number is not None}


@pytest.mark.parametrize("name", SPECIAL)
def test_no_spelling_becomes_a_special_token(tokenizer: Tokenizer, name: str) -> None:
    reserved = _reserved(tokenizer)
    for text in (name, f"write{name}ten", f"write {name} ten", f"{name}a", f" {name}\n", name * 3, f"<{name}>"):
        assert not reserved & set(tokenizer.encode(text)), text


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.sampled_from([*SPECIAL, "<", "/s>", "s>", " "]), st.text(st.characters(codec="utf-8"), max_size=4)
        ),
        max_size=6,
    )
)
def test_no_text_becomes_a_special_token(tokenizer: Tokenizer, pieces: list[str]) -> None:
    assert not _reserved(tokenizer) & set(tokenizer.encode("".join(pieces)))


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text("abcten< /_\n\u00e9\u6f22", max_size=12))
def test_all_other_text_has_the_ids_of_the_file(backend: Backend, tokenizer: Tokenizer, text: str) -> None:
    found = backend.encode(text, add_special_tokens=False).ids
    assert tokenizer.encode(text) == found


def test_added_tokens_that_are_not_special_stay(tmp_path: Path) -> None:
    backend = _added(_byte_level(tmp_path / "tokenizer.json"))
    backend.add_tokens(["<tool>", "</tool>"])
    backend.save(str(tmp_path / "more.json"))
    tokenizer = Tokenizer.load(tmp_path / "more.json")
    assert tokenizer.encode("a<tool>") == [tokenizer.encode("a")[0], backend.token_to_id("<tool>")]
    assert tokenizer.decode(tokenizer.encode("Write <s>ten</s> nine.")) == "Write <s>ten</s> nine."


def test_what_stands_in_for_a_spelling_cannot_be_spelled_either(tokenizer: Tokenizer) -> None:
    """Each is hidden under another name inside; a text with that name is a text like any other, or refused."""
    for name in map(hidden_name, sorted(_reserved(tokenizer))):
        with contextlib.suppress(DataError):
            assert not _reserved(tokenizer) & set(tokenizer.encode(f"a {name} b"))


def test_text_that_is_none_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match=r"lone surrogate '\\ud83d'"):
        tokenizer.encode("hi \ud83d")
