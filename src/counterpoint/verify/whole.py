"""A warm start of the reference: whole tensors, converted as a whole, without blocks or links to pieces."""

from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import Tensor

from counterpoint.config.schema import Config, InitFromConfig
from counterpoint.convert.composite import CompositeModel
from counterpoint.convert.folder import ModelFolder
from counterpoint.convert.found import model_in
from counterpoint.kinds.family import Model
from counterpoint.models.chain import Chain
from counterpoint.parallelize.blocks import whole_block
from counterpoint.train.state.checkpoint import open_checkpoint, read_blocks
from counterpoint.train.state.stored_block import StoredBlock
from counterpoint.train.warm.folders import FolderKind, checkpoint_at, kind_of
from counterpoint.train.warm.megatron import EncoderTensors, open_encoder


def begin_with(config: Config, module: str, model: Model, chain: Chain) -> None:
    """Give a whole chain the values that its module's `init_from` names; reinitialised parameters keep their own."""
    init = config.modules[module].init_from
    if init is None:
        return
    values = chain.state_dict()
    path = Path(init.path)
    kind = kind_of(path)
    if kind in (FolderKind.RUN, FolderKind.CHECKPOINT):
        loaded = _stored(checkpoint_at(path).folder, init.module or module, values)
    elif kind is FolderKind.FOREIGN:
        loaded = _converted(*open_encoder(f"modules.{module}.init_from", init, model.section), model)
    else:
        folder = ModelFolder(path)
        loaded = _converted(folder, model_in(folder)[0], model)
    with torch.no_grad():
        for name, tensor in values.items():
            if not _is_fresh(init, name):
                tensor.copy_(loaded[name])


def _converted(folder: ModelFolder | EncoderTensors, whole: CompositeModel, model: Model) -> dict[str, Tensor]:
    """Our tensors, for the model's kind, whose sources are all in the folder."""
    theirs = {whole.spell(name): folder.read(name, None) for name in folder.shapes}
    stored = next(stored for stored in whole.modules.values() if stored.model.section.kind == model.section.kind)
    return {
        name: tensor
        for link in stored.links
        if theirs.keys() >= set(link.theirs)
        for name, tensor in zip(link.ours, link.to_ours([theirs[n] for n in link.theirs]), strict=True)
    }


def _stored(folder: Path, module: str, values: dict[str, Tensor]) -> dict[str, Tensor]:
    opened = open_checkpoint(folder)
    known = opened.shapes
    loaded = {name: tensor.clone() for name, tensor in values.items() if f"model/{module}.{name}" in known}
    blocks = {
        f"model/{module}.{name}": StoredBlock(whole_block(name, tuple(tensor.shape)), tensor)
        for name, tensor in loaded.items()
    }
    read_blocks(opened, blocks, tree=None)
    return loaded


def _is_fresh(init: InitFromConfig, name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in init.fresh)
