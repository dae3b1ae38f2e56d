"""A conversation, and how one is laid out as tokens: the same for training, for evaluation and for generation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal, Protocol

from counterpoint.argument import argument
from counterpoint.data.text.tokenizer import Tokenizer
from counterpoint.errors import DataError
from counterpoint.sources.prepared.index import Index, Manifest
from counterpoint.sources.prepared.stored import Stored

Role = Literal["system", "user", "assistant"]

SYSTEM: Role = "system"
USER: Role = "user"
ASSISTANT: Role = "assistant"

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
    """One turn: who speaks, and words and media in their order."""

    role: Role
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """The words alone."""
        return "".join(part for part in self.parts if isinstance(part, str))


@dataclass(frozen=True, slots=True)
class LaidChat:
    """A conversation as tokens: `loss` marks the targets, `media` are by the token that each stands before, and
    `answers` are the tokens at which the model begins to write."""

    tokens: tuple[int, ...]
    loss: tuple[bool, ...]
    media: tuple[tuple[int, Medium], ...]
    answers: tuple[int, ...]

    def before(self, answer: int) -> "LaidChat":
        """All that stands before an answer: what the model sees when it begins to write it."""
        start = self.answers[answer]
        media = tuple((position, medium) for position, medium in self.media if position <= start)
        return LaidChat(self.tokens[:start], self.loss[:start], media, self.answers[:answer])


class ChatFormat(Protocol):
    """How a conversation becomes tokens; the only place where special tokens are written.

    What is laid before an answer depends on the turns before it alone, so a prompt is a prefix of what is trained on.
    """

    @property
    def name(self) -> str:
        """Its name in an index."""

    @property
    def tokenizer(self) -> Tokenizer:
        """What turns its words into tokens."""

    @property
    def end(self) -> int:
        """The token that ends an answer."""

    def lay(self, messages: Sequence[Message]) -> LaidChat:
        """The tokens of a conversation; targets are the assistant's answers, with the token that ends each."""


def lay_prompt(chat: ChatFormat, messages: Sequence[Message]) -> LaidChat:
    """What the model sees when it begins to write the answer to some turns."""
    laid = chat.lay([*messages, Message(ASSISTANT, ())])
    return laid.before(len(laid.answers) - 1)


@dataclass(frozen=True)
class PlainChat:
    """The begin token, then the text of each turn; a line break ends a turn, the end token an answer."""

    tokenizer: Tokenizer
    name: str = "plain"

    @property
    def end(self) -> int:
        """The token that ends an answer."""
        return self.tokenizer.eos

    def lay(self, messages: Sequence[Message]) -> LaidChat:
        """The tokens of a conversation."""
        return _laid(messages, self.tokenizer, self.tokenizer.encode(TURN_END), is_caption=False)


@dataclass(frozen=True)
class CaptionChat:
    """All media, the begin token, then all words together; the end token ends an answer."""

    tokenizer: Tokenizer
    name: str = "captions"

    @property
    def end(self) -> int:
        """The token that ends an answer."""
        return self.tokenizer.eos

    def lay(self, messages: Sequence[Message]) -> LaidChat:
        """The tokens of media and their caption."""
        return _laid(messages, self.tokenizer, [], is_caption=True)


def _laid(messages: Sequence[Message], tokenizer: Tokenizer, turn_end: Sequence[int], is_caption: bool) -> LaidChat:
    tokens = list(tokenizer.start)
    loss = [False] * len(tokens)
    media: list[tuple[int, Medium]] = []
    answers = []
    for message in messages:
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
        loss += [is_answer] * (len(tokens) - len(loss))
    return LaidChat(tuple(tokens), tuple(loss), tuple(media), tuple(answers))


FORMATS: dict[str, Callable[[Tokenizer], ChatFormat]] = {"plain": PlainChat, "captions": CaptionChat}
"""By the name that an index gives."""


def chat_format(index: Index, tokenizer: Tokenizer) -> ChatFormat:
    """The chat format of an index; raises DataError for one that this version does not know."""
    name = index.manifest.chat
    if name is None:
        name = "captions" if _begins_with_item(index, tokenizer) else "plain"
    return _dataset_format(index.folder, name, tokenizer)


def dataset_format(folder: Path, tokenizer: Tokenizer) -> ChatFormat:
    """The chat format of a prepared folder, from its manifest where that names one."""
    name = Manifest.read(folder).chat
    return chat_format(Index(folder), tokenizer) if name is None else _dataset_format(folder, name, tokenizer)


def named_format(name: str, tokenizer: Tokenizer) -> ChatFormat:
    """The format of a name; raises DataError if there is none."""
    if name not in FORMATS:
        raise DataError(f"{argument('format')}: got '{name}', expected one of {', '.join(FORMATS)}")
    return FORMATS[name](tokenizer)


def _dataset_format(folder: Path, name: str, tokenizer: Tokenizer) -> ChatFormat:
    if name not in FORMATS:
        raise DataError(
            f"dataset {folder}: its conversations are laid out as '{name}', expected one of {', '.join(FORMATS)}; "
            "prepare it again with this version."
        )
    return FORMATS[name](tokenizer)


def _begins_with_item(index: Index, tokenizer: Tokenizer) -> bool:
    """Whether an index of version 4, which does not say its format, has an item before the begin token: only captions
    have."""
    if not index.manifest.documents or tokenizer.bos is None:
        return False
    tokens, _loss = index.tokens(0)
    return any(item.position == 0 for item in index.items(0)) and tokens[:1].tolist() == [tokenizer.bos]
