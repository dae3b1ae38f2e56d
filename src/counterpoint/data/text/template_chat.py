"""Conversations laid out by a tokenizer folder's chat template: the tokens of transformers, and which are targets.

An answer is what is left of a rendering of all turns up to it once the rendering of the turns before it, with the
prompt for an answer, is taken away; both must be prefixes of the rendering of the whole. Where the template marks what
is generated itself, its marks hold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from typing import Any

from counterpoint.data.text.answers import STRADDLED, Answer, answer_targets, generated_targets
from counterpoint.data.text.chat import ASSISTANT, USER, LaidChat, Medium, Message, Tools, TrainOn
from counterpoint.data.text.codec import Codec, Tokens
from counterpoint.data.text.content import TurnWriter
from counterpoint.data.text.rendered import Rendered, Span, mark_spelled, mark_words, refuse_reserved, texts_in
from counterpoint.data.text.said import check_heard, check_said
from counterpoint.data.text.sandbox import render
from counterpoint.data.text.text_backend import special_ids
from counterpoint.data.text.tokenizer import Tokenizer, check_text
from counterpoint.data.text.tokenizer_folder import DEFAULT, TOOL_USE, FolderChat
from counterpoint.errors import DataError

DEFAULT_DATE = "2024-07-26"
"""The day of `strftime_now`, the one that Llama 3's template names where it knows none."""

_PROBE = "Ubgrewq"
"""A word that no template has."""


@dataclass(frozen=True)
class TemplateChat:
    """The chat template of a tokenizer's folder, rendered on one day; raises DataError where it cannot be used."""

    tokenizer: Tokenizer
    folder: FolderChat
    day: str = DEFAULT_DATE
    train_on: TrainOn = "assistant"
    name: str = "template"

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """The tokens that end an answer: the one that the template writes after it, then those of the folder."""
        return tuple(dict.fromkeys((self._turn_end[1], *self.folder.ends)))

    def lay(self, messages: Sequence[Message], tools: Tools = ()) -> LaidChat:
        """The tokens of a conversation.

        Raises DataError if the template refuses it, drops words of it, or writes it so that no answer can be told.
        """
        messages = self._readable(messages, tools)
        turns = [self._writer.turn(message) for message in messages]
        whole = self._render(turns, tools)
        marked = self._marked(messages, tools, whole)
        answers = self._answers(messages, turns, tools, whole)
        check_said(messages, tools, whole.text, marked, {answer.turn: answer.whole for answer in answers})
        check_heard(
            messages,
            tools,
            lambda turn, name: self._has_effect(messages[: turn + 1], name, tools),
            lambda: self._text(turns, (), False) != whole.text,
        )
        tokens = self._codec.encode(whole.text, _owned(marked, whole.text, self._codec))
        ids, spans, media = self._place(messages, tokens, whole.text, marked)
        kept = Tokens(ids, spans)
        if whole.generated:
            targets, notes = generated_targets(whole.generated, messages, self.train_on)
        else:
            targets, notes = answer_targets(whole.text, answers, messages, self.train_on, self._codec.pattern)
        loss = [self.train_on == "all"] * len(ids)
        places = []
        for target in targets:
            first, stop = kept.overlapping(target.span)
            if first < stop and spans[first][0] < target.span[0]:
                notes = (*notes, STRADDLED)
                # A token of the prompt that has only space of the answer is given.
                first += not whole.text[target.span[0] : spans[first][1]].strip()
            places.append(first)
            loss[first:stop] = [target.has_loss] * (stop - first)
        return LaidChat(ids, tuple(loss), media, tuple(places), tuple(dict.fromkeys(notes)))

    def prompt(self, messages: Sequence[Message], tools: Tools = ()) -> LaidChat:
        """What the model sees when it begins to write the answer to some turns."""
        messages = self._readable(messages, tools)
        turns = [self._writer.turn(message) for message in messages]
        whole = self._render(turns, tools, is_prompt=True)
        marked = self._marked(messages, tools, whole, is_prompt=True)
        tokens = self._codec.encode(whole.text, _owned(marked, whole.text, self._codec))
        ids, _spans, media = self._place(messages, tokens, whole.text, marked)
        return LaidChat(ids, (False,) * len(ids), media, (len(ids),))

    def check(self) -> None:
        """Raise DataError if the template cannot lay out one question and its answer, or no token would end that."""
        text, (name, end) = self._probed, self._turn_end
        at = text.index(name, text.rindex(_PROBE))
        tokens = self._codec.encode(text, ())
        first, stop = tokens.overlapping((at, at + len(name)))
        if end not in tokens.ids[first:stop]:
            raise DataError(
                f"the chat template ends an answer with {name!r}, which the tokenizer reads as other tokens there, "
                'expected the special token, at which writing can end; say "normalized": false of it in the '
                "added_tokens of tokenizer.json, or choose the layout 'plain'."
            )

    def _readable(self, messages: Sequence[Message], tools: Tools) -> list[Message]:
        """The turns without empty words; raises DataError for text that cannot be told from marks."""
        texts = [text for message in messages for text in self._texts(message)] + texts_in(list(tools))
        for text in texts:
            check_text(text)
        refuse_reserved(texts)
        return [replace(each, parts=tuple(part for part in each.parts if part != "")) for each in messages]

    @staticmethod
    def _texts(message: Message) -> list[str]:
        return [*(part for part in message.parts if isinstance(part, str)), *texts_in(message.fields)]

    def _render(self, turns: Sequence[Mapping[str, Any]], tools: Tools, is_prompt: bool = False) -> Rendered:
        template = self._template(tools)
        variables = {
            **self.folder.variables,
            "messages": list(turns),
            "tools": list(tools) or None,
            "documents": None,
            "add_generation_prompt": is_prompt,
        }
        return Rendered.of(render(template, date.fromisoformat(self.day), variables))

    def _template(self, tools: Tools) -> str:
        templates = self.folder.templates
        found = templates.get(TOOL_USE) if tools else None
        found = templates.get(DEFAULT) if found is None else found
        if found is None:
            raise DataError(
                f"the tokenizer has chat templates {', '.join(sorted(templates))}, expected one named '{DEFAULT}'."
            )
        return found

    def _marked(
        self, messages: Sequence[Message], tools: Tools, whole: Rendered, is_prompt: bool = False
    ) -> Rendered | None:
        """The same rendering with its words found; None if the template looks at its words so closely that marks change
        what it writes. Raises DataError if it does so and they spell special tokens."""
        pattern = self._codec.pattern
        spelled = [text for message in messages for text in self._texts(message)] + texts_in(list(tools))
        is_spelled = any(pattern.search(text) for text in spelled)
        tries: list[Mapping[bool, bool]] = [{True: True}]
        tries += [{True: False}] if is_spelled else []
        for attempt in tries:
            has_words = attempt[True]
            numbers = iter(range(sum(len(message.parts) for message in messages)))

            def mark(text: str, has_words: bool = has_words, numbers: Any = numbers) -> str:
                number = next(numbers)
                return mark_words(text, number, pattern) if has_words else mark_spelled(text, pattern)

            turns = [
                self._writer.turn(message, mark, lambda value: mark_spelled(value, pattern)) for message in messages
            ]
            try:
                marked = self._render(turns, mark_spelled(list(tools), pattern), is_prompt)
            except DataError:
                continue
            if marked.text == whole.text:
                return marked
        if is_spelled:
            raise DataError(
                "the text spells a special token, and the chat template reads the text too closely to tell where it "
                "stands; remove the token's name from the text."
            )
        return None

    def _answers(
        self, messages: Sequence[Message], turns: Sequence[Mapping[str, Any]], tools: Tools, whole: Rendered
    ) -> list[Answer]:
        """The answers of a conversation: what stands before each, and with it."""
        found = []
        for number, message in enumerate(messages):
            if message.role == ASSISTANT:
                is_last = number == len(messages) - 1
                upto = whole.text if is_last else self._text(turns[: number + 1], tools, False)
                found.append(Answer(number, self._text(turns[:number], tools, True), self._unclosed(upto)))
        return found

    def _unclosed(self, written: str | DataError) -> str | DataError:
        """A rendering without the special tokens that some templates (Phi-3's) close each one with, after an answer's
        end."""
        if isinstance(written, DataError):
            return written
        end = self._turn_end[0]
        before, _end, closing = written.rpartition(end)
        is_closed = bool(closing.strip()) and not self._codec.pattern.sub("", closing).strip()
        return f"{before}{end}" if is_closed else written

    def _text(self, turns: Sequence[Mapping[str, Any]], tools: Tools, is_prompt: bool) -> str | DataError:
        try:
            return self._render(turns, tools, is_prompt).text
        except DataError as error:
            return error

    def _has_effect(self, messages: Sequence[Message], name: str, tools: Tools) -> bool:
        """Whether the last of some turns is written otherwise without its field of a name."""
        *before, last = messages
        bare = replace(last, fields={key: value for key, value in last.fields.items() if key != name})
        with_it, without = (list(map(self._writer.turn, [*before, message])) for message in (last, bare))
        return self._text(without, tools, False) != self._text(with_it, tools, False)

    def _place(
        self, messages: Sequence[Message], tokens: Tokens, text: str, marked: Rendered | None
    ) -> tuple[tuple[int, ...], tuple[Span, ...], tuple[tuple[int, Medium], ...]]:
        """The tokens without those that stand for items, and the items by the token that each stands before."""
        media = [part for message in messages for part in message.parts if isinstance(part, Medium)]
        waiting: dict[int, list[Medium]] = {}
        for medium in media:
            waiting.setdefault(self._id(self._writer.token_of(medium)), []).append(medium)
        owned = _owned(marked, text, self._codec)
        places = {number: iter(found) for number, found in waiting.items()}
        ids: list[int] = []
        spans: list[Span] = []
        placed: list[tuple[int, Medium]] = []
        counted = dict.fromkeys(waiting, 0)
        for number, span in zip(tokens.ids, tokens.spans, strict=True):
            is_place = number in waiting and not any(first < span[1] and span[0] < stop for first, stop in owned)
            if is_place:
                counted[number] += 1
                placed += [(len(ids), found) for found in [next(places[number], None)] if found is not None]
            else:
                ids.append(number)
                spans.append(span)
        for number, found in waiting.items():
            if counted[number] != len(found):
                raise DataError(
                    f"the chat template has {counted[number]} places for {len(found)} items of kind {found[0].kind}; "
                    "expected one for each: the template cannot show items in such a turn."
                )
        return tuple(ids), tuple(spans), tuple(placed)

    def _id(self, name: str) -> int:
        return self._codec.special.get(name, self._codec.place)

    @cached_property
    def _writer(self) -> TurnWriter:
        vocabulary = self.tokenizer.backend.get_vocab(with_added_tokens=True)
        return TurnWriter.of(lambda turns: self._text(turns, (), False), self.folder.items, vocabulary.keys())

    @cached_property
    def _probed(self) -> str:
        """A question and its answer, which is _PROBE."""
        turns = [self._writer.turn(each) for each in (Message(USER, (".",)), Message(ASSISTANT, (_PROBE,)))]
        return self._render(turns, ()).text

    @cached_property
    def _turn_end(self) -> tuple[str, int]:
        """The token that the template writes after an answer, and its id."""
        _before, _word, after = self._probed.rpartition(_PROBE)
        added = {token.content: number for number, token in self.tokenizer.backend.get_added_tokens_decoder().items()}
        names = {**added, **{name: number for name, number in self._special.items()}}
        found = sorted((after.index(name), -len(name), name) for name in names if name in after)
        if not found:
            raise DataError(
                f"the chat template ends an answer with {after!r}, expected a special token, at which writing can end; "
                "choose the layout 'plain', or add the end token to the template."
            )
        return found[0][2], names[found[0][2]]

    @cached_property
    def _special(self) -> dict[str, int]:
        backend, tokenizer = self.tokenizer.backend, self.tokenizer
        named = {backend.token_to_id(name) for name in (*self.folder.special, *self.folder.items.values())}
        used = {number for number in (*named, tokenizer.bos, tokenizer.eos, tokenizer.pad) if number is not None}
        added = backend.get_added_tokens_decoder()
        ids = special_ids(backend, used)
        return {
            added[number].content if number in added else str(backend.id_to_token(number)): number for number in ids
        }

    @cached_property
    def _codec(self) -> Codec:
        added = self.tokenizer.backend.get_added_tokens_decoder()
        ends = {added[number].content: number for number in self.ends if number in added}
        return Codec(self.tokenizer.backend, {**self._special, **ends, **self._item_tokens}, self._writer.frames)

    @property
    def _item_tokens(self) -> dict[str, int]:
        found = {name: self.tokenizer.backend.token_to_id(name) for name in self._writer.places.values()}
        return {name: number for name, number in found.items() if number is not None}


def _owned(marked: Rendered | None, text: str, codec: Codec) -> list[Span]:
    """The spans of a rendering that are words of the conversation, ascending and apart."""
    if marked is None:
        return []
    spelled = (codec.pattern.match(text, place) for place in marked.spelled)
    spans = sorted([*marked.words.values(), *(found.span() for found in spelled if found is not None)])
    joined: list[Span] = []
    for first, stop in spans:
        if joined and first < joined[-1][1]:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        elif first < stop:
            joined.append((first, stop))
    return joined
