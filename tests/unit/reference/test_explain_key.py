"""What `counterpoint explain` says of keys, sections, and paths that are none."""

import pytest

from counterpoint.errors import InputError
from counterpoint.reference.explain_key import completions, explain_key
from counterpoint.reference.parts import Part, below, parts


@pytest.fixture(scope="module")
def all_parts() -> tuple[Part, ...]:
    return parts()


@pytest.fixture(autouse=True)
def made_once(monkeypatch: pytest.MonkeyPatch, all_parts: tuple[Part, ...]) -> None:
    """What takes a tenth of a second is made once for all of these tests."""
    monkeypatch.setattr("counterpoint.reference.explain_key.parts", lambda: all_parts)


def test_a_key_has_its_description_type_default_and_unit() -> None:
    assert explain_key("training.global_batch_samples") == (
        "training.global_batch_samples\n"
        "    Samples of an optimizer step over all ranks and microbatches: documents, or packs with\n"
        "    `data.packing`.\n"
        "    type:    integer, 1 to 10,000,000\n"
        "    default: required\n"
        "    unit:    samples"
    )


def test_a_key_is_said_once_for_all_kinds_that_say_the_same() -> None:
    said = explain_key("modules.vision.model.projector.bias").split("\n\n")
    assert [block.splitlines()[0].partition(", of kind ")[2] for block in said] == ["mlp, resampler", "linear"]
    (only,) = explain_key("modules.language.model.kv_heads").split("\n\n")
    assert only.startswith("modules.language.model.kv_heads, of kind decoder\n")
    assert "\n    default: null\n" in only


def test_one_kind_can_be_asked_for() -> None:
    assert explain_key("modules.x.model.projector.bias", "linear").splitlines()[0].endswith(", of kind linear")
    section = explain_key("modules.x.model", "features")
    assert section.startswith("modules.x.model, of kind features: Precomputed features of items")
    assert section.splitlines()[-1].split() == ["width", "integer,", "at", "least", "1;", "required"]
    with pytest.raises(InputError, match=r'--kind: got "vut", expected one of .*; did you mean vit\?'):
        explain_key("modules.x.model", "vut")
    with pytest.raises(InputError, match=r'--kind: got "vit", expected none, because run.seed is of no kind; leave'):
        explain_key("run.seed", "vit")


def test_a_section_lists_its_keys() -> None:
    said = explain_key("modules.*.layout.expert")
    assert "modules.*.layout.expert: The expert view" in said
    assert said.splitlines()[-2:] == [f"    {name:3}  integer, at least 1; default 1" for name in ("ep", "etp")]
    assert [line.split()[0] for line in explain_key().splitlines()[1:4]] == ["schema", "run", "world"]


def test_a_source_is_told_by_its_key() -> None:
    assert "data.train.0, with the key synthetic: " in explain_key("data.train.0")
    assert "\n\ndata.train.0: A split of a folder" in explain_key("data.train.0")
    assert explain_key("data.evaluation.3.synthetic.image_height.median", "lognormal")


WRONG = [
    ("modules.language.model.kv_head", "modules.language.model.kv_heads"),
    ("modules.language.modle", "modules.language.model"),
    ("training.lr", "modules.*.optimizer.lr"),
    ("kv_heads", "modules.*.model.kv_heads"),
    ("data.train.synthetic.documents", "data.train.*.synthetic.documents"),
    ("trainig", "training"),
]


@pytest.mark.parametrize(("path", "meant"), WRONG)
def test_a_wrong_path_is_answered_with_the_nearest(path: str, meant: str) -> None:
    with pytest.raises(InputError) as raised:
        explain_key(path)
    assert str(raised.value) == f'"{path}": got an unknown key, expected one of the config; did you mean {meant}?'


def test_a_key_of_earlier_versions_is_answered_with_the_one_of_today() -> None:
    with pytest.raises(InputError, match=r"^data\.image: got a key of earlier versions, .* modules\.\*\.model\.image$"):
        explain_key("data.image")


def test_what_is_like_no_key_is_answered_all_the_same() -> None:
    with pytest.raises(InputError, match="counterpoint explain lists the sections"):
        explain_key("zzzzzzzz")
    with pytest.raises(InputError, match=r"modules\.\*\.layout\.tp"):
        explain_key("tensor-model-parallel-size")


def test_every_key_of_the_reference_is_explained(all_parts: tuple[Part, ...]) -> None:
    for part in all_parts:
        for key in part.keys:
            said = explain_key(below(part.paths[0], key.name))
            assert f"type:    {key.type.replace('`', '')}" in said


def test_keys_are_completed_up_to_the_next_dot() -> None:
    assert completions("wa") == ["watchdog"]
    assert completions("watchdog.s") == ["watchdog.startup_seconds"]
    assert completions("modules.") == []
    assert completions("modules.language.la") == ["modules.language.layout"]
    assert completions("modules.language.layout.t") == ["modules.language.layout.tp"]
    assert completions("nothing.") == []
