"""Which tokenizer and which chat format lay out the conversations that `prepare` reads."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from counterpoint.argument import argument
from counterpoint.data.prepare.options import PrepareOptions
from counterpoint.data.text.chat import TRAIN_ON, ChatFormat, PlainChat, TrainOn
from counterpoint.data.text.kept_chat import TEMPLATE, folder_chat, keep_chat
from counterpoint.data.text.template_chat import DEFAULT_DATE, TemplateChat
from counterpoint.data.text.tokenizer import Tokenizer
from counterpoint.data.text.tokenizer_folder import TOKENIZER_FILE, FolderChat
from counterpoint.errors import DataError
from counterpoint.sources.prepared.index import file_digest
from counterpoint.sources.prepared.index_writer import IndexWriter

PLAIN = PlainChat.name


class Layout(NamedTuple):
    """A chat format, and what the user should know of it."""

    chat: ChatFormat
    remarks: tuple[str, ...] = ()

    def keep(self, writer: IndexWriter) -> None:
        """Write into an index what later prompts need."""
        writer.chat = self.chat.name
        if isinstance(self.chat, TemplateChat):
            writer.chat_sha256 = keep_chat(self.chat, writer.folder)


def choose_layout(options: PrepareOptions, open_tokenizer: Callable[[Path | None], Tokenizer]) -> Layout:
    """The chat format for some options; `open_tokenizer` opens the tokenizer of a file, or for None that of the data.

    A tokenizer's folder is used with its template, if it has one; a file is laid out plainly. Raises DataError for
    options that contradict one another.
    """
    _check(options)
    given = options.tokenizer
    is_folder = given is not None and given.is_dir()
    found = FolderChat.read(given) if given is not None and is_folder else FolderChat()
    name = options.chat or (TEMPLATE if found.templates else PLAIN)
    if name == TEMPLATE and not found.templates:
        raise DataError(
            f"{argument('chat')}: got '{TEMPLATE}', but {given or 'a tokenizer trained on the data'} has no chat "
            f"template; give the folder of a tokenizer that has one, or choose '{PLAIN}'."
        )
    if name != TEMPLATE and options.date is not None:
        raise DataError(f"{argument('date')} {options.date}: only a chat template reads it; leave it out.")
    if given is not None and is_folder and not (given / TOKENIZER_FILE).is_file():
        raise DataError(
            f"tokenizer {given}: has no {TOKENIZER_FILE}, expected one; load it with transformers and save it again."
        )
    file = given / TOKENIZER_FILE if given is not None and is_folder else given
    tokenizer = open_tokenizer(file)
    if name != TEMPLATE:
        return Layout(PlainChat(tokenizer, _train_on(options)))
    chat = folder_chat(found, tokenizer, options.date or DEFAULT_DATE, _train_on(options))
    ends = ", ".join(str(tokenizer.backend.id_to_token(number)) for number in chat.ends)
    remark = f"conversations are laid out by the chat template of {given}, day {chat.day}; answers end with {ends}"
    return Layout(chat, (remark,))


def tokenizer_digest(given: Path) -> str:
    """What decides the layout by a tokenizer, its file or folder; raises DataError if it is none."""
    file = given / TOKENIZER_FILE if given.is_dir() else given
    Tokenizer.load(file)
    return f"{file_digest(file)} {FolderChat.read(given) if given.is_dir() else ''}"


def _check(options: PrepareOptions) -> None:
    if options.chat not in (None, PLAIN, TEMPLATE):
        raise DataError(f"{argument('chat')}: got '{options.chat}', expected '{PLAIN}' or '{TEMPLATE}'.")
    _train_on(options)


def _train_on(options: PrepareOptions) -> TrainOn:
    found = next((name for name in TRAIN_ON if name == options.train_on), None)
    if found is None:
        raise DataError(f"{argument('train_on')}: got '{options.train_on}', expected one of {', '.join(TRAIN_ON)}.")
    return found
