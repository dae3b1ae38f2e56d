"""Weights in and out: seconds, peak memory and bytes of each rank, for a decoder of 1.1 billion parameters on disk.

    python benchmarks/weights.py FOLDER [--ranks 2] [--layers 22] [--json FILE]

Writes a random Llama in bfloat16 (two files of tensors), starts a run on dp ranks from it (float32 masters), saves a
checkpoint and exports it. `import` is the warm start of the ranks, `export` what `counterpoint export` does. Peak
memory is the largest resident set of a process beyond what it had when the work began. FOLDER is created and removed.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from counterpoint.config.load import dump_config, load_config
from counterpoint.config.schema import Config
from counterpoint.config.training import WatchdogConfig
from counterpoint.convert.composite import composite_of
from counterpoint.convert.folder import ModelFolder
from counterpoint.convert.links import Place, their_tensors
from counterpoint.convert.modules import kept_tensors
from counterpoint.execute.groups import make_groups, tree_of_all
from counterpoint.execute.session import open_session
from counterpoint.hub.write import write_export
from counterpoint.launch import launch_local
from counterpoint.setup.bases import record_bases
from counterpoint.setup.export import ExportRequest, prepare_export
from counterpoint.setup.rank import saver_of, settings_of
from counterpoint.setup.run import prepare_run
from counterpoint.train.engine import Engine

STEP = 1


def main() -> None:
    """Measure and print, and write the figures where --json says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--layers", type=int, default=22)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    folder: Path = given.folder
    folder.mkdir(parents=True)
    try:
        parameters = _write_model(folder / "model", given.layers)
        config = _config(folder, given.layers, given.ranks)
        _begin(config)
        results = {
            "machine": f"{os.cpu_count()} cores, {platform.platform()}, torch {torch.__version__}",
            "load_average": os.getloadavg()[0],
            "parameters": parameters,
            "import": _on_ranks(given.ranks, _import, config, folder),
        }
        for ranks in sorted({1, given.ranks}):
            request = ExportRequest(run=folder / "run", out=folder / f"out-{ranks}")
            results[f"export by {ranks}"] = _on_ranks(ranks, _export, request, folder)
        results["bytes are the base's"] = _are_equal(folder / "model", folder / f"out-{given.ranks}")
        print(json.dumps(results, indent=1))
        if given.json is not None:
            given.json.write_text(f"{json.dumps(results, indent=1)}\n")
    finally:
        shutil.rmtree(folder)


def _write_model(folder: Path, layers: int) -> int:
    """A Llama of TinyLlama's sizes in two files; returns its number of parameters."""
    folder.mkdir()
    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 2048, "intermediate_size": 5632,
        "num_hidden_layers": layers, "num_attention_heads": 32, "num_key_value_heads": 4, "vocab_size": 32000,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (stored,) = composite_of(config).modules.values()
    shapes = {name: tensor.shape for name, tensor in their_tensors(stored.links, kept_tensors(stored)).items()}
    names, weight_map = sorted(shapes), dict[str, str]()
    generator = torch.Generator().manual_seed(0)
    for number, some in enumerate((names[: len(names) // 2], names[len(names) // 2 :]), start=1):
        file = f"model-{number:05d}-of-00002.safetensors"
        tensors = {name: torch.randn(shapes[name], generator=generator).bfloat16() for name in some}
        save_file(tensors, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(some, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return sum(shape.numel() for shape in shapes.values())


def _config(folder: Path, layers: int, ranks: int) -> Config:
    model = {
        "kind": "decoder", "pattern": "*-" * layers, "hidden": 2048, "heads": 32, "kv_heads": 4, "ffn": 5632,
        "vocab": 32000, "tied": False, "norm_eps": 1e-5,
    }  # fmt: skip
    synthetic = {"documents": 8, "text_tokens": {"kind": "constant", "value": 8}}
    module = {
        "model": model, "layout": {"ranks": list(range(ranks))}, "init_from": str(folder / "model"),
        "train": ["norm.weight"], "optimizer": {"lr": 1e-3},
    }  # fmt: skip
    return load_config({
        "run": {"dir": str(folder / "run"), "device": "cpu"}, "world": {"size": ranks}, "modules": {"language": module},
        "data": {"train": [{"synthetic": synthetic}], "sequence_tokens": 64},
        "training": {"steps": 1, "global_batch_samples": 2 * ranks}, "schedule": {"microbatches": 1},
    })  # fmt: skip


def _begin(config: Config) -> None:
    run = Path(config.run.dir)
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(dump_config(config))
    record_bases(run, config)


def _on_ranks(ranks: int, work: Callable[..., None], what: Config | ExportRequest, folder: Path) -> list[Any]:
    """What each rank measured."""
    started = time.perf_counter()
    launch_local(ranks, work, (what, ranks, folder), folder / "error.json")
    found = [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(ranks)]
    return [one | {"seconds with the start of processes": round(time.perf_counter() - started, 1)} for one in found]


def _say(folder: Path, **figures: object) -> None:
    (folder / f"rank-{os.environ['RANK']}.json").write_text(json.dumps(figures))


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _import(config: Config, ranks: int, folder: Path) -> None:
    """Start warm and save; the share of the model that a rank holds is part of its memory."""
    read = _CountedReads()
    with open_session("cpu", folder, WatchdogConfig(startup_seconds=3000.0)) as session:
        plan, models, _corpus = prepare_run(config)
        groups = make_groups(session.world, plan.communicators, plan.placement.active)
        engine = Engine(settings_of(config), plan, models, groups, observers=())
        saver = saver_of(config, models, groups)
        before, started = _peak_gb(), time.perf_counter()
        saver.resume(engine)
        seconds, after = time.perf_counter() - started, _peak_gb()
        saver.save(engine, STEP, ())
        saver.finish()
        _say(
            folder, seconds=round(seconds, 1), peak_gb_before=round(before, 2), peak_gb_after=round(after, 2),
            read_gb=round(read.count / 1e9, 3), held_gb=round(_held(engine) / 1e9, 3), ranks=ranks,
        )  # fmt: skip
        engine.close()


def _held(engine: Engine) -> int:
    return sum(one.block.numel * one.value.element_size() for one in engine.held)


class _CountedReads:
    """Counts the bytes that are read of folders in this process from now on."""

    def __init__(self) -> None:
        self.count = 0
        plain = ModelFolder.read

        def read(folder: ModelFolder, name: str, place: Place | None) -> torch.Tensor:
            piece = plain(folder, name, place)
            self.count += piece.nbytes
            return piece

        ModelFolder.read = read  # type: ignore[method-assign, assignment]


def _export(request: ExportRequest, ranks: int, folder: Path) -> None:
    with open_session("cpu", folder, WatchdogConfig(startup_seconds=3000.0)) as session:
        before, started = _peak_gb(), time.perf_counter()
        export = prepare_export(request, ranks)
        rank = session.world.rank
        write_export(export, rank, tree_of_all(session.world))
        _say(
            folder, seconds=round(time.perf_counter() - started, 1), peak_gb_before=round(before, 2),
            peak_gb_after=round(_peak_gb(), 2), written_gb=round(export.plan.share_bytes(rank) / 1e9, 3),
            read_gb=round(export.reader.read_bytes / 1e9, 3), digested_gb=round(export.reader.verified_bytes / 1e9, 3),
        )  # fmt: skip


def _are_equal(base: Path, out: Path) -> bool:
    """Whether all tensors have the bytes of the base's: the step has not been taken, so none has changed."""
    one, other = ModelFolder(base), ModelFolder(out)
    return one.shapes == other.shapes and all(
        torch.equal(one.read(name, None).view(torch.int16), other.read(name, None).view(torch.int16))
        for name in one.shapes
    )


if __name__ == "__main__":
    main()
