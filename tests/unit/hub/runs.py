"""Run folders with one checkpoint, made in this process: what a training writes that an export reads."""

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from counterpoint.config.load import dump_config
from counterpoint.config.schema import Config
from counterpoint.hub.claim import claim
from counterpoint.hub.contents import meta_tensors
from counterpoint.hub.write import _begin, _publish, _write_share
from counterpoint.setup.bases import record_bases
from counterpoint.setup.export import ExportRequest, prepare_export
from counterpoint.setup.run import build_models
from tests.unit.train.state.checkpoints import blocks, state_of, writer

STEP = 2
Modules = Mapping[str, Mapping[str, Tensor]]


def write_run(config: Config, modules: Modules) -> Path:
    """A run folder with a checkpoint in several files; what `modules` lack of the config's has random values."""
    run = Path(config.run.dir)
    run.mkdir(parents=True, exist_ok=True)
    (run / "config.yaml").write_text(dump_config(config))
    record_bases(run, config)
    generator = torch.Generator().manual_seed(1)
    tensors: dict[str, Tensor] = {}
    for module, model in build_models(config).items():
        for name, meta in meta_tensors(model).items():
            given = modules.get(module, {}).get(name)
            drawn = torch.rand(meta.shape, generator=generator, dtype=torch.float64)
            tensors[f"model/{module}.{name}"] = drawn if given is None else given.contiguous()
    writer(run).write(blocks(tensors), state_of(STEP))
    return run


def export_here(request: ExportRequest, processes: int = 1) -> Path:
    """The folder that so many processes write, one after another in this one."""
    for process in range(processes):
        export = prepare_export(request, processes)
        if process == 0:
            os.close(claim(export.partial))
            _begin(export)
        _write_share(export, process)
        export.reader.close()
    _publish(export)
    return export.out
