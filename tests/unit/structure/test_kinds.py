"""Outside of the folders of kinds hardly anything asks which kind something is."""

import ast
from pathlib import Path

import pytest

from tests.house import ROOT, TWO_FACTS, Sources, declared_twice, questions, written_again

MOST_QUESTIONS = 10


def sources(file: str, text: str) -> Sources:
    """One file beside a section, its dataclass and a layer."""
    twice = "class VitConfig(Section):\n    patch: int\n@dataclass\nclass VitSizes:\n    patch: int\n"
    texts = {
        Path("config/models.py"): twice + "class Moe(nn.Module): ...",
        Path("families/vit/spec.py"): "class Vit: ...",
        Path(file): text,
    }
    return Sources({path: ast.parse(text) for path, text in texts.items()}, {})


@pytest.fixture(scope="module")
def ours() -> Sources:
    """The package's own sources."""
    return Sources.of(ROOT)


def test_questions_are_few(ours: Sources) -> None:
    found = list(questions(ours))
    assert len(found) <= MOST_QUESTIONS, found


def test_fields_are_written_once(ours: Sources) -> None:
    assert written_again(ours) == {}


def test_fields_that_hold_two_facts_are_declared_by_two_classes(ours: Sources) -> None:
    twice = declared_twice(ours)
    assert TWO_FACTS.keys() <= {f"{thing}.{field}" for thing, fields in twice.items() for field in fields}


@pytest.mark.parametrize("question", [
    "isinstance(model, VitConfig)",
    "isinstance(model, int | VitSizes)",
    "isinstance(module, (Moe, list))",
    "isinstance(model, vit.Vit)",
    "schedule.kind == 'gpipe'",
    "kind in ('*', 'M')",
    "item.kind != IMAGE",
    "reads == IMAGES.name",
    "'E' in section.pattern",
    "type(module) is Moe",
    "match model:\n    case VitConfig(): ...",
    "match projector.kind:\n    case 'linear': ...",
])  # fmt: skip
def test_a_question_is_seen(question: str) -> None:
    assert len(list(questions(sources("plan/new.py", question)))) == 1
    assert list(questions(sources("families/vit/model.py", question))) == []


@pytest.mark.parametrize("other", [
    "isinstance(path, str)", "isinstance(layer, nn.Linear)", "failure.kind == 'absent'", "a.kind == b.kind",
    "match action:\n    case Compute(): ...", "isinstance(config, Config)", "'/' in pattern",
])  # fmt: skip
def test_what_asks_for_no_kind_is_none(other: str) -> None:
    assert list(questions(sources("plan/new.py", other))) == []


def test_a_field_of_two_classes_is_written_again() -> None:
    assert {thing: dict(fields) for thing, fields in written_again(sources("a.py", "")).items()} == {
        "Vit": {"patch": 1}
    }
