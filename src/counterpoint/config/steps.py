"""How a step is run: schedules, what is trained and what is computed again, checked against the modules."""

from collections.abc import Iterator
from pathlib import Path

from counterpoint.config.graph import unreached
from counterpoint.config.schema import Config, ModuleConfig, ScheduleConfig
from counterpoint.families import family_of
from counterpoint.plan.activations import PARTS
from counterpoint.plan.schedule import SCHEDULES
from counterpoint.section.problem import Problem, show


def step_problems(config: Config) -> Iterator[Problem]:
    """Schedule keys without effect, and modules that cannot be run as they say."""
    idle = unreached(config)
    yield from _schedule_problems(config, idle)
    for name, module in config.modules.items():
        if not module.train:
            yield Problem(f"modules.{name}.train", "[]", "all, none or patterns of names", "write none to freeze it")
        if module.init_from is not None:
            yield from _warm_problems(f"modules.{name}.init_from.path", module.init_from.path, config.run.dir)
        yield from _chunk_problems(f"modules.{name}", module)
        yield from _cost_problems(f"modules.{name}.stage_costs", module, config)
        yield from _recompute_problems(f"modules.{name}", module, name not in idle)
    if all(module.train == "none" for module in config.modules.values()):
        yield Problem(
            "modules.*.train", '"none" everywhere', "something to train", "train a module or a pattern of one"
        )


def _schedule_problems(config: Config, idle: tuple[str, ...]) -> Iterator[Problem]:
    schedule, encoders = config.schedule, _encoders(config)
    kind = SCHEDULES[schedule.kind]
    early = [name for name in encoders if name in idle] if schedule.run_ahead else []
    default = ScheduleConfig().model_dump()
    given = {key: value for key, value in schedule.model_dump().items() if value != default[key]}
    for key in ("encoder_group", "encoder", "buffer", "run_ahead"):
        if key in given and not encoders:
            got = show(given[key])
            yield Problem(f"schedule.{key}", got, "an encoder that it is about", "leave it out or add an encoder")
        elif key in ("encoder", "buffer") and key in given and early == encoders:
            expected = "the default, because all encoders run whole steps ahead"
            yield Problem(f"schedule.{key}", show(given[key]), expected, "leave it or schedule.run_ahead out")
    if schedule.encoder_group > schedule.microbatches:
        yield Problem(
            "schedule.encoder_group",
            f"{schedule.encoder_group}",
            f"at most schedule.microbatches, {schedule.microbatches}",
            "lower it",
        )
    if kind.places_encoders and "encoder" in given:
        expected = f"the default, because {schedule.kind} decides when encoders run"
        yield Problem("schedule.encoder", show(schedule.encoder), expected, "leave it out")
    if schedule.buffer is not None and (schedule.encoder == "first" or not kind.has_bounds):
        order = "encoders run first, all" if schedule.encoder == "first" else f"{schedule.kind} keeps all"
        yield Problem("schedule.buffer", f"{schedule.buffer}", f"null, because {order} microbatches", "leave it out")
    if schedule.run_ahead and encoders and not early:
        yield Problem(
            "schedule.run_ahead",
            f"{schedule.run_ahead}",
            "an encoder with train: none that reads nothing trained, because what a gradient reaches cannot",
            f"freeze one (modules.{encoders[0]}.train=none) or leave it out",
        )
    if kind.needs_chunks and all(module.layout.chunks == 1 for module in config.modules.values()):
        remedy = "set modules.*.layout.chunks or take 1f1b"
        yield Problem("schedule.kind", show(schedule.kind), "a module with chunks", remedy)


def _warm_problems(where: str, path: str, run: str) -> Iterator[Problem]:
    """A run that starts over sets its older checkpoints aside; else it resumes from them."""
    if Path(run).resolve() in (Path(path).resolve(), *Path(path).resolve().parents):
        expected = f"a folder outside run.dir, {show(run)}"
        yield Problem(where, show(path), expected, "choose another run.dir, or leave it out to resume that run")


def _chunk_problems(where: str, module: ModuleConfig) -> Iterator[Problem]:
    layout, model = module.layout, module.model
    if layout.chunks > 1 and layout.pp == 1 and model.second_reader is not None:
        reader, remedy = model.second_reader
        yield Problem(
            f"{where}.layout.chunks",
            f"{layout.chunks} with pp 1 and {reader}",
            "1, because both copies of the embedding would stand on one rank",
            f"leave it out, raise pp or {remedy}",
        )


def _cost_problems(where: str, module: ModuleConfig, config: Config) -> Iterator[Problem]:
    """Costs are compared across all stages, so all have them or none has."""
    given, stages = len(module.stage_costs), module.layout.stages
    if given not in (0, stages):
        yield Problem(where, f"{given} stages", f"{stages}, the stages of its layout", "give one entry a stage")
    elif given == 0 and (others := [name for name, other in config.modules.items() if other.stage_costs]):
        expected = f"an entry for each stage, as modules.{others[0]} has"
        yield Problem(where, "[]", expected, "give costs for all modules, or for none")


def _recompute_problems(where: str, module: ModuleConfig, has_backward: bool) -> Iterator[Problem]:
    kinds = module.model.layer_kinds
    why = "features pass no layer" if not kinds else None if has_backward else "no gradient reaches the module"
    if why is not None and module.recompute != "none":
        yield Problem(f"{where}.recompute", show(module.recompute), f"none, because {why}", "leave it out")
    if why is not None and module.offload:
        yield Problem(f"{where}.offload", "true", f"false, because {why}", "leave it out")
    if module.recompute_keeps and not kinds.union(["full"]).intersection(_listed(module)):
        expected = f"nothing, because {where}.recompute names no layers"
        yield Problem(f"{where}.recompute_keeps", show(list(module.recompute_keeps)), expected, "leave it out")
    if not kinds or isinstance(module.recompute, str):
        return
    for number, kind in enumerate(module.recompute):
        if kind not in kinds and kind not in PARTS:
            known = f"a kind of its layers, {', '.join(sorted(kinds))}, or {', '.join(PARTS[:-1])} or {PARTS[-1]}"
            yield Problem(f"{where}.recompute.{number}", show(kind), known, "remove it")


def _listed(module: ModuleConfig) -> tuple[str, ...]:
    return (module.recompute,) if isinstance(module.recompute, str) else module.recompute


def _encoders(config: Config) -> list[str]:
    return [name for name, module in config.modules.items() if not family_of(module.model).reads_documents]
