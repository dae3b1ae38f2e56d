"""The tokenizer: a `tokenizers` file with its special tokens named, and how a small one is trained."""

import hashlib
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers

from counterpoint.data.text.text_backend import special_ids, text_backend, unknown_id
from counterpoint.errors import DataError

BOS, EOS, PAD = "<bos>", "<eos>", "<pad>"
BOS_NAMES = (BOS, "<s>", "<|begin_of_text|>", "[BOS]")
EOS_NAMES = (
    EOS, "</s>", "<|end_of_text|>", "[EOS]", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<end_of_turn>", "<|end|>",
    "<|return|>",
)  # fmt: skip
PAD_NAMES = (PAD, "[PAD]", "<|pad|>", "<|finetune_right_pad_id|>")


@dataclass(frozen=True)
class Tokenizer:
    """Text to ids and back; `bos` and `pad` are None where the file has none."""

    backend: Backend
    digest: str
    eos: int
    bos: int | None
    pad: int | None

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """Read a `tokenizer.json`; raises DataError if it is missing, malformed or without an end token."""
        try:
            text = path.read_bytes()
        except OSError as error:
            raise DataError(
                f"tokenizer {path}: the file cannot be read ({error.strerror}); run `counterpoint prepare` "
                "or correct the path."
            ) from error
        try:
            backend = Backend.from_buffer(text)
        except Exception as error:  # The library raises plain Exception for every malformed file.
            raise DataError(f"tokenizer {path}: not a tokenizers file ({error}); expected tokenizer.json.") from error
        eos = _first_id(backend, EOS_NAMES)
        if eos is None:
            raise DataError(
                f"tokenizer {path}: no end-of-sequence token; expected one of {', '.join(EOS_NAMES)}; "
                "add one to the file's added_tokens."
            )
        digest = hashlib.sha256(text).hexdigest()
        return cls(backend, digest, eos, _first_id(backend, BOS_NAMES), _first_id(backend, PAD_NAMES))

    @property
    def vocabulary(self) -> int:
        """The largest id plus one, special tokens included; ids may have holes."""
        return 1 + max(self.backend.get_vocab(with_added_tokens=True).values())

    @property
    def start(self) -> list[int]:
        """The ids that every document begins with: the begin token, or nothing where there is none."""
        return [] if self.bos is None else [self.bos]

    def encode(self, text: str) -> list[int]:
        """Ids of a text, none of them a special token, whatever it spells; raises DataError for a lone surrogate."""
        check_text(text)
        ids = list(self._text_backend.encode(text, add_special_tokens=False).ids)
        if not self._never.isdisjoint(ids):
            raise DataError("the text holds the code points U+FDD0 and U+FDD1 around the number of a special token.")
        return ids

    def is_special(self, token: int) -> bool:
        """Whether only a chat format may write a token."""
        return token in self._special

    @cached_property
    def _special(self) -> frozenset[int]:
        return special_ids(self.backend, {number for number in (self.bos, self.eos, self.pad) if number is not None})

    @cached_property
    def _never(self) -> frozenset[int]:
        return self._special - {unknown_id(self.backend)}

    @cached_property
    def _text_backend(self) -> Backend:
        return text_backend(self.backend, self._special)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; special tokens are left out."""
        return self.backend.decode(list(ids), skip_special_tokens=True)


def check_text(text: str) -> None:
    """Raise DataError for text with half of a surrogate pair alone."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"the text holds a lone surrogate {text[error.start]!r}, expected whole characters; correct its encoding."
        ) from None


def copy_tokenizer(given: Path, path: Path) -> Tokenizer:
    """Load the tokenizer of a file and copy the file to `path`; raises DataError as `Tokenizer.load` does."""
    tokenizer = Tokenizer.load(given)
    shutil.copyfile(given, path)
    return tokenizer


def train_tokenizer(texts: Iterable[str], vocabulary: int, path: Path) -> Tokenizer:
    """Train byte-level BPE (Sennrich et al. 2016) of at most `vocabulary` ids and save it to `path`."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    backend.save(str(path))
    return Tokenizer.load(path)


def _first_id(backend: Backend, names: tuple[str, ...]) -> int | None:
    ids = (backend.token_to_id(name) for name in names)
    return next((number for number in ids if number is not None), None)
