"""A tokenizer's backend for the text of users: the same ids, but no text is split into a special token.

`encode_special_tokens` of the library is not enough: words, pieces and merges of a model spell special tokens as well.
Begin and end tokens need not be marked as special either.
"""

import json
from collections.abc import Collection, Mapping
from typing import Any

from tokenizers import Tokenizer as Backend


def hidden_name(number: int) -> str:
    """The name that hides a special token while text is encoded: two code points that no text should have."""
    return f"\ufdd0{number}\ufdd1"


def special_ids(backend: Backend, used: Collection[int]) -> frozenset[int]:
    """The ids that only a chat format may write: added tokens that are special, and those `used` by name."""
    added = backend.get_added_tokens_decoder()
    return frozenset(used) | {number for number, token in added.items() if token.special}


def unknown_id(backend: Backend) -> int | None:
    """The id of the unknown token, which text may become; None if there is none."""
    model = json.loads(backend.to_str())["model"]
    if "unk_id" in model:
        return None if model["unk_id"] is None else int(model["unk_id"])
    name = model.get("unk_token")
    return None if name is None else backend.token_to_id(name)


def text_backend(backend: Backend, special: Collection[int]) -> Backend:
    """The backend with the names of `special` tokens hidden: in the vocabulary, its merges and the added tokens."""
    added = backend.get_added_tokens_decoder()
    # The library itself answers with the normalised name of an added token.
    names = {
        added[number].content if number in added else str(backend.id_to_token(number)): hidden_name(number)
        for number in special
    }
    values = json.loads(backend.to_str())
    values["model"] = _renamed(values["model"], names)
    values["added_tokens"] = [
        {**token, "content": names.get(token["content"], token["content"])} for token in values["added_tokens"]
    ]
    # Special tokens around a text are never requested, and a post-processor would look for its tokens by name.
    values["post_processor"] = None
    hidden = Backend.from_str(json.dumps(values))
    hidden.encode_special_tokens = True
    return hidden


def _renamed(model: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    changed = dict(model)
    if isinstance(model["vocab"], dict):
        changed["vocab"] = {names.get(word, word): number for word, number in model["vocab"].items()}
    else:
        changed["vocab"] = [[names.get(piece, piece), score] for piece, score in model["vocab"]]
    if "merges" in model:
        prefix = len(model.get("continuing_subword_prefix") or "")
        pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
        changed["merges"] = [(a, b) for a, b in pairs if not {a, b, a + b[prefix:]} & names.keys()]
    if model.get("unk_token") is not None:
        changed["unk_token"] = names.get(model["unk_token"], model["unk_token"])
    return changed
