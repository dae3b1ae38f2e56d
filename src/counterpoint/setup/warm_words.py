"""Whether a run's tokenizer is the one whose words a module begins with."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from counterpoint.config.load import read_run_config
from counterpoint.config.run_files import CONFIG_FILE
from counterpoint.config.schema import Config
from counterpoint.data.text.tokenizer import Tokenizer
from counterpoint.errors import ConfigError, DataError
from counterpoint.section.problem import Problem, show
from counterpoint.train.warm.folders import FolderKind, checkpoint_at, kind_of

_WORDS = "embed.weight"
_FILE = "tokenizer.json"
_MOST_RENAMED = 0.01


def check_words(config: Config) -> None:
    """Raise ConfigError if rows of a table of words that is loaded were other words where it is from.

    A few may be, and all that were added to a tokenizer: reserved words get names.
    """
    if config.data.tokenizer is None:
        return
    for name, file in _files(config):
        others, shared = other_words(Path(config.data.tokenizer), file)
        if others:
            where = f"modules.{name}.init_from"
            expected = f"the tokenizer of {where}, {file}, in which {others} of {shared} numbers are other words"
            remedy = f"prepare the data with that one, or name {_WORDS} and head.weight in {where}.fresh"
            raise ConfigError(str(Problem("data.tokenizer", show(config.data.tokenizer), expected, remedy)))


def other_words(one: Path, other: Path) -> tuple[int, int]:
    """How many of the numbers that two tokenizers share are other words, 0 for a few; and how many they share."""
    if not one.is_file() or one.read_bytes() == other.read_bytes():
        return 0, 0
    ours, theirs = _by_number(one), _by_number(other)
    shared = ours.keys() & theirs.keys()
    others = sum(ours[number] != theirs[number] for number in shared)
    return others if others > _MOST_RENAMED * len(shared) else 0, len(shared)


def _files(config: Config) -> Iterator[tuple[str, Path]]:
    """The tokenizers that come with what modules load words from, by module, as far as they are there."""
    for name, module in config.modules.items():
        init = module.init_from
        if init is None or not module.model.words or any(fnmatchcase(_WORDS, pattern) for pattern in init.fresh):
            continue
        file = _beside(Path(init.path))
        if file is not None and file.is_file():
            yield name, file


def _beside(path: Path) -> Path | None:
    """The tokenizer that a folder came with."""
    kind = kind_of(path)
    if kind is FolderKind.HUB:
        return path / _FILE
    if kind in (FolderKind.RUN, FolderKind.CHECKPOINT):
        try:
            given = read_run_config(checkpoint_at(path).run / CONFIG_FILE).data.tokenizer
        except ConfigError:
            return None
        return None if given is None else Path(given)
    return None


def _by_number(file: Path) -> dict[int, str]:
    """The words that were not added to a tokenizer, by their numbers; none of a file that cannot be read, which nothing
    else needs."""
    try:
        backend = Tokenizer.load(file).backend
    except DataError:
        return {}
    added = backend.get_added_tokens_decoder()
    words = backend.get_vocab(with_added_tokens=False)
    return {number: word for word, number in words.items() if number not in added}
