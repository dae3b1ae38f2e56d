"""Whether a module's model can be what its section says, and be cut as its layout says."""

from collections import Counter
from collections.abc import Iterator

from counterpoint.config.schema import ModuleConfig
from counterpoint.families import family_of
from counterpoint.kinds.cuts import Cuts
from counterpoint.losses import LOSSES
from counterpoint.section.layout import LayoutConfig
from counterpoint.section.problem import Problem


def module_problems(name: str, module: ModuleConfig) -> Iterator[Problem]:
    """What does not divide or does not reach, each with its key."""
    where, family = f"modules.{name}", family_of(module.model)
    yield from _loss_problems(where, module)
    yield from family.problems(where, module.model, module.layout)
    if family.whole:
        yield from _one_stage_problems(where, module.layout, family.fixed, family.whole)
    cuts = family.cuts(module.model)
    yield from _expert_problems(where, module, cuts)
    yield from _tensor_parallel_problems(where, module, cuts)
    if not family.whole:
        yield from _context_parallel_problems(where, module, cuts)
        yield from _stage_problems(where, module)


def _loss_problems(where: str, module: ModuleConfig) -> Iterator[Problem]:
    """Losses of what the module does not make, and kinds that it has twice."""
    reads_documents = family_of(module.model).reads_documents
    for number, section in enumerate(module.losses):
        if LOSSES[section.kind].of_scores != reads_documents:
            able = [name for name, kind in LOSSES.items() if kind.of_scores == reads_documents]
            expected = f"one of {', '.join(able)}" if able else "none"
            made = "scores of words" if reads_documents else "rows of items"
            yield Problem(
                f"{where}.losses.{number}.kind",
                section.kind,
                f"{expected}, because {where} makes {made}",
                "move it to another module or leave it out",
            )
    for kind, count in Counter(section.kind for section in module.losses).items():
        if count > 1:
            yield Problem(f"{where}.losses", f"{count} of kind {kind}", "one", "keep one of them")


def _one_stage_problems(where: str, layout: LayoutConfig, keys: tuple[str, ...], why: str) -> Iterator[Problem]:
    """What a module at `where` that cannot be cut into stages must not have, with the reason."""
    degrees = {"pp": layout.pp, "chunks": layout.chunks, "cp": layout.cp}
    for key in keys:
        if degrees[key] > 1:
            remedy = "leave it out; more ranks are more lanes"
            yield Problem(f"{where}.layout.{key}", f"{degrees[key]}", f"1, because {why}", remedy)
    if layout.split != "even":
        yield Problem(f"{where}.layout.split", f"{list(layout.split)}", f"even, because {why}", "leave it out")


def _expert_problems(where: str, module: ModuleConfig, cuts: Cuts) -> Iterator[Problem]:
    expert = module.layout.expert
    if not cuts.has_experts:
        for key, degree in (("ep", expert.ep), ("etp", expert.etp)):
            if degree > 1:
                yield Problem(
                    f"{where}.layout.expert.{key}",
                    f"{degree}",
                    f"1, because the model of {where} has no layer of experts",
                    "leave the key out",
                )
        return
    for axis, degree, sizes in (("ep", expert.ep, cuts.ep), ("etp", expert.etp, cuts.etp)):
        for key, size in sizes.items():
            if size % degree:
                yield Problem(
                    f"{where}.model.{key}",
                    f"{size}",
                    f"a multiple of {where}.layout.expert.{axis}, {degree}",
                    f"choose an {axis} that divides it or change the model",
                )


def _tensor_parallel_problems(where: str, module: ModuleConfig, cuts: Cuts) -> Iterator[Problem]:
    tp = module.layout.tp
    for key, size in cuts.tp.items():
        if size % tp:
            yield Problem(
                f"{where}.model.{key}",
                f"{size}",
                f"a multiple of {where}.layout.tp, {tp}",
                "choose a tp that divides it or change the model",
            )


def _context_parallel_problems(where: str, module: ModuleConfig, cuts: Cuts) -> Iterator[Problem]:
    layout = module.layout
    for key, heads in cuts.cp.items():
        if heads % layout.tp == 0 and heads // layout.tp % layout.cp:
            yield Problem(
                f"{where}.model.{key}",
                f"{heads}",
                f"a multiple of {where}.layout.tp x cp, {layout.tp} x {layout.cp}",
                "choose a cp that divides the heads of a tensor-parallel rank or change the model",
            )


def _stage_problems(where: str, module: ModuleConfig) -> Iterator[Problem]:
    layout, layers = module.layout, module.model.num_layers
    stages = layout.stages
    if layers < stages:
        yield Problem(
            f"{where}.layout.{'chunks' if layout.chunks > 1 else 'pp'}",
            f"{stages} stages for {layers} layers",
            "at least one layer for every stage",
            f"lower pp to at most {layers} or add layers",
        )
    elif layout.split != "even" and (len(layout.split) != stages or sum(layout.split) != layers):
        yield Problem(
            f"{where}.layout.split",
            f"{list(layout.split)}, {sum(layout.split)} layers in {len(layout.split)} stages",
            f"{layers} layers in {stages} stages",
            "change the list or leave it out for an even split",
        )
