"""What a config.json leaves out is what transformers makes of it."""

import json
from pathlib import Path

import pytest

from counterpoint.convert.composite import LANGUAGE, VISION, composite_of
from counterpoint.convert.defaults import DEFAULTS_FILE, read_defaults
from counterpoint.layers.attention.rope import Llama3Scaling
from tests.unit.judge.defaults_table import table, written
from tests.unit.judge.judge import REASON, quiet

transformers = pytest.importorskip("transformers", reason=REASON)

PUBLISHED = sorted((Path(__file__).parent / "published").glob("*.json"))


def test_the_table_is_what_transformers_resolves() -> None:
    content = read_defaults()
    if content.transformers != transformers.__version__:
        pytest.skip(f"the table is of transformers {content.transformers}, and {transformers.__version__} is installed")
    assert DEFAULTS_FILE.read_text(encoding="utf-8") == written(table())


def test_keys_that_follow_from_others_are_none_that_is_read_as_a_constant() -> None:
    read = {"num_key_value_heads", "head_dim"}
    content = read_defaults()
    for kind, derived in content.derived.items():
        assert all(content.models[kind][key] is None for key in derived), kind
        assert set(derived) - read <= {"layer_types", "sliding_window", "patch_dim"}, kind


def test_a_section_that_is_left_out_is_another_than_an_empty_one() -> None:
    vision = {"model_type": "llava", "text_config": {"model_type": "llama"}}
    absent, empty = composite_of(vision), composite_of({**vision, "vision_config": {}})
    assert [(s.hidden, s.layers, s.patch) for s in (one.modules[VISION].model.section for one in (absent, empty))] == [
        (1024, 23, 14),
        (768, 11, 32),
    ]


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_a_published_file_is_read_as_transformers_fills_it_in(path: Path) -> None:
    quiet()
    content = json.loads(path.read_text())
    kept = {key: value for key, value in content.items() if key != "model_type"}
    filled = transformers.CONFIG_MAPPING[content["model_type"]](**kept).to_json_string(use_diff=False)
    found, expected = composite_of(content), composite_of(json.loads(filled))
    assert {n: m.model for n, m in found.modules.items()} == {n: m.model for n, m in expected.modules.items()}


def test_published_files_have_the_values_of_their_models() -> None:
    read = {path.stem: composite_of(json.loads(path.read_text())).modules for path in PUBLISHED}
    llama, llava, qwen = (
        read[n][LANGUAGE].model.section for n in ("llama3_rope", "llava_defaults_left_out", "qwen2_5_vl_flat")
    )
    assert llama.rope_scaling == Llama3Scaling(
        kind="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_positions=8192
    )
    assert (llava.hidden, llava.heads, llava.ffn, llava.vocab) == (4096, 32, 11008, 32064)
    assert (qwen.rope_sections, qwen.rope_theta, qwen.hidden) == ((16, 24, 24), 1e6, 3584)
    gemma = read["gemma3_27b_text"][LANGUAGE].model.section
    assert (gemma.pattern.count("W"), gemma.pattern.count("*"), gemma.layers["W"].window) == (52, 10, 1024)
    assert (gemma.rope_theta, gemma.rope_scaling.factor, gemma.layers["W"].rope_theta) == (1e6, 8.0, 1e4)
    assert (gemma.score_scale, gemma.embedding_scale, gemma.tied) == (168**-0.5, 5376**0.5, True)
    siglip = read["siglip_sections_empty"][VISION].model.section
    assert (siglip.hidden, siglip.patch, siglip.positions) == (768, 16, 14)
