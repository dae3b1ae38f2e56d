"""Faults in what training and the reference would share if the reference packed, decayed or exempted as training does.

Each is planted wherever the package holds the function, so it reaches the reference as well if that ever imports it.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from counterpoint.config.schema import Config
from counterpoint.errors import RunError
from counterpoint.modalities.clips.rows import ClipRows
from counterpoint.modalities.images.rows import lay_images
from counterpoint.modalities.images.spec import ImageIntake
from counterpoint.models.segments import Segments
from counterpoint.optimizers.adamw.update import is_exempt
from counterpoint.optimizers.rates import learning_rate
from counterpoint.setup.data import intakes_of
from counterpoint.setup.plan import Models, models_of
from counterpoint.verify.case import CaseResult, verify_task
from counterpoint.verify.known import Known
from counterpoint.verify.member import Member
from counterpoint.verify.pool import Pool
from tests.parity.layouts import language_only, named_config, override
from tests.parity.speech import speech_config


def _without_the_last_row(images: Any, rows: int, intake: Any) -> Any:
    places = lay_images(images, rows, intake)
    places.coordinates[-1] = 0
    return places


def _without_positions(rows: Any, lane: Any, dtype: Any) -> Any:
    batch = CLIP_BATCH(rows, lane, dtype)
    return replace(batch, positions=batch.positions * 0)


def _documents_as_one(lengths: Any, rows: int, *rest: Any, **more: Any) -> Segments:
    return BUILD([sum(lengths)] if more.get("starts") is None else lengths, rows, *rest, **more)


def _one_update_early(lr: float, schedule: Any, step: int, steps: int) -> float:
    return learning_rate(lr, schedule, step + 1, steps)


def _matrices_too(section: Any, name: str, dims: int) -> bool:
    return dims < 3 or is_exempt(section, name, dims)


def _unmerged_models(config: Config, vocab: int | None) -> Models:
    models = models_of(config, vocab)
    unmerged = models["vision"].section.model_copy(update={"merge": 1})
    return models | {"vision": models["vision"]._replace(section=unmerged)}


def _unmerged_settings(config: Config) -> Any:
    return {
        name: replace(intake, merge=1) for name, intake in intakes_of(config).items() if isinstance(intake, ImageIntake)
    }


BUILD, CLIP_BATCH = Segments.build, ClipRows.batch
FAULTS: dict[str, dict[Callable[..., Any], Callable[..., Any]]] = {
    "a row of an image": {lay_images: _without_the_last_row},
    "positions of a clip": {CLIP_BATCH: _without_positions},
    "documents of a pack": {BUILD: _documents_as_one},
    "learning rate": {learning_rate: _one_update_early},
    "exemption": {is_exempt: _matrices_too},
    "merge": {models_of: _unmerged_models, intakes_of: _unmerged_settings},
}


def _config(fault: str) -> Config:
    config = {
        "a row of an image": lambda: named_config("one_rank"),
        "merge": lambda: named_config("one_rank"),
        "positions of a clip": lambda: speech_config("one_rank"),
    }.get(fault, lambda: language_only({"ranks": [0]}, 1))()
    warming = {"modules.language.optimizer.schedule": {"kind": "linear", "warmup_steps": 5}}
    return override(config, {"data.packing": True, "training.global_batch_samples": 5, **warming})


@pytest.mark.parametrize(
    ("fault", "first"),
    [
        ("a row of an image", "loss differs by"),
        ("positions of a clip", "loss differs by"),
        ("documents of a pack", "loss differs by"),
        ("learning rate", "learning rate differs by 1.0e+00 at step 0: language"),
        ("exemption", "update differs by"),
        ("merge", "by the config"),
    ],
)
def test_a_fault_of_the_trained_side_is_not_one_of_the_reference(pool: Pool, fault: str, first: str) -> None:
    words: str = pool.run(_planted_task, _config(fault), fault)
    assert first in words


def _planted_task(member: Member, config: Config, fault: str) -> str | None:
    """Run a case with a fault on every rank; returns the first that is wrong, or what the reference refuses."""
    member.known = Known()
    with _planted(fault):
        try:
            result: CaseResult | None = verify_task(member, config)
        except RunError as error:
            # The reference is at work when all collectives are through.
            return str(error)
    return None if result is None else str(result.first)


@contextmanager
def _planted(fault: str) -> Iterator[None]:
    changed: list[tuple[Any, str, Any]] = []
    for right, wrong in FAULTS[fault].items():
        if right == BUILD:
            changed.append((Segments, "build", Segments.__dict__["build"]))
            setattr(Segments, "build", staticmethod(wrong))  # noqa: B010
        for name, module in list(sys.modules.items()):
            if name.startswith("counterpoint"):
                classes = [one for one in vars(module).values() if isinstance(one, type) and one.__module__ == name]
                for owner in (module, *classes):
                    for key in [key for key, value in vars(owner).items() if value is right]:
                        changed.append((owner, key, right))
                        setattr(owner, key, wrong)
    try:
        yield
    finally:
        for owner, key, value in changed:
            setattr(owner, key, value)
