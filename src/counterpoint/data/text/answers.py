"""Which characters of a rendered conversation are targets: by difference of renderings, or by the template's marks."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from counterpoint.data.text.chat import ASSISTANT, Message, TrainOn
from counterpoint.data.text.rendered import Span
from counterpoint.errors import DataError

REWRITTEN = "the chat template rewrites earlier answers once turns follow: no loss on these"
UNASKED = "the chat template has no prompt for an answer that stands first: no loss on it"
STRADDLED = "an answer begins inside of a token of its prompt, which no prompt for an answer ends with"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: the number of its turn, the rendering before it with the prompt for it, and that with it; each is an
    error where the template refuses it."""

    turn: int
    before: str | DataError
    whole: str | DataError

    def span(self, text: str) -> Span | None:
        """Where it stands in the rendering of all turns; None if that does not begin like its own."""
        if isinstance(self.before, DataError) or isinstance(self.whole, DataError):
            return None
        is_prefix = text.startswith(self.whole) and self.whole.startswith(self.before)
        return (len(self.before), len(self.whole)) if is_prefix else None


@dataclass(frozen=True, slots=True)
class Target:
    """Characters that the model writes, whose tokens are targets or are none."""

    span: Span
    has_loss: bool


def answer_targets(
    text: str, answers: Sequence[Answer], messages: Sequence[Message], train_on: TrainOn, special: re.Pattern[str]
) -> tuple[list[Target], tuple[str, ...]]:
    """The targets by difference, and notes.

    An answer whose prompt and whole are prefixes of the rendering of all turns is trained on. Others are not: the
    template writes them in another way once turns follow (Qwen3 leaves out what was thought). Raises DataError if the
    last answer is one of these, or if one without loss is where all else has loss.
    """
    found = []
    notes: tuple[str, ...] = ()
    for answer in answers:
        is_last = answer is answers[-1]
        weight = messages[answer.turn].weight
        span = answer.span(text)
        if span is None:
            if is_last or (train_on == "all" and not weight):
                raise DataError(_reason(answer))
            if weight and train_on == "assistant":
                notes = (*notes, REWRITTEN if answer.turn else UNASKED)
            continue
        has_loss = weight > 0 and (train_on != "last" or is_last)
        if train_on != "all":
            span = (span[0], _end(text, span, special))
        found.append(Target(span, has_loss))
    return found, notes


def generated_targets(
    spans: Sequence[Span], messages: Sequence[Message], train_on: TrainOn
) -> tuple[list[Target], tuple[str, ...]]:
    """The targets that a template marks; raises DataError if weights of turns cannot be told by them."""
    answers = [message for message in messages if message.role == ASSISTANT]
    weights = [message.weight for message in answers]
    if len(spans) != len(answers) and (train_on == "last" or 0 in weights):
        raise DataError(
            f"the chat template marks {len(spans)} generated parts for {len(answers)} answers, expected one for each "
            "where answers have weights or only the last is trained on."
        )
    if len(spans) != len(answers):
        weights = [1] * len(spans)
    last = len(spans) - 1
    return [
        Target(span, weight > 0 and (train_on != "last" or number == last))
        for number, (span, weight) in enumerate(zip(spans, weights, strict=True))
    ], ()


def _end(text: str, span: Span, special: re.Pattern[str]) -> int:
    """The end of an answer, after the token that ends it: space behind that is no target."""
    last = None
    for found in special.finditer(text, *span):
        last = found
    return last.end() if last is not None and not text[last.end() : span[1]].strip() else span[1]


def _reason(answer: Answer) -> str:
    for rendering in (answer.before, answer.whole):
        if isinstance(rendering, DataError):
            return f"turn {answer.turn + 1} is an answer that cannot be trained on: {rendering}"
    return (
        f"turn {answer.turn + 1} is an answer that cannot be trained on: the chat template writes it, or what stands "
        "before it, in another way once other turns follow; expected that the rendering of the turns up to an answer "
        "begins that of all turns."
    )
