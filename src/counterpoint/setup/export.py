"""From a run folder to the planned and proved export of one of its checkpoints."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from counterpoint.config.load import load_run_config
from counterpoint.config.run_files import CONFIG_FILE
from counterpoint.config.schema import Config, InitFromConfig
from counterpoint.convert.folder import CONFIG_NAME
from counterpoint.errors import CheckpointError, InputError
from counterpoint.hub.base import BaseFolder
from counterpoint.hub.contents import Contents, Outline, contents_of, index_of, meta_tensors
from counterpoint.hub.described import config_of
from counterpoint.hub.part import part_of
from counterpoint.hub.plan import ExportPlan, plan_export
from counterpoint.hub.proof import prove_export
from counterpoint.hub.write import DTYPES, Export
from counterpoint.section.problem import nearest, show
from counterpoint.setup.bases import Base, recorded_bases
from counterpoint.setup.plan import Models
from counterpoint.setup.run import build_models
from counterpoint.setup.warm_words import other_words
from counterpoint.train.state.checkpoint import OpenedCheckpoint, checkpoint_folder, list_checkpoints, open_checkpoint
from counterpoint.train.state.pieces import PieceReader

_WORDS = {str(dtype).removeprefix("torch."): word for word, dtype in DTYPES.items()}
_TOKENIZER = "tokenizer.json"
_ABOUT_WORDS = (
    "tokenizer", "special_tokens_map", "added_tokens", "vocab", "merges", "chat_template", "generation_config",
)  # fmt: skip
"""What names of files begin with that are about the words of a tokenizer."""
_REMEDY = "choose another checkpoint with --step"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """What is to be exported of a run, and to where; what is None follows from the run."""

    run: Path
    out: Path
    step: int | None = None
    dtype: str | None = None
    module: str | None = None
    base: Path | None = None


@final
@dataclass(frozen=True)
class Outgoing:
    """The planned and proved content of a folder, before any checkpoint is looked at."""

    plan: ExportPlan
    contents: Contents
    base: BaseFolder | None


def prepare_export(request: ExportRequest, processes: int) -> Export:
    """The export by so many processes, proved before a byte is written; raises InputError or ProofError."""
    config = _config(request.run)
    return export_of(config, build_models(config), request, processes)


def export_of(config: Config, models: Models, request: ExportRequest, processes: int) -> Export:
    """The same of a run whose config and models are known."""
    _check_out(request.out)
    opened = _opened(request)
    outgoing = outgoing_of(config, models, recorded_bases(request.run, inits_of(config)), request, processes)
    if outgoing.base is not None and outgoing.base.path.resolve() in request.out.resolve().parents:
        raise InputError(
            f"OUT: {request.out} is in the base {outgoing.base.path}, expected a folder outside of it; choose another"
        )
    _check_stored(opened, {name: models[name] for name in _modules(models, request.module)})
    return Export(
        outgoing.plan, outgoing.contents, outgoing.base, PieceReader(opened), request.out, opened.state.data_step
    )


def outgoing_of(
    config: Config, models: Models, bases: Mapping[str, Base], request: ExportRequest, processes: int
) -> Outgoing:
    """What a folder of these models holds and who writes what; raises InputError or ProofError."""
    names = _modules(models, request.module)
    chosen = {name: models[name] for name in names}
    outline = _outline(config, chosen, bases, request)
    contents = contents_of(outline, chosen, _dtype(request.dtype), may_leave_out=request.module is not None)
    plan = plan_export(contents.files, processes, contents.metadata)
    prove_export(plan, index_of(contents, outline, chosen), contents.linked)
    return Outgoing(plan, contents, outline.base)


def inits_of(config: Config) -> dict[str, InitFromConfig]:
    """What modules begin with, by module."""
    return {name: module.init_from for name, module in config.modules.items() if module.init_from is not None}


def _check_out(out: Path) -> None:
    """Raise InputError unless a folder can be created there."""
    if out.exists():
        raise InputError(f"OUT: {out} exists, expected a folder to create; choose another, or remove it")
    above = next(parent for parent in out.absolute().parents if parent.exists())
    if not above.is_dir():
        raise InputError(f"{above} is a file, expected a folder for {out}; correct the path")


def _config(run: Path) -> Config:
    if not (run / CONFIG_FILE).is_file():
        raise CheckpointError(f"{run}: no config.yaml, expected a run folder; give the run.dir of a training")
    return load_run_config(run / CONFIG_FILE)


def _opened(request: ExportRequest) -> OpenedCheckpoint:
    steps = list_checkpoints(request.run)
    if not steps or (request.step is not None and request.step not in steps):
        wanted = "checkpoint" if request.step is None else f"checkpoint of step {request.step}"
        raise CheckpointError(
            f"{request.run}: has no {wanted}, found steps {steps}; train first, or choose one of them"
        )
    opened = open_checkpoint(
        checkpoint_folder(request.run, steps[-1] if request.step is None else request.step), _REMEDY
    )
    opened.check_sizes()
    return opened


def _modules(models: Models, module: str | None) -> tuple[str, ...]:
    if module is not None and module not in models:
        alike = nearest(module, models)
        hint = f"expected one of {', '.join(models)}" if alike is None else f"expected {alike}"
        raise InputError(f"--module: got {show(module)}, {hint}, as the run's modules are called; correct it")
    return tuple(models) if module is None else (module,)


def _dtype(word: str | None) -> str | None:
    if word is not None and word not in _WORDS:
        raise InputError(f"--dtype: got {show(word)}, expected one of {', '.join(_WORDS)}; choose one or leave it out")
    return None if word is None else _WORDS[word]


def _outline(config: Config, models: Models, bases: Mapping[str, Base], request: ExportRequest) -> Outline:
    """What the folder is to be like: what the run began with, the base that is given, or a family's own config."""
    positions = config.data.sequence_tokens
    base = _base(models, bases, request)
    if base is None:
        (name, *others) = models
        if others:
            raise CheckpointError(
                f"{request.run}: its modules began with no folder, expected one that holds {' and '.join(models)}; "
                "name it with --base, or export modules one by one with --module"
            )
        tokenizer = {} if config.data.tokenizer is None else {_TOKENIZER: Path(config.data.tokenizer)}
        return Outline(config_of(name, models[name], positions), copied=tokenizer)
    if request.module is not None:
        outline = part_of(base, request.module, models[request.module], positions)
    else:
        outline = Outline.of(base)
    has_words = any(model.section.words for model in models.values())
    return replace(outline, copied=_with_own_words(outline.copied, config.data.tokenizer)) if has_words else outline


def _with_own_words(copied: Mapping[str, Path], tokenizer: str | None) -> dict[str, Path]:
    """The files of a base, but for those about its words where the run has others: then its tokenizer alone."""
    theirs = copied.get(_TOKENIZER)
    if tokenizer is None or theirs is None or not other_words(Path(tokenizer), theirs)[0]:
        return dict(copied)
    kept = {name: file for name, file in copied.items() if not name.startswith(_ABOUT_WORDS)}
    return {**kept, _TOKENIZER: Path(tokenizer)}


def _base(models: Models, bases: Mapping[str, Base], request: ExportRequest) -> BaseFolder | None:
    if request.base is not None:
        if not (request.base / CONFIG_NAME).is_file():
            raise CheckpointError(
                f"--base: {request.base} has no {CONFIG_NAME}, expected a Hugging Face folder; correct it"
            )
        return BaseFolder(request.base)
    found = {name: bases[name] for name in models if name in bases}
    if not found:
        return None
    first, *others = found
    different = next((name for name in others if found[name].path != found[first].path), None)
    if different is not None:
        raise CheckpointError(
            f"{request.run}: {first} began with {found[first].path} and {different} with {found[different].path}, "
            "expected one folder that holds all modules; name it with --base, or export modules one by one with "
            "--module"
        )
    return found[first].open()


def _check_stored(opened: OpenedCheckpoint, models: Models) -> None:
    """Raise CheckpointError unless the checkpoint holds all tensors of the models, with their shapes."""
    stored = opened.shapes
    for module, model in models.items():
        for name, tensor in meta_tensors(model).items():
            key = f"model/{module}.{name}"
            if stored.get(key) != tuple(tensor.shape):
                raise CheckpointError(
                    f"{opened.folder}: {key} has the shape {stored.get(key)}, expected {tuple(tensor.shape)}, as "
                    f"{CONFIG_FILE} of the run says; restore that file, or choose another checkpoint with --step"
                )
