"""The chat template that a prepared folder keeps with all that it was rendered with, so prompts are laid out alike.

chat_template.jinja               the template; further ones by name in additional_chat_templates/
chat.json                         special tokens, tokens of items, end tokens, day, targets, digests of the templates
"""

import hashlib
import json
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from typing import Any

from counterpoint.data.text.chat import TrainOn
from counterpoint.data.text.template_chat import TemplateChat
from counterpoint.data.text.tokenizer import Tokenizer
from counterpoint.data.text.tokenizer_folder import DEFAULT, MORE_TEMPLATES, TEMPLATE_NAME, FolderChat
from counterpoint.errors import DataError

TEMPLATE = "template"
CHAT_NAME = "chat.json"


def keep_chat(chat: TemplateChat, folder: Path) -> str:
    """Write a chat into a folder; returns the digest that `read_chat` expects."""
    values = asdict(chat.folder)
    templates = values.pop("templates")
    for name, text in templates.items():
        path = _path(folder, name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text.encode())
    digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in templates.items()}
    values |= {"templates": digests, "date": chat.day, "train_on": chat.train_on}
    data = (json.dumps(values, indent=2, sort_keys=True) + "\n").encode()
    (folder / CHAT_NAME).write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def read_chat(folder: Path, digest: str | None, tokenizer: Tokenizer) -> TemplateChat:
    """The chat of a prepared folder; raises DataError if a file is missing or not what was written."""
    data = _bytes(folder, folder / CHAT_NAME)
    if hashlib.sha256(data).hexdigest() != digest:
        raise _changed(folder, CHAT_NAME)
    values: dict[str, Any] = json.loads(data)
    templates = {}
    for name, expected in values.pop("templates").items():
        text = _bytes(folder, _path(folder, name))
        if hashlib.sha256(text).hexdigest() != expected:
            raise _changed(folder, _path(folder, name).name)
        templates[name] = text.decode()
    day, train_on = values.pop("date"), values.pop("train_on")
    kept = FolderChat(**{**values, "templates": templates, **{key: tuple(values[key]) for key in ("special", "ends")}})
    return TemplateChat(tokenizer, kept, day, train_on)


def folder_chat(given: FolderChat, tokenizer: Tokenizer, day: str, train_on: TrainOn) -> TemplateChat:
    """The chat of a tokenizer's folder with templates; raises DataError if these cannot be used."""
    try:
        date.fromisoformat(day)
    except ValueError:
        raise DataError(f"--date: got '{day}', expected a day like 2024-07-26; correct it.") from None
    kept = replace(given, ends=tuple(number for number in given.ends if 0 <= number < tokenizer.vocabulary))
    chat = TemplateChat(tokenizer, kept, day, train_on)
    chat.check()
    return chat


def _path(folder: Path, name: str) -> Path:
    if name == DEFAULT:
        return folder / TEMPLATE_NAME
    if not name.replace("_", "").replace("-", "").isalnum():
        raise DataError(f"a chat template is named {name!r}, expected letters, digits, - and _; rename it.")
    return folder / MORE_TEMPLATES / f"{name}.jinja"


def _bytes(folder: Path, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"dataset {folder}: {path.name} cannot be read ({error.strerror}); prepare it again."
        ) from error


def _changed(folder: Path, name: str) -> DataError:
    return DataError(f"dataset {folder}: {name} is not what was prepared, by its digest; prepare it again.")
