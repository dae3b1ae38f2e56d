"""A conversation, and how one is laid out as tokens: the same for training, for evaluation and for generation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from counterpoint.data.text.tokenizer import Tokenizer
from counterpoint.errors import DataError
from counterpoint.sources.prepared.stored import Stored

Role = Literal["system", "user", "assistant", "tool"]
TrainOn = Literal["all", "assistant", "last"]

SYSTEM: Role = "system"
USER: Role = "user"
ASSISTANT: Role = "assistant"
TOOL: Role = "tool"

TRAIN_ON: tuple[TrainOn, ...] = get_args(TrainOn)
"""Which tokens are targets: all, those of every answer, or those of the last answer."""

Tools = Sequence[Mapping[str, Any]]
"""The functions that a conversation may call, as JSON schemas."""

TURN_END = "\n"

File = Path | bytes | Stored
"""An encoded file, or where it lies."""


@dataclass(frozen=True, slots=True)
class Medium:
    """An image, clip or array of features between the words; an image of several files is a video, and so is one file
    of video.

    Of a file of video, `picks` are the stamps of the frames that are seen, `times` theirs in seconds from the first
    one, `size` their height and width, and `data` its bytes. A part of a video says of how many frames the `whole` is.
    """

    kind: str
    files: tuple[File, ...]
    is_video: bool = False
    picks: tuple[int, ...] = ()
    times: tuple[Fraction, ...] = ()
    size: tuple[int, ...] = ()
    whole: int = 0
    data: bytes | None = field(default=None, compare=False, repr=False)


Part = str | Medium


@dataclass(frozen=True, slots=True)
class Message:
    """One turn: who speaks, and words and media in their order.

    An answer of `weight` 0 is no target. `fields` are what else a turn says to a chat template, as JSON: `tool_calls`,
    `tool_call_id`, `name`, `reasoning_content`.
    """

    role: Role
    parts: tuple[Part, ...]
    weight: int = 1
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The words alone."""
        return "".join(part for part in self.parts if isinstance(part, str))


@dataclass(frozen=True, slots=True)
class LaidChat:
    """A conversation as tokens: `loss` marks the targets, `media` are by the token that each stands before, and
    `answers` are the tokens at which the model begins to write. `notes` say what of it was taken otherwise."""

    tokens: tuple[int, ...]
    loss: tuple[bool, ...]
    media: tuple[tuple[int, Medium], ...]
    answers: tuple[int, ...]
    notes: tuple[str, ...] = ()

    def before(self, answer: int) -> "LaidChat":
        """All that stands before an answer: what the model sees when it begins to write it."""
        start = self.answers[answer]
        media = tuple((position, medium) for position, medium in self.media if position <= start)
        return LaidChat(self.tokens[:start], self.loss[:start], media, self.answers[:answer])


class ChatFormat(Protocol):
    """How a conversation becomes tokens; the only place where special tokens are written.

    What is laid before an answer depends on the turns before it alone, so a prompt is a prefix of what is trained on.
    Formats are picklable, and equal if they lay out alike.
    """

    @property
    def name(self) -> str:
        """Its name in an index."""

    @property
    def tokenizer(self) -> Tokenizer:
        """What turns its words into tokens."""

    @property
    def ends(self) -> tuple[int, ...]:
        """The tokens that end an answer, the usual one first."""

    def lay(self, messages: Sequence[Message], tools: Tools = ()) -> LaidChat:
        """The tokens of a conversation; raises DataError for one that it cannot lay out whole."""

    def prompt(self, messages: Sequence[Message], tools: Tools = ()) -> LaidChat:
        """What the model sees when it begins to write the answer to some turns."""


@dataclass(frozen=True)
class PlainChat:
    """The begin token, then the text of each turn; a line break ends a turn, the end token an answer."""

    tokenizer: Tokenizer
    train_on: TrainOn = "assistant"
    name: str = "plain"

    @property
    def ends(self) -> tuple[int, ...]:
        """The token that ends an answer."""
        return (self.tokenizer.eos,)

    def lay(self, messages: Sequence[Message], tools: Tools = ()) -> LaidChat:
        """The tokens of a conversation."""
        _refuse_unspoken(messages, tools)
        return _laid(messages, self.tokenizer, self.tokenizer.encode(TURN_END), self.train_on, is_caption=False)

    def prompt(self, messages: Sequence[Message], tools: Tools = ()) -> LaidChat:
        """What stands before the answer to some turns."""
        return _before_answer(self.lay([*messages, Message(ASSISTANT, ())], tools))


@dataclass(frozen=True)
class CaptionChat:
    """All media, the begin token, then all words together; the end token ends an answer."""

    tokenizer: Tokenizer
    name: str = "captions"

    @property
    def ends(self) -> tuple[int, ...]:
        """The token that ends an answer."""
        return (self.tokenizer.eos,)

    def lay(self, messages: Sequence[Message], tools: Tools = ()) -> LaidChat:
        """The tokens of media and their caption."""
        _refuse_unspoken(messages, tools)
        return _laid(messages, self.tokenizer, [], "assistant", is_caption=True)

    def prompt(self, messages: Sequence[Message], tools: Tools = ()) -> LaidChat:
        """What stands before a caption."""
        return _before_answer(self.lay([*messages, Message(ASSISTANT, ())], tools))


def _before_answer(laid: LaidChat) -> LaidChat:
    return laid.before(len(laid.answers) - 1)


def _refuse_unspoken(messages: Sequence[Message], tools: Tools) -> None:
    """Raise DataError for what only a chat template could say."""
    unspoken = ["tools"] if tools else []
    unspoken += ["a turn of a tool" for message in messages if message.role == TOOL]
    unspoken += [name for message in messages for name in message.fields]
    if unspoken:
        raise DataError(
            f"the conversation has {unspoken[0]}, which this token layout cannot say, expected turns of text; prepare "
            "it with the folder of a tokenizer whose chat template knows tools (--tokenizer FOLDER --chat template)."
        )


def _laid(
    messages: Sequence[Message], tokenizer: Tokenizer, turn_end: Sequence[int], train_on: TrainOn, is_caption: bool
) -> LaidChat:
    tokens = list(tokenizer.start)
    loss = [train_on == "all"] * len(tokens)
    media: list[tuple[int, Medium]] = []
    answers = []
    last = max((number for number, message in enumerate(messages) if message.role == ASSISTANT), default=-1)
    for number, message in enumerate(messages):
        is_answer = message.role == ASSISTANT
        if is_answer:
            answers.append(len(tokens))
        for part in message.parts:
            if isinstance(part, str):
                tokens += tokenizer.encode(part)
            else:
                is_first = is_caption and len(tokens) == len(tokenizer.start)
                media.append((0 if is_first else len(tokens), part))
        tokens += [tokenizer.eos] if is_answer else turn_end
        is_target = train_on == "all" or (number == last if train_on == "last" else is_answer)
        loss += [is_target and message.weight > 0] * (len(tokens) - len(loss))
    return LaidChat(tuple(tokens), tuple(loss), tuple(media), tuple(answers))
