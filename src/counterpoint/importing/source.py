"""What is imported: a Hugging Face folder, or its config.json alone, and what its files hold."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import prod
from pathlib import Path
from typing import Any, final

from counterpoint.convert.composite import CompositeModel, as_of_today, composite_of
from counterpoint.convert.folder import CONFIG_NAME, INDEX_NAME, ModelFolder, read_object
from counterpoint.convert.found import model_in
from counterpoint.convert.kind import kind_of_config
from counterpoint.data.text.tokenizer_folder import TOKENIZER_FILE
from counterpoint.errors import InputError

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_ADAPTER = "adapter_config.json"


@final
@dataclass(frozen=True, slots=True)
class Source:
    """A `folder`, None where only a config.json was named; `weights` where it has any. Nothing in it is executed."""

    path: Path
    folder: Path | None
    config: Mapping[str, Any]
    whole: CompositeModel
    weights: ModelFolder | None

    @classmethod
    def open(cls, path: Path) -> "Source":
        """Read a folder, or a file that is a config.json; raises InputError or CheckpointError in one sentence."""
        if not path.exists():
            raise InputError(f"{path}: no such folder, expected one with a {CONFIG_NAME}; correct the path")
        folder = path if path.is_dir() else None
        file = path / CONFIG_NAME if folder else path
        if folder and not file.is_file():
            raise InputError(f"{path}: has no {CONFIG_NAME}, expected a model's folder; {_remedy(path)}")
        config = as_of_today(read_object(file))
        has_weights = folder is not None and any(next(folder.glob(one), None) is not None for one in _WEIGHTS)
        weights = ModelFolder(folder) if folder is not None and has_weights else None
        # Tensors say whether a head is tied; they also have more than one shape.
        whole = composite_of(config, str(file)) if weights is None else model_in(weights)[0]
        return cls(path, folder, config, whole, weights)

    @property
    def name(self) -> str:
        """The folder's name, in letters that a path may have."""
        stem = (self.path if self.folder else self.path.absolute().parent).absolute().name
        return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in stem).strip(".") or "model"

    @property
    def kind(self) -> str:
        """The kind of model, as transformers calls it."""
        kind = kind_of_config(self.config)
        assert kind is not None, "a folder without a kind is refused"
        return kind

    @property
    def dtype(self) -> str | None:
        """The data type that config.json states, None if it states none."""
        for key in ("dtype", "torch_dtype"):
            places = (self.config, self.config.get("text_config"))
            for place in places:
                if isinstance(place, Mapping) and isinstance(place.get(key), str):
                    return str(place[key]).removeprefix("torch.")
        return None

    def text_key(self, key: str) -> object:
        """A key of the language model, wherever it stands; None if it is left out."""
        section = self.config.get("text_config")
        value = section.get(key) if isinstance(section, Mapping) else None
        return self.config.get(key) if value is None else value

    @property
    def tokenizer(self) -> Path | None:
        """The folder's tokenizer.json, if it has one."""
        file = None if self.folder is None else self.folder / TOKENIZER_FILE
        return file if file is not None and file.is_file() else None


@final
@dataclass(frozen=True, slots=True)
class Counts:
    """Parameters of the files: of each module, of all tensors, and of those that are not read, by pattern."""

    modules: Mapping[str, int]
    total: int
    unread: Mapping[str, tuple[int, int]]
    """By pattern: tensors and parameters."""


def counts_of(whole: CompositeModel, weights: ModelFolder) -> Counts:
    """What lies in a folder's files."""
    sizes = {name: prod(shape) for name, shape in weights.shapes.items()}
    spelled = {whole.spell(name): name for name in sizes}
    modules = {
        name: sum(sizes[spelled[one]] for one in _names(stored.links) if one in spelled)
        for name, stored in whole.modules.items()
    }
    read = {name for stored in whole.modules.values() for name in _names(stored.links)}
    unread: dict[str, tuple[int, int]] = {}
    for name, found in spelled.items():
        pattern = next((pattern for pattern in whole.unused if fnmatchcase(name, pattern)), None)
        if name not in read and pattern is not None:
            tensors, parameters = unread.get(pattern, (0, 0))
            unread[pattern] = tensors + 1, parameters + sizes[found]
    return Counts(modules, sum(sizes.values()), unread)


def stated_total(weights: ModelFolder) -> int | None:
    """The number of parameters that a folder's index states, if it states one."""
    file = weights.path / INDEX_NAME
    if not file.is_file():
        return None
    metadata = read_object(file).get("metadata")
    total = metadata.get("total_parameters") if isinstance(metadata, Mapping) else None
    return total if isinstance(total, int) and not isinstance(total, bool) else None


def stated_bytes(weights: ModelFolder) -> int | None:
    """The number of bytes of tensors that a folder's index states, if it states one."""
    file = weights.path / INDEX_NAME
    if not file.is_file():
        return None
    metadata = read_object(file).get("metadata")
    total = metadata.get("total_size") if isinstance(metadata, Mapping) else None
    return int(total) if isinstance(total, int | float) and not isinstance(total, bool) else None


def _names(links: Any) -> list[str]:
    return [name for link in links for name in link.theirs]


def _remedy(folder: Path) -> str:
    if (folder / _ADAPTER).is_file():
        return f"its {_ADAPTER} is of an adapter alone, merge that into its model and save it"
    below = sorted(one.parent.name for one in folder.glob(f"*/{CONFIG_NAME}"))
    return f"choose one below it, such as {below[0]}" if below else "choose the folder that save_pretrained wrote"
