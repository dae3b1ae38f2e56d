"""What the folder of a tokenizer says about conversations: templates, special tokens, tokens for items, end tokens."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from counterpoint.data.text.tokenizer import check_text
from counterpoint.errors import DataError

CONFIG_NAME, TEMPLATE_NAME, MORE_TEMPLATES = "tokenizer_config.json", "chat_template.jinja", "additional_chat_templates"
TOKENIZER_FILE = "tokenizer.json"
DEFAULT, TOOL_USE = "default", "tool_use"

_PROCESSOR_TEMPLATE = "chat_template.json"
_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_MORE = ("additional_special_tokens", "extra_special_tokens", "model_specific_special_tokens")
_OF_ITEMS = {"image": "image_token", "video": "video_token", "audio": "audio_token"}
_LARGEST_BYTES = 2**26
_MOST_TEMPLATES = 16


@dataclass(frozen=True)
class FolderChat:
    """How a folder lays out conversations: its `templates` by name, `variables` (the named special tokens that
    templates may write), all `special` tokens by content, tokens that stand for items by kind, and `ends`, ids that
    end an answer beside the template's own."""

    templates: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    special: tuple[str, ...] = ()
    items: Mapping[str, str] = field(default_factory=dict)
    ends: tuple[int, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> "FolderChat":
        """What a folder says; without `templates` where it has none. Raises DataError for a malformed file."""
        config = _object(folder / CONFIG_NAME)
        older = _object(folder / "special_tokens_map.json")
        processor = _object(folder / "processor_config.json")
        values = {**older, **{key: value for key, value in config.items() if value is not None}}
        variables = {name: text for name in _NAMED if (text := _content(values.get(name))) is not None}
        more: dict[str, str] = {}
        for found in (values.get(key) for key in _MORE):
            pairs = found.items() if isinstance(found, dict) else enumerate(found if isinstance(found, list) else [])
            more |= {str(key): text for key, value in pairs if (text := _content(value)) is not None}
            variables_of_model = found if isinstance(found, dict) else {}
            values |= {key: value for key, value in variables_of_model.items() if key not in values}
        decoder = config.get("added_tokens_decoder")
        added = [each for each in (decoder.values() if isinstance(decoder, dict) else []) if isinstance(each, dict)]
        special = {*variables.values(), *more.values(), *(_content(each) for each in added if each.get("special"))}
        items = {
            kind: text
            for kind, key in _OF_ITEMS.items()
            if (text := _content(values.get(key)) or _content(processor.get(key))) is not None
        }
        return cls(
            _templates(folder, config),
            variables,
            tuple(sorted(text for text in special if text)),
            items,
            _ends(_object(folder / "generation_config.json")),
        )


def _templates(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """Templates by name; a file of its own goes before what JSON holds, as in transformers."""
    found = _given_templates(config.get("chat_template"), folder / CONFIG_NAME)
    processor = _object(folder / _PROCESSOR_TEMPLATE).get("chat_template")
    found |= _given_templates(processor, folder / _PROCESSOR_TEMPLATE)
    if (folder / TEMPLATE_NAME).is_file():
        found = {DEFAULT: _text(folder / TEMPLATE_NAME)}
    more = sorted((folder / MORE_TEMPLATES).glob("*.jinja")) if (folder / MORE_TEMPLATES).is_dir() else []
    if len(more) > _MOST_TEMPLATES:
        raise DataError(f"{folder / MORE_TEMPLATES}: holds {len(more)} templates, expected at most {_MOST_TEMPLATES}.")
    return found | {path.stem: _text(path) for path in more}


def _given_templates(value: object, path: Path) -> dict[str, str]:
    if value is None:
        return {}
    if isinstance(value, str):
        pairs: list[tuple[object, object]] = [(DEFAULT, value)]
    elif isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list) and all(isinstance(each, dict) for each in value):
        pairs = [(each.get("name"), each.get("template")) for each in value]
    else:
        pairs = [(None, None)]
    found = {name: text for name, text in pairs if isinstance(name, str) and isinstance(text, str)}
    if len(found) < len(pairs) or len(found) > _MOST_TEMPLATES:
        raise DataError(f"{path}: expected 'chat_template' to be a text, or a list of {{name, template}}; correct it.")
    for text in found.values():
        check_text(text)
    return found


def _ends(config: Mapping[str, Any]) -> tuple[int, ...]:
    given = config.get("eos_token_id")
    found = given if isinstance(given, list) else [given]
    return tuple(number for number in found if isinstance(number, int) and not isinstance(number, bool))


def _content(value: object) -> str | None:
    """The text of a token, which is a text or an object with one."""
    found = value.get("content") if isinstance(value, dict) else value
    return found if isinstance(found, str) and found else None


def _object(path: Path) -> dict[str, Any]:
    """The object of a JSON file, empty if there is no such file."""
    if not path.is_file():
        return {}
    try:
        values = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is no JSON ({error}), expected an object; correct it.") from None
    if not isinstance(values, dict):
        raise DataError(f"{path}: holds no JSON object, expected one; correct it.")
    return values


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise DataError(f"{path}: is larger than {_LARGEST_BYTES} bytes, expected a small file of text.")
        return path.read_bytes().decode()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); correct its permissions.") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 ({error}); encode it again.") from None
