"""A warm start of the reference: whole tensors, converted as a whole, without blocks or links to pieces."""

from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import Tensor

from counterpoint.config.schema import Config, InitFromConfig
from counterpoint.convert.folder import CONFIG_NAME, ModelFolder
from counterpoint.convert.tensors import from_ours, to_ours
from counterpoint.models.chain import Chain
from counterpoint.parallelize.blocks import whole_block
from counterpoint.plan.sizes import DecoderSizes, ModelSizes
from counterpoint.train.checkpoint import (
    STATE_FILE,
    StoredBlock,
    checkpoint_folder,
    list_checkpoints,
    read_blocks,
    stored_shapes,
)


def begin_with(config: Config, module: str, sizes: ModelSizes, chain: Chain) -> None:
    """Give a whole chain the values that `init_from` of its module names; what begins anew keeps its own."""
    init = config.modules[module].init_from
    if init is None:
        return
    values = chain.state_dict()
    path = Path(init.path)
    if (path / CONFIG_NAME).is_file():
        assert isinstance(sizes, DecoderSizes), "a Hugging Face folder holds a decoder"
        loaded = _converted(path, values, sizes, [name for name in values if _is_fresh(init, name)])
    else:
        loaded = _stored(path, init.module or module, values)
    with torch.no_grad():
        for name, tensor in values.items():
            if not _is_fresh(init, name):
                tensor.copy_(loaded[name])


def _converted(path: Path, values: dict[str, Tensor], sizes: DecoderSizes, fresh: list[str]) -> dict[str, Tensor]:
    folder = ModelFolder(path)
    family = folder.config["model_type"]
    theirs = from_ours(family, values, sizes, fresh) | {name: folder.read(name, None) for name in folder.shapes}
    return to_ours(family, theirs, sizes, fresh)


def _stored(path: Path, module: str, values: dict[str, Tensor]) -> dict[str, Tensor]:
    folder = path if (path / STATE_FILE).is_file() else checkpoint_folder(path, list_checkpoints(path)[-1])
    known = stored_shapes(folder)
    loaded = {name: tensor.clone() for name, tensor in values.items() if f"model/{module}.{name}" in known}
    blocks = {
        f"model/{module}.{name}": StoredBlock(whole_block(name, tuple(tensor.shape)), tensor)
        for name, tensor in loaded.items()
    }
    read_blocks(folder, blocks, group=None)
    return loaded


def _is_fresh(init: InitFromConfig, name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in init.fresh)
