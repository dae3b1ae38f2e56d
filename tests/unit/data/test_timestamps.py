"""Times of frames as text before them, as Qwen3-VL's processor writes them."""

import json
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from tokenizers import AddedToken

from counterpoint.data.text.chat import LaidChat, Medium, Message, PlainChat
from counterpoint.data.text.timestamps import timestamps_of, write_timestamps
from counterpoint.data.text.tokenizer import Tokenizer, train_tokenizer

BEGIN, END = "<|vision_start|>", "<|vision_end|>"
FILM = Medium("image", (b"",), True, (0, 5, 9, 12, 20), tuple(Fraction(n, 4) for n in (0, 2, 5, 7, 9)), (4, 4))
PICTURE = Medium("image", (b"",))


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    made = train_tokenizer(["a b"], 270, tmp_path / "tokenizer.json")
    made.backend.add_special_tokens([AddedToken(name, special=True) for name in (BEGIN, END)])
    return made


def _shown(laid: LaidChat, tokenizer: Tokenizer) -> str:
    """The text of a document with items in curly brackets, by their picks."""
    found = []
    for place in range(len(laid.tokens) + 1):
        found += [str(set(medium.picks) or "{}") for position, medium in laid.media if position == place]
        found += [tokenizer.backend.decode([number], skip_special_tokens=False) for number in laid.tokens[place:][:1]]
    return "".join(found)


def _messages(*parts: str | Medium) -> Sequence[Message]:
    return [Message("user", parts), Message("assistant", ("b",))]


def test_every_two_frames_stand_after_the_middle_of_their_times(tokenizer: Tokenizer) -> None:
    laid = PlainChat(tokenizer).lay(_messages(PICTURE, "a", FILM, "b"))
    written = write_timestamps(laid, tokenizer)
    assert _shown(written, tokenizer) == (
        f"<bos>{{}}a<0.2 seconds>{BEGIN}{{0, 5}}{END}<1.5 seconds>{BEGIN}{{9, 12}}{END}"
        f"<2.2 seconds>{BEGIN}{{20}}{END}b\nb<eos>"
    )
    assert [medium.times for _position, medium in written.media[1:]] == [
        FILM.times[:2],
        FILM.times[2:4],
        FILM.times[4:],
    ]
    assert len(written.loss) == len(written.tokens)
    assert [tokenizer.decode([n]) for n, has in zip(written.tokens, written.loss, strict=True) if has] == ["b", ""]
    assert written.tokens[written.answers[0] :] == laid.tokens[laid.answers[0] :]
    assert _shown(written.before(0), tokenizer).endswith("b\n")


def test_tokens_around_a_whole_video_are_taken_away(tokenizer: Tokenizer) -> None:
    begin, end = (tokenizer.backend.get_vocab(with_added_tokens=True)[name] for name in (BEGIN, END))
    tokens, loss = (begin, end, 7, begin, end, begin, end, 8), (False,) * 7 + (True,)
    media = ((1, replace(FILM, picks=(0, 5), times=FILM.times[:2])), (4, PICTURE), (6, FILM))
    written = write_timestamps(LaidChat(tokens, loss, media, (7,)), tokenizer)
    assert _shown(written, tokenizer) == (
        f"<0.2 seconds>{BEGIN}{{0, 5}}{END}{tokenizer.decode([7])}{BEGIN}{{}}{END}"
        f"<0.2 seconds>{BEGIN}{{0, 5}}{END}<1.5 seconds>{BEGIN}{{9, 12}}{END}<2.2 seconds>{BEGIN}{{20}}{END}"
        f"{tokenizer.decode([8])}"
    )
    assert written.answers == (len(written.tokens) - 1,)
    assert written.loss == (False,) * (len(written.tokens) - 1) + (True,)


def test_a_conversation_without_videos_stays_as_it_is(tokenizer: Tokenizer) -> None:
    laid = PlainChat(tokenizer).lay(_messages("a", PICTURE))
    assert write_timestamps(laid, tokenizer) == laid


def test_the_text_is_that_of_transformers(tokenizer: Tokenizer) -> None:
    processing = pytest.importorskip("transformers.models.qwen3_vl.processing_qwen3_vl")
    indices, rate = [0, 7, 15, 22, 30, 37, 44, 52, 59], 29.97
    theirs = processing.Qwen3VLProcessor._calculate_timestamps(None, list(indices), rate, 2)
    times = tuple(Fraction(number) / Fraction(rate) for number in indices)
    film = replace(FILM, picks=tuple(indices), times=times)
    written = write_timestamps(PlainChat(tokenizer).lay(_messages(film)), tokenizer)
    assert "".join(f"<{time:.1f} seconds>" for time in theirs) in tokenizer.decode(written.tokens)


@pytest.mark.parametrize(
    ("name", "values", "found"),
    [
        ("preprocessor_config.json", {"processor_class": "Qwen3VLProcessor"}, "qwen3-vl"),
        ("video_preprocessor_config.json", {"video_processor_type": "Qwen3VLVideoProcessor"}, "qwen3-vl"),
        ("preprocessor_config.json", {"processor_class": "Qwen2_5_VLProcessor"}, "none"),
        ("preprocessor_config.json", [], "none"),
    ],
)
def test_what_a_folder_says(name: str, values: object, found: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(json.dumps(values))
    assert timestamps_of(tmp_path) == found
    assert timestamps_of(None) == timestamps_of(tmp_path / name) == "none"
