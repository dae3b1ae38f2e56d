"""The command `import`: a Hugging Face folder becomes the YAML of a whole run, planned and proved."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, final

from counterpoint.config.load import load_config
from counterpoint.config.schema import ModuleConfig
from counterpoint.config.yaml_text import parse_yaml
from counterpoint.convert.composite import LANGUAGE, VISION, Stored
from counterpoint.convert.defaults import read_defaults
from counterpoint.errors import CheckpointError, InputError
from counterpoint.families import FAMILIES, facts_of
from counterpoint.importing.items import Items, items_of
from counterpoint.importing.keys import Key, text_of
from counterpoint.importing.layout import Layouts, layouts_of, parameters_of
from counterpoint.importing.modules import module_keys
from counterpoint.importing.source import Counts, Source, counts_of, stated_bytes, stated_total
from counterpoint.setup.run import check_data, prepare_run
from counterpoint.setup.settle import settle_items
from counterpoint.setup.warm_starts import check_values

MEMORY_GIB = 80.0
"""Of a rank, unless another is said: that of many GPUs."""

_TOKENS = 2048
_TEXT_TOKENS = 512
_MICROBATCHES = 2
_COMPUTED = {"bfloat16": "bfloat16", "float16": "bfloat16", "float32": "float32", "float64": "float64"}


@final
@dataclass(frozen=True, slots=True)
class ImportedModel:
    """The YAML `text` of a run, and a `summary` in lines.

    `is_whole` is whether it is a whole run; a folder with an encoder alone is the part `modules` of one.
    """

    text: str
    summary: tuple[str, ...]
    is_whole: bool

    def write(self, file: Path, *, force: bool = False) -> None:
        """Write the text to a file, which must not exist unless `force`; raises InputError."""
        if file.exists() and not force:
            raise InputError(f"{file}: already exists, expected a new file; choose another, or add --force")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(self.text, encoding="utf-8")
        except OSError as error:
            raise InputError(f"{file}: cannot be written ({error.strerror}); choose another file") from None


def import_model(path: str | Path, *, world_size: int = 1, memory_gib: float = MEMORY_GIB) -> ImportedModel:
    """A run of the model in a Hugging Face folder, or in a config.json alone, on `world_size` ranks.

    The layout is for ranks with `memory_gib` of memory. The config is loaded, its plan proved, and every tensor's name
    and shape compared with the files' headers before this returns. Raises InputError for a folder, file or key that
    cannot be read or converted; nothing in the folder is executed.
    """
    if world_size < 1 or not memory_gib > 0:
        raise InputError(
            f"--world-size {world_size}, --memory {memory_gib:g}: expected a rank or more, with memory; correct them"
        )
    source = Source.open(Path(path))
    modules = source.whole.modules
    items = {name: items_of(name, stored, source) for name, stored in modules.items() if name != LANGUAGE}
    counts = None if source.weights is None else counts_of(source.whole, source.weights)
    facts = {name: facts_of(stored.model) for name, stored in modules.items()}
    if LANGUAGE not in modules:
        text = text_of(tuple(_heading(source, None)), [_modules(source, items, None)])
        _check_part(text)
        return ImportedModel(text, tuple(_summary(source, counts, _parameters(modules), None)), is_whole=False)
    layouts = layouts_of(facts, {name: one.model for name, one in modules.items()}, world_size, memory_gib)
    text = text_of(tuple(_heading(source, layouts)), list(_run(source, items, layouts, world_size)))
    _check_run(text, source)
    return ImportedModel(text, tuple(_summary(source, counts, _parameters(modules), layouts)), is_whole=True)


def _parameters(modules: Mapping[str, Stored]) -> dict[str, int]:
    return {name: parameters_of(facts_of(stored.model)) for name, stored in modules.items()}


def _heading(source: Source, layouts: Layouts | None) -> Iterator[str]:
    version = read_defaults().transformers
    yield f"{source.name}, a {source.kind}, as `counterpoint import` read it."
    yield f"Keys of model follow from config.json; what it leaves out is what transformers {version} takes for it."
    if source.weights is None:
        yield "There were no weights: add init_from: FOLDER to each module to start from trained ones."
    if layouts is None:
        yield "This is a part of a run: it has no language model. Add it below modules of one, and an edge to that:"
        yield from (f"  edges: [{{{edge}}}]" for edge in _edges_to_add(source))
        return
    yield "Not from the folder, so yours to choose: optimizer, schedule, data, training, and the layouts:"
    yield from (f"  {line}" for line in layouts.why)


def _edges_to_add(source: Source) -> Iterator[str]:
    """The edge of each module to a language model that is not there, in words."""
    for name, stored in source.whole.modules.items():
        taps = stored.model.ends.taps
        depths = ", ".join(f"{{after: {layer}, into: LAYER}}" for layer in taps)
        yield f"source: {name}, target: language" + (f", depths: [{depths}]" if taps else "")


def _run(source: Source, items: Mapping[str, Items], layouts: Layouts, ranks: int) -> Iterator[Key]:
    yield Key("schema", 1)
    yield Key("run", {"dir": f"runs/{source.name}"})
    yield Key("world", {"size": ranks})
    yield _modules(source, items, layouts)
    edges = [_edge(name, source) for name in source.whole.modules if name != LANGUAGE]
    if edges:
        deep = "depths from config.json: features of a tower's layers join the text" if source.whole.depths else ""
        yield Key("edges", edges, deep)
    yield Key("schedule", {"kind": "1f1b", "microbatches": _MICROBATCHES})
    tokens = _sequence_tokens(source, items)
    yield Key("data", below=tuple(_data(source, items, tokens)))
    samples = _MICROBATCHES * 2 * ranks
    yield Key("training", below=tuple(_training(source, samples)))


def _modules(source: Source, items: Mapping[str, Items], layouts: Layouts | None) -> Key:
    found = []
    for name, stored in source.whole.modules.items():
        layout = {"ranks": [0]} if layouts is None else layouts.sections[name]
        recompute = layouts is not None and layouts.recompute
        entering = items[name].section if name in items else None
        found.append(module_keys(stored, source, entering, layout, recompute)._replace(name=name))
    return Key("modules", below=tuple(found))


def _edge(name: str, source: Source) -> dict[str, Any]:
    edge: dict[str, Any] = {"source": name, "target": LANGUAGE}
    if name == VISION and source.whole.depths:
        edge["depths"] = [{"after": after, "into": into} for after, into in source.whole.depths]
    return edge


def _sequence_tokens(source: Source, items: Mapping[str, Items]) -> int:
    """Tokens of the longest sequence: the usual number, more for large items, less where the model takes fewer."""
    needed = 2 * sum(one.rows for one in items.values()) + 32
    most = source.text_key("max_position_embeddings")
    least = max(_TOKENS, 1 << (needed + _TEXT_TOKENS - 1).bit_length() if items else 0)
    if isinstance(most, int) and not isinstance(most, bool) and needed <= most < least:
        return most
    return least


def _data(source: Source, items: Mapping[str, Items], tokens: int) -> Iterator[Key]:
    longest = max(min(_TEXT_TOKENS, tokens - 2 * sum(one.rows for one in items.values())), 2)
    synthetic: dict[str, Any] = {
        "documents": 4096,
        "text_tokens": {"kind": "uniform", "low": max(longest // 8, 1), "high": longest},
    }
    for one in items.values():
        synthetic |= one.synthetic
    words = source.tokenizer or "TOKENIZER.json"
    yours = f"counterpoint prepare FOLDER data/mine --tokenizer {words}, then train: [{{path: data/mine}}]"
    recipe = Key("synthetic", below=tuple(Key(*one) for one in synthetic.items()), is_item=True)
    yield Key("train", comment=f"Random documents, to try it with. For yours: {yours}", below=(recipe,))
    if source.tokenizer is not None:
        yield Key("tokenizer", str(source.tokenizer))
    yield Key("sequence_tokens", tokens)


def _training(source: Source, samples: int) -> Iterator[Key]:
    yield Key("steps", 100)
    yield Key("global_batch_samples", samples)
    stated = source.dtype
    computed = _COMPUTED.get(stated or "float32")
    if computed is None:
        raise CheckpointError(
            f"{source.path}: config.json says dtype: {stated}, but only {', '.join(_COMPUTED)} can be trained; save "
            "the model in one of them"
        )
    if computed == "float64":
        yield Key("precision", {"parameters": computed, "compute": computed, "reduce": computed}, f"stored in {stated}")
    elif computed == "bfloat16":
        precision = {"parameters": "float32", "compute": computed, "reduce": "float32"}
        yield Key("precision", precision, f"stored in {stated}; masters are float32")


def _check_run(text: str, source: Source) -> None:
    """Load, plan and prove what was written, and compare it with the folder's tensors."""
    config = settle_items(load_config(parse_yaml(text)))
    setup = prepare_run(config)
    check_data(config, setup.corpus)
    if source.weights is not None:
        check_values(config, setup.models)


def _check_part(text: str) -> None:
    for module in parse_yaml(text)["modules"].values():
        ModuleConfig.model_validate(module)


def _summary(source: Source, counts: Counts | None, ours: Mapping[str, int], layouts: Layouts | None) -> Iterator[str]:
    stated = f", stored in {source.dtype}" if source.dtype else ""
    yield f"{source.path}: {source.kind}{stated}"
    for name, stored in source.whole.modules.items():
        number = ours[name] if counts is None else counts.modules[name]
        if counts is None and stored.adds_projector:
            number -= _projector_of(stored)
        section = stored.model.section
        yield f"  {name}: {FAMILIES[section.kind].called}, {section.num_layers} layers, {number:,} parameters"
    if counts is None:
        yield "  no weights: the parameters are those of config.json's sizes, without tensors that are not read here"
    else:
        yield from _accounts(source, counts)
    if layouts is None:
        yield "  a part of a run: it has no language model; add it below modules of one"
    else:
        yield from (f"  {line}" for line in layouts.why)


def _projector_of(stored: Stored) -> int:
    """Parameters of a projector that the folder does not have."""
    parts = facts_of(stored.model).parts
    return sum(prod(shape) for part in parts if part.name == "projector" for _name, shape in part.tensors)


def _accounts(source: Source, counts: Counts) -> Iterator[str]:
    """Parameters of the files, and what of them is not read."""
    assert source.weights is not None
    yield f"  in the files: {counts.total:,} parameters"
    # It counts no buffers and no head that is tied, so that files may hold more than it states.
    stated = stated_total(source.weights)
    if stated is not None and stated > counts.total:
        yield f"  the index states {stated:,} parameters, {stated - counts.total:,} more than the files hold"
    stated_size, size = stated_bytes(source.weights), source.weights.num_bytes
    if stated_size is not None and stated_size != size:
        yield f"  the index states {stated_size:,} bytes, the files hold {size:,}"
    for pattern, (tensors, parameters) in counts.unread.items():
        plural = "tensor" if tensors == 1 else "tensors"
        yield f"  not read: {pattern}, {tensors} {plural}, {parameters:,} parameters: no row that is trained needs it"
