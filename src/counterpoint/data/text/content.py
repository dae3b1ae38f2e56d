"""A turn as a chat template wants it: content as text or as a list of parts, with a token where an item stands."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from counterpoint.data.text.chat import Medium, Message
from counterpoint.data.text.rendered import PLACE
from counterpoint.errors import DataError

_PLACES: Mapping[str, tuple[str, ...]] = {
    "image": ("<|image_pad|>", "<start_of_image>", "<IMG_CONTEXT>", "<image>", "[IMG]", "<|image|>"),
    "video": ("<|video_pad|>", "<video>", "<|video|>"),
    "audio": ("<|audio_pad|>", "<|AUDIO|>", "<audio>", "[AUDIO]", "<|audio|>", "<sound>"),
}
"""What the tokenizers of published models call the token that stands for an item, where their folders do not say it."""

_FRAMES = {
    "<start_of_image>": f"\n\n<start_of_image>{PLACE}<end_of_image>\n\n",
    "<IMG_CONTEXT>": f"<img>{PLACE}</img>",
}
"""What the processors of Gemma 3 and InternVL make of such a token after the template."""

_VIDEO = "video"
_PROBE = "Ubgrewq"

_REASONING = "reasoning_content"
_REASONING_OLDER = "thinking"
_LIST_MARK = "'type'"

Write = Callable[[list[dict[str, Any]]], "str | DataError"]
Change = Callable[[Any], Any]


def kind_of(medium: Medium) -> str:
    """What templates call an item."""
    return _VIDEO if medium.is_video or len(medium.files) > 1 else medium.kind


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class TurnWriter:
    """Turns for one template: `places` are the tokens that stand for items by kind, `listed` the kinds for which the
    template itself writes them."""

    places: Mapping[str, str]
    listed: frozenset[str]
    is_list_only: bool

    @classmethod
    def of(cls, write: Write, named: Mapping[str, str], vocabulary: Collection[str]) -> "TurnWriter":
        """Find out by trying what a template takes; raises DataError with its reason if it takes no question."""
        written = write([{"role": "user", "content": _PROBE}])
        is_list_only = False
        if isinstance(written, DataError) or _PROBE not in written:
            listed = write([{"role": "user", "content": [{"type": "text", "text": _PROBE}]}])
            is_list_only = not isinstance(listed, DataError) and _PROBE in listed and _LIST_MARK not in listed
            if not is_list_only:
                raise (
                    written
                    if isinstance(written, DataError)
                    else DataError(
                        "the chat template does not write what a user says; choose another template, or 'plain'."
                    )
                )
        places, found = {}, set()
        for kind, known in _PLACES.items():
            candidates = [name for name in (*((named[kind],) if kind in named else ()), *known) if name in vocabulary]
            tried = write([{"role": "user", "content": [{"type": kind}, {"type": "text", "text": _PROBE}]}])
            if not isinstance(tried, DataError) and _PROBE in tried and _LIST_MARK not in tried:
                own = [name for name in candidates if tried.count(name) == 1]
                found |= {kind} if own else set()
                candidates = own or candidates
            places[kind] = candidates[0] if candidates else PLACE
        return cls(places, frozenset(found), is_list_only)

    @property
    def frames(self) -> dict[str, str]:
        """What tokens become that stand for more than an item."""
        return {name: _FRAMES[name] for name in self.places.values() if name in _FRAMES}

    def place_of(self, medium: Medium) -> str:
        """The token that stands for an item in what a template writes."""
        return self.places.get(kind_of(medium), PLACE)

    def token_of(self, medium: Medium) -> str:
        """The token in whose place the rows of an item are."""
        place = self.place_of(medium)
        return PLACE if place in _FRAMES else place

    def turn(self, message: Message, words: Change = _same, fields: Change = _same) -> dict[str, Any]:
        """A turn as the template gets it, its words and fields changed."""
        kinds = [kind_of(part) for part in message.parts if isinstance(part, Medium)]
        content: Any
        if (self.is_list_only and self.listed.issuperset(kinds)) or (kinds and self.listed.issuperset(kinds)):
            # Templates may look at the first part of a turn that says nothing.
            content = [self._part(part, words) for part in message.parts] or [{"type": "text", "text": ""}]
        else:
            content = "".join(words(part) if isinstance(part, str) else self.place_of(part) for part in message.parts)
            content = [{"type": "text", "text": content}] if self.is_list_only else content
        given = {name: fields(value) for name, value in message.fields.items()}
        if _REASONING in given:
            # As transformers does it for templates that know the older name.
            given[_REASONING_OLDER] = given[_REASONING]
        return {"role": message.role, "content": content, **given}

    @staticmethod
    def _part(part: str | Medium, words: Change) -> dict[str, str]:
        if isinstance(part, str):
            return {"type": "text", "text": words(part)}
        return {"type": kind_of(part)}
